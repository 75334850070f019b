"""A tap on one Client's packets: what passes in both directions, described without its contents.

Knows: which fields of a packet may be told: never payloads, passwords, Properties.
Does not know: who listens, for how long, how what it tells travels.
Spec: v5 §2.1, §3; v3.1.1 §2.2, §3.
"""

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from ..protocol.codec import decode_packet, encode_packet
from ..protocol.errors import PeerError
from ..protocol.packets import (
    Auth,
    ConnAck,
    Connect,
    ControlPacket,
    Disconnect,
    PacketType,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    TopicName,
    UnsubAck,
    Unsubscribe,
)
from ..protocol.reason_codes import ReasonCode

#: Topic Filters and reason codes of one packet that are told.
_TOLD_MAXIMUM: Final = 8


class PacketNote(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """What may be told of one packet; `packet` is its name, or `closed` for the end of the connection.

    `size_bytes` is that of the whole packet; of one from the Client with Topic Aliases resolved.
    """

    packet: str
    is_from_client: bool
    size_bytes: int = 0
    packet_id: int | None = None
    topic: str | None = None
    topic_filters: tuple[str, ...] = ()
    qos: int | None = None
    is_retain: bool = False
    is_dup: bool = False
    payload_bytes: int | None = None
    reason_codes: tuple[str, ...] = ()
    protocol_version: int | None = None
    keep_alive_s: int | None = None
    is_clean_start: bool | None = None
    detail: str | None = None


class Tap:
    """Tells `listeners` of one Client's packets."""

    __slots__ = ("_aliases", "listeners")

    def __init__(self) -> None:
        self.listeners: list[Callable[[PacketNote], None]] = []
        #: Topic Aliases towards the Client, as far as they were made under our eyes.
        self._aliases: dict[int, TopicName] = {}

    def received(self, packets: Iterable[ControlPacket], version: int) -> None:
        """The Client sent packets."""
        for packet in packets:
            self._tell(describe(packet, len(encode_packet(packet, version)), is_from_client=True))

    def sent(self, data: bytes, version: int) -> None:
        """Whole packets go to the Client."""
        at = 0
        while at < len(data):
            body, length = _header(data, at)
            stop = body + length
            try:
                packet = self._resolved(decode_packet(data[at], data[body:stop], version))
            except PeerError:  # It is our own packet: told as far as it is understood.
                name = PacketType(data[at] >> 4).name
                note = PacketNote(packet=name, is_from_client=False, size_bytes=stop - at)
            else:
                note = describe(packet, stop - at, is_from_client=False)
            self._tell(note)
            at = stop

    def attached(self, packet: Connect) -> None:
        """The Client connected: on a new connection there are no aliases."""
        self._aliases.clear()
        self.received((packet,), packet.version)

    def closed(self, reason_code: ReasonCode, detail: str) -> None:
        """The connection is over."""
        self._tell(
            PacketNote(packet="closed", is_from_client=False, reason_codes=(reason_code.name,), detail=detail)
        )

    def _tell(self, note: PacketNote) -> None:
        for listener in tuple(self.listeners):
            listener(note)

    def _resolved(self, packet: ControlPacket) -> ControlPacket:
        if type(packet) is not Publish or packet.properties.topic_alias is None:
            return packet
        alias = packet.properties.topic_alias
        if packet.topic:
            self._aliases[alias] = packet.topic
            return packet
        return Publish(
            self._aliases.get(alias, packet.topic),
            packet.payload,
            packet.qos,
            packet.is_retain,
            packet.is_dup,
            packet.packet_id,
        )


def describe(packet: ControlPacket, size_bytes: int, *, is_from_client: bool) -> PacketNote:
    """Return what may be told of a packet."""
    name = type(packet).__name__.upper()
    match packet:
        case Publish():
            return PacketNote(
                packet=name,
                is_from_client=is_from_client,
                size_bytes=size_bytes,
                packet_id=packet.packet_id or None,
                topic=packet.topic.decode() or None,
                qos=packet.qos,
                is_retain=packet.is_retain,
                is_dup=packet.is_dup,
                payload_bytes=len(packet.payload),
            )
        case Connect():
            return PacketNote(
                packet=name,
                is_from_client=is_from_client,
                size_bytes=size_bytes,
                protocol_version=packet.version,
                keep_alive_s=packet.keep_alive,
                is_clean_start=packet.is_clean_start,
            )
        case Subscribe():
            filters = [request.topic_filter for request in packet.requests[:_TOLD_MAXIMUM]]
            return PacketNote(
                packet=name,
                is_from_client=is_from_client,
                size_bytes=size_bytes,
                packet_id=packet.packet_id,
                topic_filters=tuple(topic_filter.decode() for topic_filter in filters),
            )
        case Unsubscribe():
            return PacketNote(
                packet=name,
                is_from_client=is_from_client,
                size_bytes=size_bytes,
                packet_id=packet.packet_id,
                topic_filters=tuple(each.decode() for each in packet.topic_filters[:_TOLD_MAXIMUM]),
            )
        case SubAck() | UnsubAck():
            return PacketNote(
                packet=name,
                is_from_client=is_from_client,
                size_bytes=size_bytes,
                packet_id=packet.packet_id,
                reason_codes=tuple(code.name for code in packet.reason_codes[:_TOLD_MAXIMUM]),
            )
        case PubAck() | PubRec() | PubRel() | PubComp():
            return PacketNote(
                packet=name,
                is_from_client=is_from_client,
                size_bytes=size_bytes,
                packet_id=packet.packet_id,
                reason_codes=(packet.reason_code.name,),
            )
        case ConnAck() | Disconnect() | Auth():
            return PacketNote(
                packet=name,
                is_from_client=is_from_client,
                size_bytes=size_bytes,
                reason_codes=(packet.reason_code.name,),
            )
        case _:
            return PacketNote(packet=name, is_from_client=is_from_client, size_bytes=size_bytes)


def _header(data: bytes, at: int) -> tuple[int, int]:
    """Return where the body of the packet at `at` begins, and its length; the packet is whole."""
    length = shift = 0
    body = at + 1
    while True:
        byte = data[body]
        body += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return body, length
        shift += 7
