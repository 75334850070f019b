"""Bytes of the Properties of MQTT 5.

Knows: identifier, wire type, legal values and carriers of each of the 27 Properties.
Does not know: the rest of the packets; limits that two peers agreed on.
Spec: v5 §2.2.2, and the Properties section of each packet in v5 §3.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, NamedTuple, TypeVar

from msgspec.structs import astuple

from .errors import LocalUsageError, MalformedPacketError, PeerError, ProtocolError, TopicAliasInvalidError
from .packets import PacketType
from .primitives import (
    MAX_VARIABLE_BYTE_INTEGER,
    decode_binary,
    decode_byte,
    decode_four_byte_integer,
    decode_string,
    decode_string_pair,
    decode_two_byte_integer,
    decode_variable_byte_integer,
    encode_binary,
    encode_byte,
    encode_four_byte_integer,
    encode_string,
    encode_string_pair,
    encode_two_byte_integer,
    encode_variable_byte_integer,
)
from .properties import NO_PROPERTIES, Properties

#: The Will carries Properties but is no packet: it takes the number of the reserved packet type.
WILL: Final = 0

ValueT = TypeVar("ValueT")


class _WireType(NamedTuple, Generic[ValueT]):
    decode: Callable[[bytes, int], tuple[ValueT, int]]
    encode: Callable[[ValueT], bytes]


class _Property(NamedTuple):
    identifier: int
    field: str
    wire_type: _WireType[Any]
    carriers: tuple[int, ...]
    spec: str
    #: The numbers that are legal, where the wire type can hold others.
    legal: range | None = None
    is_repeatable: bool = False
    value_error: type[PeerError] = ProtocolError


def _decode_flag(data: bytes, at: int) -> tuple[int, int]:
    """Read a bool; any other byte stays a number, which the row's `legal` refuses."""
    byte, at = decode_byte(data, at)
    return (byte if byte > 1 else byte == 1), at


_BYTE: Final = _WireType(decode_byte, encode_byte)
_FLAG: Final = _WireType(_decode_flag, encode_byte)
_TWO: Final = _WireType(decode_two_byte_integer, encode_two_byte_integer)
_FOUR: Final = _WireType(decode_four_byte_integer, encode_four_byte_integer)
_VARIABLE: Final = _WireType(decode_variable_byte_integer, encode_variable_byte_integer)
_STRING: Final = _WireType(decode_string, encode_string)
_BINARY: Final = _WireType(decode_binary, encode_binary)
_PAIR: Final = _WireType(decode_string_pair, encode_string_pair)

_BIT: Final = range(2)
_SOME_TWO: Final = range(1, 1 << 16)
_SOME_FOUR: Final = range(1, 1 << 32)
_SOME_VARIABLE: Final = range(1, MAX_VARIABLE_BYTE_INTEGER + 1)

_T = PacketType
_MESSAGE: Final = (_T.PUBLISH, WILL)
_HANDSHAKE: Final = (_T.CONNECT, _T.CONNACK)
_AUTHENTICATION: Final = (_T.CONNECT, _T.CONNACK, _T.AUTH)
_ANSWERS: Final = (
    *(_T.CONNACK, _T.PUBACK, _T.PUBREC, _T.PUBREL, _T.PUBCOMP),
    *(_T.SUBACK, _T.UNSUBACK, _T.DISCONNECT, _T.AUTH),
)
_ALL: Final = (*_ANSWERS, _T.CONNECT, WILL, _T.PUBLISH, _T.SUBSCRIBE, _T.UNSUBSCRIBE)

#: In the order of the identifiers, which is the order of the fields of `Properties`.
_TABLE: Final = (
    _Property(0x01, "payload_format_indicator", _BYTE, _MESSAGE, "v5 §3.3.2.3.2", _BIT),
    _Property(0x02, "message_expiry_interval", _FOUR, _MESSAGE, "v5 §3.3.2.3.3"),
    _Property(0x03, "content_type", _STRING, _MESSAGE, "v5 §3.3.2.3.9"),
    _Property(0x08, "response_topic", _STRING, _MESSAGE, "v5 §3.3.2.3.5"),
    _Property(0x09, "correlation_data", _BINARY, _MESSAGE, "v5 §3.3.2.3.6"),
    _Property(
        0x0B,
        "subscription_identifiers",
        _VARIABLE,
        (_T.PUBLISH, _T.SUBSCRIBE),
        "v5 §3.8.2.1.2",
        _SOME_VARIABLE,
        is_repeatable=True,
    ),
    _Property(0x11, "session_expiry_interval", _FOUR, (*_HANDSHAKE, _T.DISCONNECT), "v5 §3.1.2.11.2"),
    _Property(0x12, "assigned_client_identifier", _STRING, (_T.CONNACK,), "v5 §3.2.2.3.7"),
    _Property(0x13, "server_keep_alive", _TWO, (_T.CONNACK,), "v5 §3.2.2.3.14"),
    _Property(0x15, "authentication_method", _STRING, _AUTHENTICATION, "v5 §3.1.2.11.9"),
    _Property(0x16, "authentication_data", _BINARY, _AUTHENTICATION, "v5 §3.1.2.11.10"),
    _Property(0x17, "request_problem_information", _FLAG, (_T.CONNECT,), "v5 §3.1.2.11.7", _BIT),
    _Property(0x18, "will_delay_interval", _FOUR, (WILL,), "v5 §3.1.3.2.2"),
    _Property(0x19, "request_response_information", _FLAG, (_T.CONNECT,), "v5 §3.1.2.11.6", _BIT),
    _Property(0x1A, "response_information", _STRING, (_T.CONNACK,), "v5 §3.2.2.3.15"),
    _Property(0x1C, "server_reference", _STRING, (_T.CONNACK, _T.DISCONNECT), "v5 §3.2.2.3.16"),
    _Property(0x1F, "reason_string", _STRING, _ANSWERS, "v5 §3.2.2.3.9"),
    _Property(0x21, "receive_maximum", _TWO, _HANDSHAKE, "v5 §3.1.2.11.3", _SOME_TWO),
    _Property(0x22, "topic_alias_maximum", _TWO, _HANDSHAKE, "v5 §3.1.2.11.5"),
    _Property(
        0x23,
        "topic_alias",
        _TWO,
        (_T.PUBLISH,),
        "v5 §3.3.2.3.4",
        _SOME_TWO,
        value_error=TopicAliasInvalidError,  # v5 [MQTT-3.3.2-8]
    ),
    _Property(0x24, "maximum_qos", _BYTE, (_T.CONNACK,), "v5 §3.2.2.3.4", _BIT),
    _Property(0x25, "retain_available", _FLAG, (_T.CONNACK,), "v5 §3.2.2.3.5", _BIT),
    _Property(0x26, "user_properties", _PAIR, _ALL, "v5 §3.1.2.11.8", is_repeatable=True),
    _Property(0x27, "maximum_packet_size", _FOUR, _HANDSHAKE, "v5 §3.1.2.11.4", _SOME_FOUR),
    _Property(0x28, "wildcard_subscription_available", _FLAG, (_T.CONNACK,), "v5 §3.2.2.3.11", _BIT),
    _Property(0x29, "subscription_identifier_available", _FLAG, (_T.CONNACK,), "v5 §3.2.2.3.12", _BIT),
    _Property(0x2A, "shared_subscription_available", _FLAG, (_T.CONNACK,), "v5 §3.2.2.3.13", _BIT),
)

_BY_CARRIER: Final[Mapping[int, Mapping[int, _Property]]] = {
    carrier: {row.identifier: row for row in _TABLE if carrier in row.carriers} for carrier in _ALL
}


def decode_properties(data: bytes, at: int, carrier: int) -> tuple[Properties, int]:
    """Read a Property Length and the Properties that it counts.

    Args:
        data: the body of the packet.
        at: position of the Property Length.
        carrier: the PacketType whose Properties these are, or WILL.

    Returns:
        The Properties (NO_PROPERTIES itself where there are none) and the position after them.

    Raises:
        MalformedPacketError: unknown or misplaced identifier, or a length that does not fit.
        ProtocolError: a Property twice, a value that it may not have, data without its method.
        TopicAliasInvalidError: a Topic Alias of 0.

    Spec: v5 §2.2.2.
    """
    length, at = decode_variable_byte_integer(data, at)
    if not length:
        return NO_PROPERTIES, at
    end = at + length
    if end > len(data):
        raise MalformedPacketError("Property Length beyond the packet", spec="v5 §2.2.2.1")
    rows = _BY_CARRIER[carrier]
    found: dict[str, Any] = {}
    while at < end:
        row = rows.get(data[at])
        if row is None:
            raise MalformedPacketError("identifier is no Property of this packet", spec="v5 §2.2.2.2")
        value, at = row.wire_type.decode(data, at + 1)
        if row.legal is not None and value not in row.legal:
            raise row.value_error(f"{row.field} has an illegal value", spec=row.spec)
        if row.is_repeatable:
            found.setdefault(row.field, []).append(value)
        elif row.field in found:
            raise ProtocolError(f"{row.field} comes twice", spec=row.spec)
        else:
            found[row.field] = value
    if at != end:
        raise MalformedPacketError("Property beyond the Property Length", spec="v5 §2.2.2.1")
    for repeatable in ("subscription_identifiers", "user_properties"):
        if repeatable in found:
            found[repeatable] = tuple(found[repeatable])
    properties = Properties(**found)
    _check_together(properties)
    return properties, end


def encode_properties(properties: Properties, carrier: int) -> bytes:
    """Write the Property Length and the Properties, in the order of their identifiers.

    Raises:
        LocalUsageError: a Property that `carrier` cannot have, or a value without place on the wire.

    Spec: v5 §2.2.2 [MQTT-2.2.2-1].
    """
    if properties is NO_PROPERTIES:
        return b"\x00"
    parts = []
    for row, value in zip(_TABLE, astuple(properties), strict=True):
        if value is None or value == ():
            continue
        if carrier not in row.carriers:
            raise LocalUsageError(f"{row.field} does not belong into this packet")
        prefix = row.identifier.to_bytes(1, "big")
        for single in value if row.is_repeatable else (value,):
            if row.legal is not None and single not in row.legal:
                raise LocalUsageError(f"{row.field} cannot be {single}")
            parts.append(prefix + row.wire_type.encode(single))
    block = b"".join(parts)
    return encode_variable_byte_integer(len(block)) + block


def _check_together(properties: Properties) -> None:
    if properties.authentication_data is not None and properties.authentication_method is None:
        raise ProtocolError("authentication_data without its method", spec="v5 §3.1.2.11.10")
    response_topic = properties.response_topic
    if response_topic is not None:
        if not response_topic:
            raise ProtocolError("response_topic is empty", spec="v5 [MQTT-4.7.3-1]")
        if "+" in response_topic or "#" in response_topic:
            raise ProtocolError("response_topic with wildcards", spec="v5 [MQTT-3.3.2-14]")
