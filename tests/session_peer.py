"""A Session under test with the Client's end of its connection.

Knows: how a Session is driven, and what its frames say.
Does not know: what it should send.
"""

from broker.protocol.codec import decode_packet
from broker.protocol.connection import Connection
from broker.protocol.packets import (
    V5,
    ClientId,
    ControlPacket,
    TopicName,
)
from broker.session import (
    ApplicationMessage,
    Delivery,
    Journal,
    Session,
    SessionLimits,
    SessionStats,
)

NOW = 100.0
KEY = ("default", ClientId("c"))


def _decode(frames: list[bytes], version: int) -> list[ControlPacket]:
    data = b"".join(frames)
    packets = []
    while data:
        assert data[1] < 0x80, "the tests use short packets only"
        packets.append(decode_packet(data[0], data[2 : 2 + data[1]], version))
        data = data[2 + data[1] :]
    return packets


class Peer:
    """A Session under test with the Client behind it."""

    def __init__(
        self,
        *,
        journal: Journal | None = None,
        in_flight_maximum: int = 10,
        pending_messages_maximum: int = 10,
        pending_bytes_maximum: int = 1000,
    ) -> None:
        self.stats = SessionStats()
        self.dirty: list[Connection] = []
        self.limits = SessionLimits(in_flight_maximum, pending_messages_maximum, pending_bytes_maximum)
        self.session = Session(*KEY, limits=self.limits, stats=self.stats, dirty=self.dirty, journal=journal)
        self.connection: Connection | None = None

    def attach(
        self,
        *,
        version: int = V5,
        receive_maximum: int = 65_535,
        maximum_packet_size: int = 0xFFFFFFFF,
        now: float = NOW,
    ) -> list[ControlPacket]:
        self.connection = Connection(connect_packet_size_maximum=1000, now=now)
        self.connection.version = version
        self.connection.maximum_packet_size = maximum_packet_size
        self.session.attach(self.connection, receive_maximum=receive_maximum, topic_alias_maximum=0, now=now)
        return self.take()

    def deliver(
        self, payload: bytes = b"m", qos: int = 1, *, now: float = NOW, topic: bytes = b"t", **fields: object
    ) -> list[ControlPacket]:
        message = ApplicationMessage(TopicName(topic), payload, qos, **fields)  # type: ignore[arg-type]
        self.session.deliver(Delivery(message, qos), now)
        return self.take()

    def take(self) -> list[ControlPacket]:
        if self.connection is None:
            return []
        assert bool(self.connection.outgoing) == (self.connection in self.dirty)
        packets = _decode(self.connection.outgoing, self.connection.version)
        self.connection.outgoing.clear()
        self.dirty.clear()
        return packets
