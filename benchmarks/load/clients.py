"""Publishers and subscribers that account for every message.

Knows: the payload (run, publisher, sequence number, time), QoS flows of both sides, the closed loop.
Does not know: processes, what starts and ends a phase (worker).
Spec: v3.1.1 §3.3 to §3.9, §4.3.
"""

import select
import ssl
import time
from collections.abc import Sequence
from struct import Struct
from typing import Final

from broker.protocol.codec import encode_packet, encode_publish_head
from broker.protocol.packets import (
    V3_1_1,
    ControlPacket,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    SubscriptionRequest,
    TopicFilter,
)
from broker.protocol.properties import NO_PROPERTIES
from simulators.histogram import Histogram

from .scenarios import BATCH, PAYLOAD_SIZE, WINDOW
from .wire import Client, PeerBrokeError

_IDENTITY: Final = Struct(">II")  # run, publisher
_STAMP: Final = Struct(">QQ")  # sequence number, time sent in nanoseconds
_PAYLOAD: Final = Struct(">IIQQ")
_PACKET_ID: Final = Struct(">H")
_PACKET_ID_MAXIMUM: Final = 0xFFFF
_PUBACK: Final = b"\x40\x02"
_PUBREC: Final = b"\x50\x02"
_PUBREL: Final = b"\x62\x02"
_PUBCOMP: Final = b"\x70\x02"


class Gate:
    """Keeps the loop closed: a bound on messages published and not yet through."""

    __slots__ = ("completed", "limit", "published")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.published = 0
        self.completed = 0

    @property
    def room(self) -> int:
        """How many messages may be published now."""
        return self.limit - self.published + self.completed


class Account:
    """What one subscriber got, exactly: each message once, lost, twice, or late.

    Sequence numbers run on over phases; counts and latency are those since `reset`.
    """

    def __init__(self, run_id: int, *, latency_mask: int) -> None:
        self.reset()
        self._run_id = run_id
        # Latency is taken where no bit of the mask is set in the sequence number.
        self._latency_mask = latency_mask
        self._due: dict[int, int] = {}
        self._missing: set[tuple[int, int]] = set()

    def reset(self) -> None:
        """Begin a phase."""
        self.delivered = 0
        self.duplicates = 0
        self.reordered = 0
        self.foreign = 0
        self.latency = Histogram()

    def count(self, payload: bytes, now_ns: int) -> None:
        """Take one message into account."""
        if len(payload) != PAYLOAD_SIZE:
            self.foreign += 1
            return
        run_id, publisher, sequence, sent_ns = _PAYLOAD.unpack_from(payload)
        if run_id != self._run_id:
            self.foreign += 1
            return
        due = self._due.get(publisher, 0)
        if sequence >= due:
            if sequence > due:
                self._missing.update((publisher, number) for number in range(due, sequence))
            self._due[publisher] = sequence + 1
        elif (publisher, sequence) in self._missing:
            self._missing.discard((publisher, sequence))
            self.reordered += 1
        else:
            self.duplicates += 1
            return
        self.delivered += 1
        if not sequence & self._latency_mask:
            self.latency.add(now_ns - sent_ns)


class Subscriber(Client):
    """Subscribes to one filter, acknowledges, and accounts."""

    def __init__(
        self,
        poller: select.epoll,
        address: tuple[str, int],
        tls: ssl.SSLContext | None,
        client_id: str,
        *,
        topic_filter: bytes,
        qos: int,
        account: Account,
        gate: Gate,
    ) -> None:
        super().__init__(poller, address, tls, client_id)
        self.account = account
        self.gate = gate
        #: Messages of this phase whose QoS flow is over; only those make room for new ones.
        self.completed = 0
        self._request = SubscriptionRequest(TopicFilter(topic_filter), qos)

    def connected(self) -> None:
        """Subscribe."""
        self.send(encode_packet(Subscribe(1, (self._request,)), V3_1_1))

    def begin(self) -> None:
        """Begin a phase."""
        self.account.reset()
        self.completed = 0

    def received(self, packets: Sequence[ControlPacket]) -> None:
        """Account for messages, and acknowledge them in one write."""
        now_ns = time.monotonic_ns()
        account = self.account
        before = account.delivered
        released = 0
        answers: list[bytes] = []
        for packet in packets:
            if type(packet) is Publish:
                account.count(packet.payload, now_ns)
                if packet.qos:
                    head = _PUBACK if packet.qos == 1 else _PUBREC
                    answers.append(head + packet.packet_id.to_bytes(2, "big"))
            elif type(packet) is PubRel:
                released += 1
                answers.append(_PUBCOMP + packet.packet_id.to_bytes(2, "big"))
            elif isinstance(packet, SubAck) and packet.reason_codes == (self._request.qos,):
                self.set_ready()
            else:
                raise PeerBrokeError(f"unexpected {packet}")
        if answers:
            self.send(b"".join(answers))
        else:
            self.acknowledge_read()
        completed = released if self._request.qos == 2 else account.delivered - before
        self.completed += completed
        self.gate.completed += completed


class Publisher(Client):
    """Publishes numbered messages as far as gate, window and socket allow."""

    def __init__(
        self,
        poller: select.epoll,
        address: tuple[str, int],
        tls: ssl.SSLContext | None,
        client_id: str,
        *,
        topic: bytes,
        qos: int,
        number: int,
        run_id: int,
        gate: Gate,
    ) -> None:
        super().__init__(poller, address, tls, client_id)
        self.remaining = 0
        self.unacknowledged: set[int] = set()
        self._qos = qos
        self._gate = gate
        self._sequence = 0
        self._packet_id = 0
        prefix, head = encode_publish_head(topic, PAYLOAD_SIZE, V3_1_1, qos, False, False, NO_PROPERTIES)
        packet_id = bytes(2) if qos else b""
        payload = _IDENTITY.pack(run_id, number).ljust(PAYLOAD_SIZE, b"\0")
        frame = prefix + packet_id + head + payload
        # One batch of frames is kept, and stamped anew for each write.
        self._size = len(frame)
        self._packet_id_at = len(prefix)
        self._stamp_at = len(prefix) + len(packet_id) + len(head) + _IDENTITY.size
        self._frames = bytearray(frame * BATCH)
        self._view = memoryview(self._frames)

    @property
    def is_done(self) -> bool:
        """Whether everything is published, written and acknowledged."""
        return not (self.remaining or self.unacknowledged or self.is_blocked)

    def pump(self) -> bool:
        """Publish at most one batch; says whether it did."""
        count = min(self.remaining, self._gate.room, BATCH)
        if self._qos:
            count = min(count, WINDOW - len(self.unacknowledged))
        if count <= 0 or self.is_blocked:
            return False
        self.publish(count, time.monotonic_ns())
        return True

    def publish(self, count: int, sent_ns: int) -> None:
        """Publish `count` messages in one write, at most BATCH."""
        frames = self._frames
        at = self._stamp_at
        sequence = self._sequence
        for number in range(sequence, sequence + count):
            _STAMP.pack_into(frames, at, number, sent_ns)
            at += self._size
        if self._qos:
            self._assign_packet_ids(count)
        self._sequence = sequence + count
        self.remaining -= count
        self._gate.published += count
        self.send(self._view[: count * self._size])

    def received(self, packets: Sequence[ControlPacket]) -> None:
        """Go on with the QoS flows."""
        answers: list[bytes] = []
        for packet in packets:
            if isinstance(packet, PubRec):
                answers.append(_PUBREL + packet.packet_id.to_bytes(2, "big"))
            elif isinstance(packet, PubAck | PubComp) and packet.packet_id in self.unacknowledged:
                self.unacknowledged.remove(packet.packet_id)
            else:
                raise PeerBrokeError(f"unexpected {packet}")
        if answers:
            self.send(b"".join(answers))

    def _assign_packet_ids(self, count: int) -> None:
        at = self._packet_id_at
        for _ in range(count):
            self._packet_id = self._packet_id % _PACKET_ID_MAXIMUM + 1
            self.unacknowledged.add(self._packet_id)
            _PACKET_ID.pack_into(self._frames, at, self._packet_id)
            at += self._size
