"""A simulated operator: edits desired state and watches what becomes of it.

Knows: the operator's half of the shadow conversation, round-trip times.
Does not know: MQTT packets (client), the devices.
Spec: AWS IoT device shadow service, using shadows in apps.
"""

import json
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from .client import Endpoint, SimulatedClient, Version
from .shadow_values import JsonObject, delta, parse_object, section


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowView:
    """One thing's shadow as the operator sees it; `round_trip_s` from the last edit to no delta."""

    desired: JsonObject
    reported: JsonObject
    delta: JsonObject
    version: int = 0
    round_trip_s: float | None = None


_REJECTIONS_KEPT: Final = 100
_NOTHING: Final = ShadowView(desired={}, reported={}, delta={})


class SimulatedOperator:
    """An operator who sees every thing's shadow documents.

    Args:
        name: Client Identifier.
        endpoint: server and an operator's identity.
        version: MQTT version.
        root: first level of the reserved topics.
    """

    def __init__(self, name: str, endpoint: Endpoint, *, version: Version = "5", root: str = "$aws") -> None:
        self.name = name
        self._things = f"{root}/things"
        self._lock = threading.Lock()
        self._views: dict[str, ShadowView] = {}
        self._edits: dict[str, tuple[str, float]] = {}  # thing -> token and time of the last edit
        self._rejections: deque[str] = deque(maxlen=_REJECTIONS_KEPT)
        self._client = SimulatedClient(
            name,
            endpoint,
            topic_filters=(
                f"{self._things}/+/shadow/update/documents",
                f"{self._things}/+/shadow/update/rejected",
            ),
            on_ready=lambda: None,
            on_message=self._receive,
            version=version,
            is_clean_start=True,
        )

    def start(self) -> None:
        """Connect in the background."""
        self._client.start()

    def stop(self) -> None:
        """Disconnect; may be repeated."""
        self._client.stop()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until every subscription is granted; False when the time is over."""
        return self._client.wait_ready(timeout_s)

    @property
    def failure(self) -> str | None:
        """Why the operator gave up, or None."""
        return self._client.failure

    @property
    def rejections(self) -> tuple[str, ...]:
        """What the shadows refused, as sentences."""
        with self._lock:
            return tuple(self._rejections)

    def edit(self, thing_name: str, desired: Mapping[str, Any]) -> None:
        """Ask a thing to become as `desired` says; keys that are left out stay."""
        token = uuid.uuid4().hex
        with self._lock:
            self._edits[thing_name] = (token, time.monotonic())
            self._views[thing_name] = replace(self._views.get(thing_name, _NOTHING), round_trip_s=None)
        body = {"state": {"desired": desired}, "clientToken": token}
        self._client.publish(f"{self._things}/{thing_name}/shadow/update", json.dumps(body).encode())

    def view(self, thing_name: str) -> ShadowView:
        """Return the thing's shadow as last seen."""
        with self._lock:
            return self._views.get(thing_name, _NOTHING)

    def has_converged(self, thing_name: str) -> bool:
        """Whether the thing reported all that the last edit asked for."""
        with self._lock:
            return thing_name not in self._edits and not self._views.get(thing_name, _NOTHING).delta

    def _receive(self, topic: str, payload: bytes) -> None:
        document = parse_object(payload)
        if document is None:
            return
        thing_name = topic.removeprefix(f"{self._things}/").partition("/")[0]
        if topic.endswith("/rejected"):
            with self._lock:
                self._rejections.append(f"{thing_name}: {document.get('code')} {document.get('message')}")
            return
        self._see(thing_name, section(document, "current"), document.get("clientToken"))

    def _see(self, thing_name: str, current: JsonObject, token: object) -> None:
        version = current.get("version")
        with self._lock:
            before = self._views.get(thing_name, _NOTHING)
            if not isinstance(version, int) or version <= before.version:
                return
            desired, reported = section(current, "state", "desired"), section(current, "state", "reported")
            view = replace(
                before,
                desired=desired,
                reported=reported,
                delta=delta(desired, reported),
                version=version,
            )
            self._views[thing_name] = self._settle(thing_name, view, token)

    def _settle(self, thing_name: str, view: ShadowView, token: object) -> ShadowView:
        """Close the last edit once its document was seen and nothing is missing any more."""
        edit = self._edits.get(thing_name)
        if edit is None:
            return view
        expected, edited_at = edit
        if token == expected:
            expected = ""
            self._edits[thing_name] = (expected, edited_at)
        if expected or view.delta:
            return view
        del self._edits[thing_name]
        return replace(view, round_trip_s=time.monotonic() - edited_at)
