"""One Network Connection as the Client sees it: which packet may come now, and what goes out.

Knows: the connection's state, what the Server announced in its CONNACK, frames waiting to be written.
Does not know: messages on their way (who uses it does), sockets, clocks (`now` is seconds and comes in).
Spec: v5 §3.1, §3.2, §4.13; v3.1.1 §3.1, §3.2, §4.8.
"""

import enum
from collections.abc import Mapping
from typing import Final

from .codec import encode_packet
from .errors import PeerError, ProtocolError
from .packets import (
    ConnAck,
    Connect,
    ControlPacket,
    Disconnect,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    UnsubAck,
)
from .reason_codes import ReasonCode
from .stream import PacketStream

#: v5 §3.2.2.3.3: what a Server allows that does not say.
_RECEIVE_MAXIMUM: Final = 0xFFFF
_MAXIMUM_QOS: Final = 2
_PACKET_SIZE: Final = 0xFFFF_FFFF


class ClientState(enum.Enum):
    """Client side of a Network Connection; it begins with the CONNECT sent."""

    AWAIT_CONNACK = enum.auto()
    CONNECTED = enum.auto()
    CLOSED = enum.auto()


#: Which packets a Server may send in which state (v5 [MQTT-3.2.0-1]). AUTH only answers a Client that
#: asked for enhanced authentication (v5 [MQTT-4.12.0-6]), and this one does not.
LEGAL_PACKETS: Final[Mapping[ClientState, frozenset[type[ControlPacket]]]] = {
    ClientState.AWAIT_CONNACK: frozenset({ConnAck}),
    ClientState.CONNECTED: frozenset(
        {Publish, PubAck, PubRec, PubRel, PubComp, SubAck, UnsubAck, PingResp, Disconnect}
    ),
    ClientState.CLOSED: frozenset(),
}

#: Which packet leads from which state to which; a refusing CONNACK closes instead, and so does `close`.
NEXT_STATES: Final[Mapping[tuple[ClientState, type[ControlPacket]], ClientState]] = {
    (ClientState.AWAIT_CONNACK, ConnAck): ClientState.CONNECTED,
    (ClientState.CONNECTED, Disconnect): ClientState.CLOSED,
}


class ClientConnection:
    """Sans-IO state of one Network Connection, Client role.

    Made with the CONNECT to send, which is the first of `data_to_send`. Feed it with `receive`, take
    packets with `events`. A breach of the protocol shows in `failure` after the good packets before it.

    Args:
        connect: the packet to begin with; no Topic Alias is ever taken, so it should not offer any.
        packet_size_maximum: bytes of the largest packet that is read, told to a v5 Server in `connect`.
        now: seconds.
    """

    def __init__(self, connect: Connect, *, packet_size_maximum: int, now: float) -> None:
        self.state = ClientState.AWAIT_CONNACK
        self.version = connect.version
        self.last_received = now
        #: Encoded packets, in order; emptied in place by `data_to_send`.
        self.outgoing: list[bytes] = [encode_packet(connect, connect.version)]
        #: The Server's limits, from its CONNACK (v5 §3.2.2.3).
        self.receive_maximum = _RECEIVE_MAXIMUM
        self.maximum_packet_size = _PACKET_SIZE
        self.maximum_qos = _MAXIMUM_QOS
        self.is_retain_available = True
        #: Seconds between two packets of ours at most; 0 means that silence is no fault.
        self.keep_alive = connect.keep_alive
        self._stream = PacketStream(maximum_packet_size=packet_size_maximum)
        self._stream.version = connect.version

    @property
    def failure(self) -> PeerError | None:
        """How the Server broke the protocol, if it did; nothing more will be read."""
        return self._stream.failure

    def receive(self, data: bytes, *, now: float) -> None:
        """Take in bytes as they came, in any chunking."""
        self.last_received = now
        self._stream.feed(data)

    def events(self, limit: int = 1 << 30) -> list[ControlPacket]:
        """Return the next packets that are legal in their turn, at most `limit`."""
        taken: list[ControlPacket] = []
        for packet in self._stream.read(limit):
            kind = type(packet)
            if kind not in LEGAL_PACKETS[self.state]:
                if self.state is not ClientState.CLOSED:
                    self._stream.failure = ProtocolError(
                        f"{kind.__name__} while {self.state.name}", spec="v5 [MQTT-3.2.0-1]"
                    )
                break
            if (state := NEXT_STATES.get((self.state, kind))) is not None:
                self.state = state
                if isinstance(packet, ConnAck):
                    self._connected(packet)
            taken.append(packet)
        return taken

    def send(self, packet: ControlPacket) -> bool:
        """Encode a packet into `outgoing`; False when it exceeds the Server's Maximum Packet Size.

        v5 [MQTT-3.2.2-15].
        """
        frame = encode_packet(packet, self.version)
        if len(frame) > self.maximum_packet_size:
            return False
        self.outgoing.append(frame)
        return True

    def ping(self) -> None:
        """Send PINGREQ; due once in every `keep_alive` seconds without another packet (v5 §3.1.2.10)."""
        self.send(PingReq())

    def data_to_send(self) -> bytes:
        """Return everything that waits to be written, and forget it."""
        data = b"".join(self.outgoing)
        self.outgoing.clear()
        return data

    def close(self) -> None:
        """Take nothing more; frames already in `outgoing` may still be written."""
        self.state = ClientState.CLOSED

    def _connected(self, packet: ConnAck) -> None:
        if packet.reason_code is not ReasonCode.SUCCESS:
            self.state = ClientState.CLOSED
            return
        told = packet.properties
        if told.receive_maximum is not None:
            self.receive_maximum = told.receive_maximum
        if told.maximum_packet_size is not None:
            self.maximum_packet_size = told.maximum_packet_size
        if told.maximum_qos is not None:
            self.maximum_qos = told.maximum_qos
        if told.retain_available is not None:
            self.is_retain_available = told.retain_available
        if told.server_keep_alive is not None:
            self.keep_alive = told.server_keep_alive  # v5 [MQTT-3.2.2-21]
