"""Bytes of PUBLISH and its four acknowledgements.

Knows: their layout in both versions, and how one encoding of a message serves many receivers.
Does not know: who receives, packet identifiers in use, what a Topic Alias stands for.
Spec: v5 §3.3 to §3.7; v3.1.1 §3.3 to §3.7.
"""

from collections.abc import Callable
from struct import Struct
from typing import Final, TypeVar

from ._codec_common import (
    ReasonCodes,
    check_end,
    check_received_topic_name,
    decode_packet_id,
    decode_reason_code,
    encode_packet_id,
    reason_codes,
    with_fixed_header,
)
from ._property_codec import decode_properties, encode_properties
from .errors import LocalUsageError, MalformedPacketError, ProtocolError
from .packets import V3_1_1, V5, PacketType, PubAck, PubComp, Publish, PubRec, PubRel, TopicName
from .primitives import MAX_LENGTH, decode_binary, encode_byte, encode_variable_byte_integer
from .properties import NO_PROPERTIES, Properties

Acknowledgement = PubAck | PubRec | PubRel | PubComp
AcknowledgementT = TypeVar("AcknowledgementT", PubAck, PubRec, PubRel, PubComp)

_RECEIVED_CODES: Final = reason_codes(0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99)
_RELEASED_CODES: Final = reason_codes(0x00, 0x92)

_FIRST_BYTES: Final = {PubAck: 0x40, PubRec: 0x50, PubRel: 0x62, PubComp: 0x70}

# First byte, Remaining Length of one or two bytes, length of the Topic Name.
_SHORT_HEAD: Final = Struct(">BBH").pack
_MEDIUM_HEAD: Final = Struct(">BBBH").pack


def decode_publish(first_byte: int, body: bytes, version: int) -> Publish:
    """Read a PUBLISH (v5 §3.3; v3.1.1 §3.3)."""
    qos = first_byte >> 1 & 3
    is_dup = first_byte & 0x08 != 0
    if qos == 3:
        raise MalformedPacketError("QoS 3", spec="v5 [MQTT-3.3.1-4]; v3.1.1 [MQTT-3.3.1-4]")
    if is_dup and not qos:
        raise MalformedPacketError("DUP at QoS 0", spec="v5 [MQTT-3.3.1-2]; v3.1.1 [MQTT-3.3.1-2]")
    topic, at = decode_binary(body, 0)
    packet_id = 0
    if qos:
        packet_id, at = decode_packet_id(body, at)
    properties = NO_PROPERTIES
    if version == V5:
        properties, at = decode_properties(body, at, PacketType.PUBLISH)
    if topic or version == V3_1_1:
        check_received_topic_name(topic)
    elif properties.topic_alias is None:
        raise ProtocolError("neither Topic Name nor Topic Alias", spec="v5 §3.3.2.3.4")
    return Publish(TopicName(topic), body[at:], qos, first_byte & 0x01 != 0, is_dup, packet_id, properties)


def encode_publish(publish: Publish, version: int) -> bytes:
    """Write a PUBLISH; `frame` is not looked at (v5 §3.3; v3.1.1 §3.3)."""
    qos = publish.qos
    prefix, suffix_head = encode_publish_head(
        publish.topic,
        len(publish.payload),
        version,
        qos,
        publish.is_retain,
        publish.is_dup,
        publish.properties,
    )
    packet_id = encode_packet_id(publish.packet_id) if qos else b""
    return b"".join((prefix, packet_id, suffix_head, publish.payload))


def encode_publish_head(
    topic: bytes,
    payload_length: int,
    version: int,
    qos: int,
    is_retain: bool,
    is_dup: bool,
    properties: Properties,
) -> tuple[bytes, bytes]:
    """Write what receivers with equal needs share of a PUBLISH.

    The whole packet is `prefix + packet_id + suffix_head + payload`, where `packet_id` is two
    bytes at QoS 1 and 2, and nothing at QoS 0.

    Returns:
        (prefix, suffix_head): the bytes before the packet identifier, and those between it and the
        payload: the Property block, nothing in 3.1.1.

    Raises:
        LocalUsageError: topic or packet too long, no such QoS, a Property that PUBLISH cannot have.

    Spec: v5 §3.3; v3.1.1 §3.3.
    """
    topic_length = len(topic)
    if topic_length > MAX_LENGTH or not 0 <= qos <= 2:
        raise LocalUsageError(f"topic of {topic_length} bytes at QoS {qos}")
    if version == V3_1_1:
        suffix_head = b""
    elif properties is NO_PROPERTIES:
        suffix_head = b"\x00"
    else:
        suffix_head = encode_properties(properties, PacketType.PUBLISH)
    first_byte = 0x30 | is_dup << 3 | qos << 1 | is_retain
    remaining = 2 + topic_length + len(suffix_head) + payload_length
    if qos:
        remaining += 2
    if remaining < 0x80:
        head = _SHORT_HEAD(first_byte, remaining, topic_length)
    elif remaining < 0x4000:
        head = _MEDIUM_HEAD(first_byte, remaining & 0x7F | 0x80, remaining >> 7, topic_length)
    else:
        length = encode_variable_byte_integer(remaining)
        head = b"%c%b%b" % (first_byte, length, topic_length.to_bytes(2, "big"))
    return head + topic, suffix_head


def _decoder(
    acknowledgement: type[AcknowledgementT], packet_type: PacketType, allowed: ReasonCodes, spec: str
) -> Callable[[int, bytes, int], AcknowledgementT]:
    def decode(first_byte: int, body: bytes, version: int) -> AcknowledgementT:
        length = len(body)
        if length == 2:
            packet_id = body[0] << 8 | body[1]
            if packet_id:
                return acknowledgement(packet_id)
        packet_id, at = decode_packet_id(body, 0)
        if version == V3_1_1:
            check_end(body, at)
        reason_code = decode_reason_code(allowed, body[2], spec)
        if length == 3:
            return acknowledgement(packet_id, reason_code)
        properties, at = decode_properties(body, 3, packet_type)
        check_end(body, at)
        return acknowledgement(packet_id, reason_code, properties)

    return decode


decode_puback: Final = _decoder(PubAck, PacketType.PUBACK, _RECEIVED_CODES, "v5 [MQTT-3.4.2-1]")
decode_pubrec: Final = _decoder(PubRec, PacketType.PUBREC, _RECEIVED_CODES, "v5 [MQTT-3.5.2-1]")
decode_pubrel: Final = _decoder(PubRel, PacketType.PUBREL, _RELEASED_CODES, "v5 [MQTT-3.6.2-1]")
decode_pubcomp: Final = _decoder(PubComp, PacketType.PUBCOMP, _RELEASED_CODES, "v5 [MQTT-3.7.2-1]")


def encode_acknowledgement(acknowledgement: Acknowledgement, version: int) -> bytes:
    """Write a PUBACK, PUBREC, PUBREL or PUBCOMP in its shortest form.

    3.1.1 has no place for the reason code and the Properties (v5 §3.4 to §3.7; v3.1.1 the same).
    """
    first_byte = _FIRST_BYTES[type(acknowledgement)]
    body = encode_packet_id(acknowledgement.packet_id)
    if version == V5:
        block = encode_properties(acknowledgement.properties, first_byte >> 4)
        if block != b"\x00":
            body += encode_byte(acknowledgement.reason_code) + block
        elif acknowledgement.reason_code:
            body += encode_byte(acknowledgement.reason_code)
    return with_fixed_header(first_byte, body)
