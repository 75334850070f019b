"""What the codecs of all packet families share.

Knows: the fixed header, packet identifiers, reason codes on the wire, topics as they are received.
Does not know: any one packet.
Spec: v5 §2.1, §2.2.1, §2.4; v3.1.1 §2.2, §2.3.1.
"""

from collections.abc import Mapping

from .errors import (
    LocalUsageError,
    MalformedPacketError,
    ProtocolError,
    TopicFilterInvalidError,
    TopicNameInvalidError,
)
from .primitives import decode_two_byte_integer, decode_utf8, encode_variable_byte_integer
from .reason_codes import ReasonCode
from .topics import check_topic_filter, check_topic_name

#: Wire value to reason code, for the codes that one packet may carry.
ReasonCodes = Mapping[int, ReasonCode]


def reason_codes(*codes: int) -> ReasonCodes:
    """Return the table of the codes that one packet may carry."""
    return {code: ReasonCode(code) for code in codes}


def decode_reason_code(allowed: ReasonCodes, value: int, spec: str) -> ReasonCode:
    """Return the reason code of a wire value that this packet may carry."""
    reason_code = allowed.get(value)
    if reason_code is None:
        raise ProtocolError(f"reason code 0x{value:02X} does not belong into this packet", spec=spec)
    return reason_code


def decode_packet_id(body: bytes, at: int) -> tuple[int, int]:
    """Read a Packet Identifier 1..65535 (v5 [MQTT-2.2.1-3]; v3.1.1 [MQTT-2.3.1-1])."""
    packet_id, at = decode_two_byte_integer(body, at)
    if not packet_id:
        raise ProtocolError("packet identifier 0", spec="v5 [MQTT-2.2.1-3]; v3.1.1 [MQTT-2.3.1-1]")
    return packet_id, at


def encode_packet_id(packet_id: int) -> bytes:
    """Write a Packet Identifier 1..65535 (v5 §2.2.1; v3.1.1 §2.3.1)."""
    if not 0 < packet_id <= 65_535:
        raise LocalUsageError(f"{packet_id} is no packet identifier")
    return packet_id.to_bytes(2, "big")


def check_end(body: bytes, at: int) -> None:
    """Refuse bytes after the last field (v5 §2.1.4; v3.1.1 §2.2.3)."""
    if at != len(body):
        raise MalformedPacketError("bytes after the last field", spec="v5 §2.1.4; v3.1.1 §2.2.3")


def check_received_topic_name(topic: bytes) -> None:
    """Accept a Topic Name; ill-formed text is a fault of the packet, not of the name.

    Raises:
        MalformedPacketError: not UTF-8, or with U+0000 (v5 [MQTT-1.5.4-1], [MQTT-1.5.4-2]).
        TopicNameInvalidError: empty, or with wildcards (v5 §4.7).
    """
    try:
        check_topic_name(topic)
    except TopicNameInvalidError:
        decode_utf8(topic)
        raise


def check_received_topic_filter(topic_filter: bytes) -> None:
    """Accept a Topic Filter; ill-formed text is a fault of the packet, not of the filter.

    Raises:
        MalformedPacketError: not UTF-8, or with U+0000 (v5 [MQTT-1.5.4-1], [MQTT-1.5.4-2]).
        TopicFilterInvalidError: empty, or with misplaced wildcards (v5 §4.7).
        ProtocolError: a Shared Subscription without Share Name or filter (v5 §4.8.2).
    """
    try:
        check_topic_filter(topic_filter)
    except TopicFilterInvalidError:
        decode_utf8(topic_filter)
        raise


def with_fixed_header(first_byte: int, body: bytes) -> bytes:
    """Put the fixed header before a body (v5 §2.1.1; v3.1.1 §2.2)."""
    return first_byte.to_bytes(1, "big") + encode_variable_byte_integer(len(body)) + body
