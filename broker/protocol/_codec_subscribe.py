"""Bytes of SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK.

Knows: their layout in both versions, the Subscription Options.
Does not know: the grammar of Topic Filters (topics), who may subscribe.
Spec: v5 §3.8 to §3.11; v3.1.1 §3.8 to §3.11.
"""

from typing import Final

from ._codec_common import (
    check_end,
    check_received_topic_filter,
    decode_packet_id,
    decode_reason_code,
    encode_packet_id,
    reason_codes,
    with_fixed_header,
)
from ._property_codec import decode_properties, encode_properties
from .errors import LocalUsageError, MalformedPacketError, ProtocolError
from .packets import (
    V3_1_1,
    V5,
    PacketType,
    SubAck,
    Subscribe,
    SubscriptionRequest,
    TopicFilter,
    UnsubAck,
    Unsubscribe,
)
from .primitives import decode_binary, decode_byte, encode_binary
from .properties import NO_PROPERTIES, Properties
from .reason_codes import SUBACK_FAILURE, ReasonCode

_NO_LOCAL: Final = 0x04
_RETAIN_AS_PUBLISHED: Final = 0x08

_SUBACK_CODES: Final = reason_codes(0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2)
_SUBACK_CODES_3_1_1: Final = reason_codes(0x00, 0x01, 0x02, SUBACK_FAILURE)
_UNSUBACK_CODES: Final = reason_codes(0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91)


def decode_subscribe(first_byte: int, body: bytes, version: int) -> Subscribe:
    """Read a SUBSCRIBE (v5 §3.8; v3.1.1 §3.8)."""
    packet_id, properties, at = _decode_head(body, version, PacketType.SUBSCRIBE)
    if len(properties.subscription_identifiers) > 1:
        raise ProtocolError("subscription_identifiers comes twice", spec="v5 §3.8.2.1.2")
    end = len(body)
    if at == end:
        raise ProtocolError(
            "SUBSCRIBE without a Topic Filter", spec="v5 [MQTT-3.8.3-2]; v3.1.1 [MQTT-3.8.3-3]"
        )
    requests = []
    while at < end:
        topic_filter, at = decode_binary(body, at)
        check_received_topic_filter(topic_filter)
        options, at = decode_byte(body, at)
        if options > 2:
            _check_options(options, topic_filter, version)
        requests.append(
            SubscriptionRequest(
                TopicFilter(topic_filter),
                options & 0x03,
                options & _NO_LOCAL != 0,
                options & _RETAIN_AS_PUBLISHED != 0,
                options >> 4,
            )
        )
    return Subscribe(packet_id, tuple(requests), properties)


def encode_subscribe(subscribe: Subscribe, version: int) -> bytes:
    """Write a SUBSCRIBE; of the options 3.1.1 has the QoS only (v5 §3.8; v3.1.1 §3.8)."""
    if not subscribe.requests:
        raise LocalUsageError("SUBSCRIBE without a Topic Filter")
    parts = [_encode_head(subscribe, version, PacketType.SUBSCRIBE)]
    for request in subscribe.requests:
        if not (0 <= request.qos <= 2 and 0 <= request.retain_handling <= 2):
            raise LocalUsageError(f"no QoS {request.qos} or Retain Handling {request.retain_handling}")
        options = request.qos
        if version == V5:
            options |= request.is_no_local << 2 | request.is_retain_as_published << 3
            options |= request.retain_handling << 4
        parts += (encode_binary(request.topic_filter), bytes((options,)))
    return with_fixed_header(0x82, b"".join(parts))


def decode_suback(first_byte: int, body: bytes, version: int) -> SubAck:
    """Read a SUBACK (v5 §3.9; v3.1.1 §3.9)."""
    packet_id, properties, at = _decode_head(body, version, PacketType.SUBACK)
    if version == V5:
        allowed, spec = _SUBACK_CODES, "v5 [MQTT-3.9.3-2]"
    else:
        allowed, spec = _SUBACK_CODES_3_1_1, "v3.1.1 [MQTT-3.9.3-2]"
    codes = tuple([decode_reason_code(allowed, value, spec) for value in body[at:]])
    if not codes:
        raise ProtocolError("SUBACK without a reason code", spec="v5 [MQTT-3.9.3-1]; v3.1.1 §3.9.3")
    return SubAck(packet_id, codes, properties)


def encode_suback(suback: SubAck, version: int) -> bytes:
    """Write a SUBACK; 3.1.1 knows one failure only (v5 §3.9; v3.1.1 §3.9.3)."""
    codes: tuple[int, ...] = suback.reason_codes
    if not codes:
        raise LocalUsageError("SUBACK without a reason code")
    if version == V3_1_1:
        codes = tuple([min(code, SUBACK_FAILURE) for code in codes])
    return with_fixed_header(0x90, _encode_head(suback, version, PacketType.SUBACK) + bytes(codes))


def decode_unsubscribe(first_byte: int, body: bytes, version: int) -> Unsubscribe:
    """Read an UNSUBSCRIBE (v5 §3.10; v3.1.1 §3.10)."""
    packet_id, properties, at = _decode_head(body, version, PacketType.UNSUBSCRIBE)
    end = len(body)
    if at == end:
        raise ProtocolError(
            "UNSUBSCRIBE without a Topic Filter", spec="v5 [MQTT-3.10.3-2]; v3.1.1 [MQTT-3.10.3-2]"
        )
    topic_filters = []
    while at < end:
        topic_filter, at = decode_binary(body, at)
        check_received_topic_filter(topic_filter)
        topic_filters.append(TopicFilter(topic_filter))
    return Unsubscribe(packet_id, tuple(topic_filters), properties)


def encode_unsubscribe(unsubscribe: Unsubscribe, version: int) -> bytes:
    """Write an UNSUBSCRIBE (v5 §3.10; v3.1.1 §3.10)."""
    if not unsubscribe.topic_filters:
        raise LocalUsageError("UNSUBSCRIBE without a Topic Filter")
    parts = [_encode_head(unsubscribe, version, PacketType.UNSUBSCRIBE)]
    parts += [encode_binary(topic_filter) for topic_filter in unsubscribe.topic_filters]
    return with_fixed_header(0xA2, b"".join(parts))


def decode_unsuback(first_byte: int, body: bytes, version: int) -> UnsubAck:
    """Read an UNSUBACK, which has no codes in 3.1.1 (v5 §3.11; v3.1.1 §3.11)."""
    packet_id, properties, at = _decode_head(body, version, PacketType.UNSUBACK)
    codes: tuple[ReasonCode, ...] = ()
    if version == V3_1_1:
        check_end(body, at)
    else:
        spec = "v5 [MQTT-3.11.3-2]"
        codes = tuple([decode_reason_code(_UNSUBACK_CODES, value, spec) for value in body[at:]])
        if not codes:
            raise ProtocolError("UNSUBACK without a reason code", spec="v5 [MQTT-3.11.3-1]")
    return UnsubAck(packet_id, codes, properties)


def encode_unsuback(unsuback: UnsubAck, version: int) -> bytes:
    """Write an UNSUBACK; the codes are not sent in 3.1.1 (v5 §3.11; v3.1.1 §3.11)."""
    head = _encode_head(unsuback, version, PacketType.UNSUBACK)
    if version == V3_1_1:
        return with_fixed_header(0xB0, head)
    if not unsuback.reason_codes:
        raise LocalUsageError("UNSUBACK without a reason code")
    return with_fixed_header(0xB0, head + bytes(unsuback.reason_codes))


def _decode_head(body: bytes, version: int, carrier: PacketType) -> tuple[int, Properties, int]:
    packet_id, at = decode_packet_id(body, 0)
    if version == V3_1_1:
        return packet_id, NO_PROPERTIES, at
    properties, at = decode_properties(body, at, carrier)
    return packet_id, properties, at


def _encode_head(
    source: Subscribe | SubAck | Unsubscribe | UnsubAck, version: int, carrier: PacketType
) -> bytes:
    packet_id = encode_packet_id(source.packet_id)
    return packet_id if version == V3_1_1 else packet_id + encode_properties(source.properties, carrier)


def _check_options(options: int, topic_filter: bytes, version: int) -> None:
    """Refuse Subscription Options beyond a plain QoS (v5 §3.8.3.1; v3.1.1 §3.8.3)."""
    if version == V3_1_1:
        raise MalformedPacketError("requested QoS is not 0, 1 or 2", spec="v3.1.1 [MQTT-3.8.3-4]")
    if options & 0xC0:
        raise MalformedPacketError("reserved Subscription Options", spec="v5 [MQTT-3.8.3-5]")
    if options & 0x03 == 3:
        raise ProtocolError("Maximum QoS 3", spec="v5 §3.8.3.1")
    if options >> 4 == 3:
        raise ProtocolError("Retain Handling 3", spec="v5 §3.8.3.1")
    if options & _NO_LOCAL and topic_filter.startswith(b"$share/"):
        raise ProtocolError("No Local on a Shared Subscription", spec="v5 [MQTT-3.8.3-4]")
