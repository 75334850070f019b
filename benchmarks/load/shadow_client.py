"""Devices with many named shadows, and devices that read theirs: what the swarm does not do.

Knows: the topics and payloads of one device, its window of unanswered requests.
Does not know: sockets (wire), what the server spends (shadows).
Spec: AWS IoT device shadow service, MQTT topics; v3.1.1 §3.3, §3.4, §3.8.
"""

import select
import time
from collections import Counter
from random import Random
from typing import Final, Literal

from msgspec import Struct

from broker.protocol.codec import encode_packet
from broker.protocol.packets import (
    V3_1_1,
    ControlPacket,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    SubscriptionRequest,
    TopicFilter,
    TopicName,
)
from broker.protocol.reason_codes import ReasonCode

from .wire import Client, PeerBrokeError, TLSFiles

#: Unanswered requests of one connection on one thing that the service takes at a time.
WINDOW: Final = 10
_CONNECTS: Final = 16
_POLL_S: Final = 0.05
_READY_TIMEOUT_S: Final = 60.0
_ANSWER_TIMEOUT_S: Final = 10.0
_PACKET_IDS: Final = 0xFFFF

Operation = Literal["get", "update"]


class Plan(Struct, frozen=True, kw_only=True):
    """What one process does with its devices, each a thing with its certificate.

    With `shadows` each device has so many named ones, otherwise the classic one. `seconds` None updates
    each shadow once, in turn; otherwise shadows are drawn by chance until the time is over.
    """

    address: tuple[str, int]
    devices: list[tuple[str, TLSFiles]]
    operation: Operation
    shadows: int
    fields: int
    seconds: float | None


class Outcome(Struct, frozen=True):
    """What came back; times are monotonic nanoseconds."""

    accepted: int
    rejected: Counter[str]
    begun_ns: int
    ended_ns: int


def run(plan: Plan) -> Outcome:
    """Connect all devices, then keep each one's window full.

    Raises:
        PeerBrokeError: the server closed or refused a connection, or does not answer any more.
    """
    with select.epoll() as poller:
        devices = {}
        try:
            for device in (_Device(poller, plan, name, files) for name, files in plan.devices):
                devices[device.open()] = device
                if len(devices) % _CONNECTS == 0:
                    _serve_until_ready(poller, devices)
            _serve_until_ready(poller, devices)
            return _load(poller, devices, plan)
        finally:
            for device in devices.values():
                device.close()


def _load(poller: select.epoll, devices: "dict[int, _Device]", plan: Plan) -> Outcome:
    begun_ns = heard_ns = time.monotonic_ns()
    for device in devices.values():
        device.is_loaded = True
        device.pump()
    while any(device.unanswered for device in devices.values()):
        for number, mask in poller.poll(_POLL_S):
            devices[number].handle(mask)
            heard_ns = time.monotonic_ns()
        now_ns = time.monotonic_ns()
        if plan.seconds is not None and now_ns - begun_ns > plan.seconds * 1e9:
            for device in devices.values():
                device.is_loaded = False
        if now_ns - heard_ns > _ANSWER_TIMEOUT_S * 1e9:
            raise PeerBrokeError("the server does not answer any more")
    rejected: Counter[str] = Counter()
    for device in devices.values():
        rejected.update(device.rejected)
    accepted = sum(device.accepted for device in devices.values())
    return Outcome(accepted, rejected, begun_ns, time.monotonic_ns())


def _serve_until_ready(poller: select.epoll, devices: "dict[int, _Device]") -> None:
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while not all(device.is_ready for device in devices.values()):
        if time.monotonic() > deadline:
            raise PeerBrokeError("not all devices were ready in time")
        for number, mask in poller.poll(_POLL_S):
            devices[number].handle(mask)


class _Device(Client):
    """A thing: it asks, and counts answers."""

    def __init__(self, poller: select.epoll, plan: Plan, name: str, files: TLSFiles) -> None:
        super().__init__(poller, plan.address, files.context(), name)
        self.is_loaded = False
        self.unanswered = 0
        self.accepted = 0
        self.rejected: Counter[str] = Counter()
        self._plan = plan
        self._prefix = f"$aws/things/{name}/shadow/"
        self._random = Random(name)
        self._number = 0

    def connected(self) -> None:
        """Subscribe to the answers."""
        names = "name/+/" if self._plan.shadows else ""
        requests = tuple(
            SubscriptionRequest(
                TopicFilter(f"{self._prefix}{names}{self._plan.operation}/{answer}".encode()), 1
            )
            for answer in ("accepted", "rejected")
        )
        self.send(encode_packet(Subscribe(1, requests), V3_1_1))

    def pump(self) -> None:
        """Fill the window."""
        frames = []
        while self.is_loaded and self.unanswered < WINDOW:
            self.unanswered += 1
            frames.append(encode_packet(self._request(), V3_1_1))
            if self._plan.seconds is None and self._number == max(1, self._plan.shadows):
                self.is_loaded = False
        if frames:
            self.send(b"".join(frames))

    def received(self, packets: list[ControlPacket]) -> None:  # type: ignore[override]  # as it is called
        """Acknowledge and count."""
        frames = []
        for packet in packets:
            if isinstance(packet, Publish):
                frames.append(encode_packet(PubAck(packet.packet_id), V3_1_1))
                self.unanswered -= 1
                if packet.topic.endswith(b"/accepted"):
                    self.accepted += 1
                else:
                    self.rejected[packet.payload.decode(errors="replace")[:80]] += 1
            elif isinstance(packet, SubAck):
                if any(code >= ReasonCode.UNSPECIFIED_ERROR for code in packet.reason_codes):
                    raise PeerBrokeError(f"{self._client_id}: the server refused a subscription")
                self.set_ready()
        if frames:
            self.send(b"".join(frames))
        self.pump()

    def _request(self) -> Publish:
        plan, number = self._plan, self._number
        self._number += 1
        name = ""
        if plan.shadows:
            shadow = number if plan.seconds is None else self._random.randrange(plan.shadows)
            name = f"name/shadow-{shadow}/"
        topic = TopicName(f"{self._prefix}{name}{plan.operation}".encode())
        payload = b""
        if plan.operation == "update":
            fields = ",".join(
                f'"field-{field}":{self._random.getrandbits(16)}' for field in range(plan.fields)
            )
            payload = f'{{"state":{{"reported":{{{fields}}}}},"clientToken":"{number}"}}'.encode()
        return Publish(topic, payload, 1, packet_id=number % _PACKET_IDS + 1)
