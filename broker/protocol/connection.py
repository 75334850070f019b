"""One Network Connection as the Server sees it: which packet may come now, and what goes out.

Knows: the connection's state, what the peer announced, frames waiting to be written, silence.
Does not know: Sessions, routing, sockets, clocks (`now` is monotonic seconds and comes in).
Spec: v5 §3.1, §4.13; v3.1.1 §3.1, §4.8.
"""

import enum
from collections.abc import Mapping
from typing import Final

from .codec import encode_packet
from .errors import PeerError, ProtocolError, UnsupportedProtocolVersionError
from .packets import (
    V3_1_1,
    V5,
    Auth,
    Connect,
    ControlPacket,
    Disconnect,
    PingReq,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    Subscribe,
    Unsubscribe,
)
from .stream import PacketStream

#: v5 §3.1.2.10: a Client is gone after one and a half Keep Alive periods of silence.
_KEEP_ALIVE_GRACE: Final = 1.5


class ConnectionState(enum.Enum):
    """Server side of a Network Connection."""

    AWAIT_CONNECT = enum.auto()
    AUTHENTICATING = enum.auto()
    CONNECTED = enum.auto()
    CLOSED = enum.auto()


#: Which packets a Client may send in which state (v5 [MQTT-3.1.0-1], [MQTT-3.1.0-2]).
LEGAL_PACKETS: Final[Mapping[ConnectionState, frozenset[type[ControlPacket]]]] = {
    ConnectionState.AWAIT_CONNECT: frozenset({Connect}),
    ConnectionState.AUTHENTICATING: frozenset({Auth, Disconnect}),
    ConnectionState.CONNECTED: frozenset(
        {Publish, PubAck, PubRec, PubRel, PubComp, Subscribe, Unsubscribe, PingReq, Disconnect, Auth}
    ),
    ConnectionState.CLOSED: frozenset(),
}

#: Which state may follow which; CLOSED ends every one.
NEXT_STATES: Final[Mapping[ConnectionState, frozenset[ConnectionState]]] = {
    ConnectionState.AWAIT_CONNECT: frozenset({ConnectionState.AUTHENTICATING, ConnectionState.CLOSED}),
    ConnectionState.AUTHENTICATING: frozenset({ConnectionState.CONNECTED, ConnectionState.CLOSED}),
    ConnectionState.CONNECTED: frozenset({ConnectionState.CLOSED}),
    ConnectionState.CLOSED: frozenset(),
}


class Connection:
    """Sans-IO state of one Network Connection, Server role.

    Feed it with `receive`, take packets with `events`; write what `data_to_send` returns. A breach of
    the protocol shows in `failure` after the good packets before it were taken.
    """

    __slots__ = (
        "_stream",
        "keep_alive",
        "last_received",
        "maximum_packet_size",
        "outgoing",
        "state",
        "version",
    )

    def __init__(self, *, connect_packet_size_maximum: int, now: float) -> None:
        self.state = ConnectionState.AWAIT_CONNECT
        self.version = V3_1_1
        #: Seconds; 0 means that silence is no fault.
        self.keep_alive = 0
        self.last_received = now
        #: The peer's limit in bytes, v5 §3.1.2.11.4.
        self.maximum_packet_size = 0xFFFFFFFF
        #: Encoded packets, or parts of packets, in order; emptied in place by `data_to_send`.
        self.outgoing: list[bytes] = []
        self._stream = PacketStream(maximum_packet_size=connect_packet_size_maximum)

    @property
    def failure(self) -> PeerError | None:
        """How the peer broke the protocol, if it did; nothing more will be read."""
        return self._stream.failure

    def receive(self, data: bytes, *, now: float) -> None:
        """Take in bytes as they came, in any chunking."""
        self.last_received = now
        self._stream.feed(data)

    def events(self, limit: int) -> list[ControlPacket]:
        """Return the next packets that are legal now, at most `limit`.

        Before the CONNECT is answered it gives one at a time, because the answer decides how the
        rest is read.
        """
        state = self.state
        if state is not ConnectionState.CONNECTED:
            if state is ConnectionState.CLOSED:
                return []
            limit = 1
        packets = self._stream.read(limit)
        if state is not ConnectionState.AWAIT_CONNECT and isinstance(
            self._stream.failure, UnsupportedProtocolVersionError
        ):
            # A second CONNECT is wrong whatever it says, and its answer would be a second CONNACK.
            self._refuse("CONNECT")
        if not LEGAL_PACKETS[state].issuperset(map(type, packets)):
            return self._until_illegal(packets)
        return packets

    def _until_illegal(self, packets: list[ControlPacket]) -> list[ControlPacket]:
        legal = LEGAL_PACKETS[self.state]
        index = next(index for index, packet in enumerate(packets) if type(packet) not in legal)
        self._refuse(type(packets[index]).__name__)
        return packets[:index]

    def _refuse(self, name: str) -> None:
        self._stream.failure = ProtocolError(f"{name} while {self.state.name}", spec="v5 [MQTT-3.1.0-1]")

    def handle_connect(self, packet: Connect) -> None:
        """Take over version and limits of the Client's CONNECT; the answer may wait."""
        self._move(ConnectionState.AUTHENTICATING)
        self.version = self._stream.version = packet.version
        self.keep_alive = packet.keep_alive
        if packet.properties.maximum_packet_size is not None:
            self.maximum_packet_size = packet.properties.maximum_packet_size

    def accept(self, *, maximum_packet_size: int, topic_alias_maximum: int) -> None:
        """Move to CONNECTED under the limits that the CONNACK announces."""
        self._move(ConnectionState.CONNECTED)
        self._stream.maximum_packet_size = maximum_packet_size
        self._stream.topic_alias_maximum = topic_alias_maximum if self.version == V5 else 0

    def close(self) -> None:
        """Move to CLOSED; frames already in `outgoing` may still be written."""
        if self.state is not ConnectionState.CLOSED:
            self._move(ConnectionState.CLOSED)

    def send(self, packet: ControlPacket) -> bool:
        """Encode a packet into `outgoing`; False when it exceeds the peer's Maximum Packet Size.

        Not for PUBLISH to Sessions, which share frames. v5 [MQTT-3.1.2-24].
        """
        frame = encode_packet(packet, self.version)
        if len(frame) > self.maximum_packet_size:
            return False
        self.outgoing.append(frame)
        return True

    def data_to_send(self) -> bytes:
        """Return everything that waits to be written, and forget it."""
        outgoing = self.outgoing
        data = outgoing[0] if len(outgoing) == 1 else b"".join(outgoing)
        outgoing.clear()
        return data

    def silent_until(self) -> float | None:
        """Return when silence becomes a Keep Alive timeout (monotonic seconds), None for never."""
        return self.last_received + self.keep_alive * _KEEP_ALIVE_GRACE if self.keep_alive else None

    def _move(self, state: ConnectionState) -> None:
        if state not in NEXT_STATES[self.state]:
            raise ProtocolError(f"{self.state.name} to {state.name}", spec="v5 [MQTT-3.1.0-2]")
        self.state = state
