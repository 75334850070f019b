"""Bytes of one Network Connection to Control Packets, any chunking, several packets per read.

Knows: the fixed header, the plain forms of PUBLISH and its acknowledgements (decoded here, by index
    arithmetic, because they are nearly all traffic), Topic Aliases of the peer.
Does not know: the other packets' bodies (codec), which packet is allowed now (connection).
Spec: v5 §2.1, §3.3, §3.4; v3.1.1 §2.2, §3.3, §3.4.
"""

from collections.abc import Callable, Mapping
from typing import Final

from msgspec.structs import replace

from .codec import check_received_topic_name, decode_packet
from .errors import (
    MalformedPacketError,
    PacketTooLargeError,
    PeerError,
    ProtocolError,
    TopicAliasInvalidError,
)
from .packets import V3_1_1, V5, ControlPacket, PubAck, PubComp, Publish, PubRec, PubRel, TopicName
from .properties import NO_PROPERTIES

#: Topic Names already checked on this connection; forgotten all at once when there are too many.
_KNOWN_TOPICS_MAXIMUM: Final = 4096
#: Longer ones are checked every time: what is remembered for a peer stays below a megabyte.
_KNOWN_TOPIC_BYTES_MAXIMUM: Final = 256

_PUBLISH_QOS_0: Final = 0x30
_PUBLISH_QOS_1: Final = 0x32
_PLAIN_PUBLISHES: Final = (_PUBLISH_QOS_0, _PUBLISH_QOS_1)
_ACKNOWLEDGEMENTS: Final[Mapping[int, Callable[[int], ControlPacket]]] = {
    0x40: PubAck,
    0x50: PubRec,
    0x62: PubRel,
    0x70: PubComp,
}


class PacketStream:
    """Cuts a byte stream into packets and decodes them.

    `version` and `maximum_packet_size` (bytes) may change between two calls of `read`; they hold for
    packets not yet read. What `read` gives equals `codec.decode_packet` of each packet, but for
    `Publish.frame` and resolved Topic Aliases.
    """

    __slots__ = (
        "_aliases",
        "_buffer",
        "_known_topics",
        "_missing",
        "_partial",
        "_position",
        "failure",
        "maximum_packet_size",
        "topic_alias_maximum",
        "version",
    )

    def __init__(self, *, maximum_packet_size: int) -> None:
        self.version = V3_1_1
        self.maximum_packet_size = maximum_packet_size
        self.topic_alias_maximum = 0
        #: Why nothing more will be read; set once, after the good packets before it were given.
        self.failure: PeerError | None = None
        self._buffer = b""
        self._position = 0
        # A packet larger than one read collects here, so that a long one in short reads is no burden.
        self._partial = bytearray()
        self._missing = 0
        self._known_topics: set[bytes] = set()
        self._aliases: dict[int, TopicName] = {}

    def feed(self, data: bytes) -> None:
        """Take in bytes as they came."""
        if self._missing > len(data):
            self._partial += data
            self._missing -= len(data)
        elif self._missing:
            self._buffer = b"".join((self._partial, data))
            self._position = 0
            self._partial = bytearray()
            self._missing = 0
        elif self._position == len(self._buffer):
            self._buffer = data
            self._position = 0
        else:
            self._buffer = self._buffer[self._position :] + data
            self._position = 0

    def read(self, limit: int) -> list[ControlPacket]:
        """Return the next whole packets, at most `limit`; fewer means that more bytes are needed.

        A packet that cannot be read sets `failure` and ends the stream.
        """
        packets: list[ControlPacket] = []
        if self.failure is None:
            try:
                self._read_into(packets, limit)
            except PeerError as error:
                self.failure = error
        return packets

    def _read_into(self, packets: list[ControlPacket], limit: int) -> None:
        data = self._buffer
        end = len(data)
        at = self._position
        version = self.version
        known_topics = self._known_topics
        # One byte says the length, and the packet is within the limit: nearly always.
        plain_length = 0x7F if self.maximum_packet_size > 0x80 else self.maximum_packet_size - 2
        append = packets.append
        while limit and end - at >= 2:
            first = data[at]
            length = data[at + 1]
            body = at + 2
            if length > plain_length:
                header = self._read_length(data, at, end)
                if header is None:
                    break
                length, body = header
            stop = body + length
            if stop > end:
                self._await(data, at, stop - end)
                return
            if first in _PLAIN_PUBLISHES and length > 2:
                rest = body + 2 + (data[body] << 8 | data[body + 1])
                topic = data[body + 2 : rest]
                if first == _PUBLISH_QOS_1:
                    packet_end = rest + 2
                    if (
                        packet_end <= stop
                        and topic
                        and (version == V3_1_1 or (packet_end < stop and not data[packet_end]))
                    ):
                        packet_id = data[rest] << 8 | data[rest + 1]
                        if packet_id:
                            if topic not in known_topics:
                                self._learn(topic)
                            payload = data[packet_end if version == V3_1_1 else packet_end + 1 : stop]
                            append(Publish(TopicName(topic), payload, 1, False, False, packet_id))
                            limit -= 1
                            self._position = at = stop
                            continue
                elif topic and ((rest <= stop) if version == V3_1_1 else (rest < stop and not data[rest])):
                    if topic not in known_topics:
                        self._learn(topic)
                    payload = data[rest if version == V3_1_1 else rest + 1 : stop]
                    append(
                        Publish(TopicName(topic), payload, 0, False, False, 0, NO_PROPERTIES, data[at:stop])
                    )
                    limit -= 1
                    self._position = at = stop
                    continue
            elif length == 2 and first in _ACKNOWLEDGEMENTS:
                packet_id = data[body] << 8 | data[body + 1]
                if packet_id:
                    append(_ACKNOWLEDGEMENTS[first](packet_id))
                    limit -= 1
                    self._position = at = stop
                    continue
            packet = decode_packet(first, data[body:stop], version)
            if type(packet) is Publish:
                packet = self._complete(packet)
            append(packet)
            limit -= 1
            self._position = at = stop
        if limit or at == end:
            # A consumed read may be 256 KiB; an idle connection must not hold on to it.
            self._buffer = data[at:]
            self._position = 0

    def _read_length(self, data: bytes, at: int, end: int) -> tuple[int, int] | None:
        """Return (Remaining Length, where the body starts), or None until the header is whole."""
        length = shift = 0
        body = at + 1
        while True:
            if body == end:
                return None
            byte = data[body]
            body += 1
            length |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 21:
                raise MalformedPacketError("Remaining Length of more than four bytes", spec="v5 §1.5.5")
        if not byte and shift and self.version == V5:  # 3.1.1 has no rule of fewest bytes.
            raise MalformedPacketError("Remaining Length longer than needed", spec="v5 [MQTT-1.5.5-1]")
        if body - at + length > self.maximum_packet_size:
            raise PacketTooLargeError("packet above our Maximum Packet Size", spec="v5 §3.2.2.3.6")
        return length, body

    def _await(self, data: bytes, at: int, missing: int) -> None:
        self._partial += data[at:]
        self._missing = missing
        self._buffer = b""
        self._position = 0

    def _learn(self, topic: bytes) -> None:
        check_received_topic_name(topic)
        if len(topic) > _KNOWN_TOPIC_BYTES_MAXIMUM:
            return
        if len(self._known_topics) >= _KNOWN_TOPICS_MAXIMUM:
            self._known_topics.clear()
        self._known_topics.add(topic)

    def _complete(self, packet: Publish) -> Publish:
        """Resolve the Topic Alias, and refuse what only a Server may send."""
        properties = packet.properties
        if properties.subscription_identifiers:
            raise ProtocolError("Subscription Identifier from a Client", spec="v5 [MQTT-3.3.4-6]")
        alias = properties.topic_alias
        if alias is None:
            return packet
        if not 0 < alias <= self.topic_alias_maximum:
            raise TopicAliasInvalidError("Topic Alias above our maximum", spec="v5 [MQTT-3.3.2-9]")
        if packet.topic:
            self._aliases[alias] = packet.topic
            return replace(packet, properties=replace(properties, topic_alias=None))
        topic = self._aliases.get(alias)
        if topic is None:
            raise ProtocolError("unknown Topic Alias", spec="v5 §3.3.2.3.4")
        return replace(packet, topic=topic, properties=replace(properties, topic_alias=None))
