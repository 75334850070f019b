"""A simulated device: it makes its reported state what the shadow's delta asks for.

Knows: the device's half of the shadow conversation; stale deltas by their version.
Does not know: MQTT packets (client), the engine on the other side.
Spec: AWS IoT device shadow service, simulating a device; v5 §4.3.2.
"""

import json
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from .client import Endpoint, SimulatedClient, Version
from .shadow_values import JsonObject, delta, merge, parse_object, section

_NOT_FOUND: Final = 404


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceState:
    """What a device knows at one moment."""

    reported: JsonObject
    version: int
    deltas_applied: int
    deltas_stale: int
    rejections: int


class SimulatedDevice:
    """A device whose client id is its thing name.

    On every connect it subscribes to deltas and replies, then asks for the shadow, applies what it
    missed, and reports; where there is no shadow yet it reports all it has. A delta that is not
    newer than the last one applied is stale and left alone.

    Args:
        thing_name: thing name and Client Identifier.
        endpoint: server and identity.
        reported: what the device is like at first.
        version: MQTT version.
        reaction_s: how long the hardware takes to follow a delta, in seconds.
        root: first level of the reserved topics.
    """

    def __init__(
        self,
        thing_name: str,
        endpoint: Endpoint,
        *,
        reported: Mapping[str, Any],
        version: Version = "5",
        reaction_s: float = 0.0,
        root: str = "$aws",
    ) -> None:
        self.name = thing_name
        self._prefix = f"{root}/things/{thing_name}/shadow"
        self._reaction_s = reaction_s
        self._lock = threading.Lock()
        self._reported = dict(reported)
        self._wanted: JsonObject = {}
        self._version = 0
        self._applied = self._stale = self._rejections = 0
        self._get_token = ""
        self._reaction: threading.Timer | None = None
        replies = ("update/delta", "get/accepted", "get/rejected", "update/accepted", "update/rejected")
        self._handlers = {
            f"{self._prefix}/{reply}": handler
            for reply, handler in zip(
                replies,
                (
                    self._on_delta,
                    self._on_document,
                    self._on_no_document,
                    self._on_accepted,
                    self._on_rejected,
                ),
                strict=True,
            )
        }
        self._client = SimulatedClient(
            thing_name,
            endpoint,
            topic_filters=tuple(self._handlers),
            on_ready=self._ask,
            on_message=self._receive,
            version=version,
        )

    def start(self) -> None:
        """Connect in the background."""
        self._client.start()

    def stop(self) -> None:
        """Disconnect; may be repeated."""
        with self._lock:
            if self._reaction is not None:
                self._reaction.cancel()
        self._client.stop()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until every subscription is granted; False when the time is over."""
        return self._client.wait_ready(timeout_s)

    @property
    def failure(self) -> str | None:
        """Why the device gave up, or None."""
        return self._client.failure

    def state(self) -> DeviceState:
        """Return what the device knows now."""
        with self._lock:
            return DeviceState(
                reported=dict(self._reported),
                version=self._version,
                deltas_applied=self._applied,
                deltas_stale=self._stale,
                rejections=self._rejections,
            )

    def change(self, patch: Mapping[str, Any]) -> None:
        """Change the device by hand, as somebody at the switch would, and report it."""
        with self._lock:
            self._reported = merge(self._reported, patch)
        self._report(patch)

    def _ask(self) -> None:
        with self._lock:
            self._get_token = uuid.uuid4().hex
        self._publish("get", {})

    def _receive(self, topic: str, payload: bytes) -> None:
        document, handler = parse_object(payload), self._handlers.get(topic)
        if document is not None and handler is not None:
            handler(document)

    def _on_document(self, document: JsonObject) -> None:
        """The answer to the question after a connect says how things stand, whatever was known before."""
        with self._lock:
            if document.get("clientToken") != self._get_token:
                return  # Somebody else asked: replies reach every subscriber.
            self._version = _version_of(document)
            unknown = delta(self._reported, section(document, "state", "reported"))
        if unknown:
            self._report(unknown)
        self._follow(section(document, "state", "delta"))

    def _on_no_document(self, document: JsonObject) -> None:
        with self._lock:
            if document.get("clientToken") != self._get_token or document.get("code") != _NOT_FOUND:
                return
            self._version = 0
            reported = dict(self._reported)
        self._report(reported)

    def _on_delta(self, document: JsonObject) -> None:
        with self._lock:
            if _version_of(document) <= self._version:
                self._stale += 1
                return
            self._version = _version_of(document)
        self._follow(section(document, "state"))

    def _on_accepted(self, document: JsonObject) -> None:
        with self._lock:
            self._version = max(self._version, _version_of(document))

    def _on_rejected(self, _document: JsonObject) -> None:
        with self._lock:
            self._rejections += 1

    def _follow(self, wanted: JsonObject) -> None:
        """Let the hardware follow; what is asked meanwhile joins what is under way."""
        if not wanted:
            return
        with self._lock:
            is_idle = not self._wanted
            self._wanted = merge(self._wanted, wanted)
            if self._reaction_s and is_idle:
                self._reaction = threading.Timer(self._reaction_s, self._react)
                self._reaction.daemon = True
                self._reaction.start()
        if not self._reaction_s:
            self._react()

    def _react(self) -> None:
        with self._lock:
            wanted, self._wanted = self._wanted, {}
            self._reported = merge(self._reported, wanted)
            self._applied += 1
        self._report(wanted)

    def _report(self, reported: Mapping[str, Any]) -> None:
        self._publish("update", {"state": {"reported": reported}})

    def _publish(self, operation: str, body: JsonObject) -> None:
        token = self._get_token if operation == "get" else uuid.uuid4().hex
        self._client.publish(
            f"{self._prefix}/{operation}", json.dumps({**body, "clientToken": token}).encode()
        )


def _version_of(document: Mapping[str, Any]) -> int:
    version = document.get("version")
    return version if isinstance(version, int) else 0
