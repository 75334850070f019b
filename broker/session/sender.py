"""Frames to one Client: where they go, and what they look like to it.

Knows: the connection's `outgoing`, Topic Aliases, the Client's Maximum Packet Size.
Does not know: packet ids and flows (outbound), what waits, sockets, clocks (`now` comes in).
Spec: v5 §3.1.2.11, §3.3.2.3.4; v3.1.1 §3.3.
"""

from ..protocol.connection import Connection
from ..protocol.packets import V3_1_1
from .aliases import OutboundAliases
from .message import Delivery
from .stats import SessionStats


class Sender:
    """Writes to the attached Network Connection, if there is one.

    Everything goes to the connection's `outgoing`; a connection whose `outgoing` was empty is put on
    `dirty`, so that the shell writes it at the end of the turn.
    """

    __slots__ = (
        "_aliases",
        "_dirty",
        "_stats",
        "connection",
        "dropped",
        "is_writable",
        "maximum_packet_size",
        "outgoing",
        "version",
    )

    def __init__(self, *, stats: SessionStats, dirty: list[Connection]) -> None:
        self.connection: Connection | None = None
        self.outgoing: list[bytes] = []
        self.is_writable = False
        self.version = V3_1_1
        self.maximum_packet_size = 0xFFFFFFFF
        #: QoS 1 and 2 deliveries that the Client never gets: they expired, were too large, or too many
        #: waited.
        self.dropped = 0
        self._aliases: OutboundAliases | None = None
        self._stats = stats
        self._dirty = dirty

    @property
    def has_aliases(self) -> bool:
        """Whether its frames may hold Topic Aliases, and so are nobody else's."""
        return self._aliases is not None

    @property
    def frame_needs(self) -> tuple[int, int, bool]:
        """What decides which frames it can share with others; plans depend on it."""
        return self.version, self.maximum_packet_size, self.has_aliases

    def send(self, delivery: Delivery, now: float) -> None:
        """Send a QoS 0 delivery with a frame of its own, if the connection and its limits allow."""
        if not self.is_writable:
            self._stats.unsent += 1
            self._stats.dropped_congested += self.connection is not None
            return
        prefix, suffix = self._parts(delivery, now)
        if len(prefix) + len(suffix) > self.maximum_packet_size:
            self._stats.unsent += 1
            self._stats.dropped_too_large += 1
            return
        self._write(prefix, suffix)

    def _bind(self, connection: Connection, *, topic_alias_maximum: int) -> None:
        self.connection = connection
        self.outgoing = connection.outgoing
        self.version = connection.version
        self.maximum_packet_size = connection.maximum_packet_size
        self.is_writable = True
        self._aliases = OutboundAliases(topic_alias_maximum) if topic_alias_maximum else None

    def _unbind(self) -> None:
        self.connection = None
        self.outgoing = []
        self.is_writable = False
        self._aliases = None

    def _parts(self, delivery: Delivery, now: float) -> tuple[bytes, bytes]:
        if self._aliases is None:
            return delivery.parts(self.version, now)
        topic, alias = self._aliases.choose(delivery.message.topic)
        prefix, suffix = delivery.encode(self.version, now, topic, alias)
        if topic and alias is not None and len(prefix) + len(suffix) + 2 > self.maximum_packet_size:
            self._aliases.retract(topic)  # The Client will not be sent this packet.
        return prefix, suffix

    def _write(self, *parts: bytes) -> None:
        outgoing = self.outgoing
        if not outgoing and self.connection is not None:
            self._dirty.append(self.connection)
        outgoing += parts
