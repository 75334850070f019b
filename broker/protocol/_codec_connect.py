"""Bytes of the packets that open and close a connection: CONNECT, CONNACK, DISCONNECT, AUTH.

Knows: their layout in both versions, the connect flags, the protocol name and level.
Does not know: who may connect, which Client Identifier is usable.
Spec: v5 §3.1, §3.2, §3.14, §3.15; v3.1.1 §3.1, §3.2, §3.14.
"""

from typing import Final

from ._codec_common import (
    check_end,
    check_received_topic_name,
    decode_reason_code,
    reason_codes,
    with_fixed_header,
)
from ._property_codec import WILL, decode_properties, encode_properties
from .errors import LocalUsageError, MalformedPacketError, ProtocolError, UnsupportedProtocolVersionError
from .packets import V3_1_1, V5, Auth, ClientId, ConnAck, Connect, Disconnect, PacketType, TopicName, Will
from .primitives import (
    decode_binary,
    decode_byte,
    decode_string,
    decode_two_byte_integer,
    encode_binary,
    encode_byte,
    encode_string,
    encode_two_byte_integer,
)
from .properties import NO_PROPERTIES, Properties
from .reason_codes import ReasonCode, connect_return_code

_PROTOCOL_NAME: Final = b"MQTT"
_PROTOCOL_NAME_3_1: Final = b"MQIsdp"

_USER_NAME: Final = 0x80
_PASSWORD: Final = 0x40
_WILL_RETAIN: Final = 0x20
_WILL_QOS: Final = 0x18
_WILL: Final = 0x04
_CLEAN_START: Final = 0x02
_RESERVED: Final = 0x01

_CONNACK_CODES: Final = reason_codes(
    *(0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90),
    *(0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F),
)
#: v3.1.1 §3.2.2.3, in the words of v5.
_RETURN_CODES: Final = {
    0: ReasonCode.SUCCESS,
    1: ReasonCode.UNSUPPORTED_PROTOCOL_VERSION,
    2: ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
    3: ReasonCode.SERVER_UNAVAILABLE,
    4: ReasonCode.BAD_USER_NAME_OR_PASSWORD,
    5: ReasonCode.NOT_AUTHORIZED,
}
#: 0x8C stands in v5 §2.4 as a code of DISCONNECT, though not in §3.14.2.1.
_DISCONNECT_CODES: Final = reason_codes(
    *(0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94),
    *(0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2),
)
_AUTH_CODES: Final = reason_codes(0x00, 0x18, 0x19)


def decode_connect(first_byte: int, body: bytes, version: int) -> Connect:
    """Read a CONNECT, which names its own version (v5 §3.1; v3.1.1 §3.1)."""
    version, at = _decode_version(body)
    flags, at = decode_byte(body, at)
    _check_flags(flags, version)
    keep_alive, at = decode_two_byte_integer(body, at)
    properties = NO_PROPERTIES
    if version == V5:
        properties, at = decode_properties(body, at, PacketType.CONNECT)
    client_id, at = decode_string(body, at)
    will = user_name = password = None
    if flags & _WILL:
        will, at = _decode_will(body, at, flags, version)
    if flags & _USER_NAME:
        user_name, at = decode_string(body, at)
    if flags & _PASSWORD:
        password, at = decode_binary(body, at)
    check_end(body, at)
    return Connect(
        version=version,
        client_id=ClientId(client_id),
        is_clean_start=bool(flags & _CLEAN_START),
        keep_alive=keep_alive,
        will=will,
        user_name=user_name,
        password=password,
        properties=properties,
    )


def encode_connect(connect: Connect, version: int) -> bytes:
    """Write a CONNECT of the version that it names itself (v5 §3.1; v3.1.1 §3.1)."""
    version = connect.version
    if version not in (V3_1_1, V5):
        raise LocalUsageError(f"no protocol level {version}")
    if version == V3_1_1 and connect.password is not None and connect.user_name is None:
        raise LocalUsageError("3.1.1 takes no password without a user name")
    will = connect.will
    flags = _CLEAN_START if connect.is_clean_start else 0
    payload = [encode_string(connect.client_id)]
    if will is not None:
        if not 0 <= will.qos <= 2:
            raise LocalUsageError(f"no QoS {will.qos}")
        flags |= _WILL | will.qos << 3 | (_WILL_RETAIN if will.retain else 0)
        if version == V5:
            payload.append(encode_properties(will.properties, WILL))
        payload += (encode_binary(will.topic), encode_binary(will.payload))
    if connect.user_name is not None:
        flags |= _USER_NAME
        payload.append(encode_string(connect.user_name))
    if connect.password is not None:
        flags |= _PASSWORD
        payload.append(encode_binary(connect.password))
    head = encode_binary(_PROTOCOL_NAME) + bytes((version, flags))
    head += encode_two_byte_integer(connect.keep_alive)
    if version == V5:
        head += encode_properties(connect.properties, PacketType.CONNECT)
    return with_fixed_header(0x10, head + b"".join(payload))


def decode_connack(first_byte: int, body: bytes, version: int) -> ConnAck:
    """Read a CONNACK (v5 §3.2; v3.1.1 §3.2)."""
    flags, at = decode_byte(body, 0)
    if flags > 1:
        raise MalformedPacketError("reserved acknowledge flags", spec="v5 [MQTT-3.2.2-1]; v3.1.1 §3.2.2.1")
    value, at = decode_byte(body, at)
    properties = NO_PROPERTIES
    if version == V5:
        reason_code = decode_reason_code(_CONNACK_CODES, value, "v5 [MQTT-3.2.2-8]")
        properties, at = decode_properties(body, at, PacketType.CONNACK)
    else:
        reason_code = decode_reason_code(_RETURN_CODES, value, "v3.1.1 §3.2.2.3")
    if flags and value:
        raise ProtocolError("Session Present with a refusal", spec="v5 [MQTT-3.2.2-6]; v3.1.1 [MQTT-3.2.2-4]")
    check_end(body, at)
    return ConnAck(flags == 1, reason_code, properties)


def encode_connack(connack: ConnAck, version: int) -> bytes:
    """Write a CONNACK; 3.1.1 gets its Connect Return code (v5 §3.2; v3.1.1 §3.2.2.3)."""
    if version == V5:
        code: int | None = connack.reason_code
        block = encode_properties(connack.properties, PacketType.CONNACK)
    else:
        code = connect_return_code(connack.reason_code)
        block = b""
    if code is None:
        raise LocalUsageError(f"3.1.1 has no return code for {connack.reason_code.name}")
    return with_fixed_header(0x20, bytes((connack.is_session_present, code)) + block)


def decode_disconnect(first_byte: int, body: bytes, version: int) -> Disconnect:
    """Read a DISCONNECT, which may leave out what is usual (v5 §3.14; v3.1.1 §3.14)."""
    if not body:
        return Disconnect()
    if version == V3_1_1:
        raise MalformedPacketError("DISCONNECT with a body", spec="v3.1.1 §3.14.2")
    reason_code = decode_reason_code(_DISCONNECT_CODES, body[0], "v5 [MQTT-3.14.2-1]")
    if len(body) == 1:
        return Disconnect(reason_code)
    properties, at = decode_properties(body, 1, PacketType.DISCONNECT)
    check_end(body, at)
    return Disconnect(reason_code, properties)


def encode_disconnect(disconnect: Disconnect, version: int) -> bytes:
    """Write a DISCONNECT; 3.1.1 has no place for a code (v5 §3.14; v3.1.1 §3.14)."""
    if version == V3_1_1:
        return b"\xe0\x00"
    block = encode_properties(disconnect.properties, PacketType.DISCONNECT)
    if block == b"\x00":
        return with_fixed_header(0xE0, encode_byte(disconnect.reason_code) if disconnect.reason_code else b"")
    return with_fixed_header(0xE0, encode_byte(disconnect.reason_code) + block)


def decode_auth(first_byte: int, body: bytes, version: int) -> Auth:
    """Read an AUTH; only the empty one may lack its method (v5 §3.15)."""
    if version == V3_1_1:
        raise MalformedPacketError("packet type 15 is reserved", spec="v3.1.1 §2.2.1")
    if not body:
        return Auth()
    reason_code = decode_reason_code(_AUTH_CODES, body[0], "v5 [MQTT-3.15.2-1]")
    properties, at = decode_properties(body, 1, PacketType.AUTH)
    check_end(body, at)
    if properties.authentication_method is None:
        raise ProtocolError("AUTH without a method", spec="v5 §3.15.2.2.2")
    return Auth(reason_code, properties)


def encode_auth(auth: Auth, version: int) -> bytes:
    """Write an AUTH (v5 §3.15)."""
    if version == V3_1_1:
        raise LocalUsageError("3.1.1 has no AUTH")
    block = encode_properties(auth.properties, PacketType.AUTH)
    if block == b"\x00" and not auth.reason_code:
        return b"\xf0\x00"
    return with_fixed_header(0xF0, encode_byte(auth.reason_code) + block)


def _decode_version(body: bytes) -> tuple[int, int]:
    name, at = decode_binary(body, 0)
    if name not in (_PROTOCOL_NAME, _PROTOCOL_NAME_3_1):
        raise MalformedPacketError(
            "protocol name is not MQTT", spec="v5 [MQTT-3.1.2-1]; v3.1.1 [MQTT-3.1.2-1]"
        )
    version, at = decode_byte(body, at)
    if name == _PROTOCOL_NAME_3_1 or version not in (V3_1_1, V5):
        raise UnsupportedProtocolVersionError(
            f"protocol level {version}", spec="v5 [MQTT-3.1.2-2]; v3.1.1 [MQTT-3.1.2-2]"
        )
    return version, at


def _check_flags(flags: int, version: int) -> None:
    if flags & _RESERVED:
        raise MalformedPacketError("reserved connect flag", spec="v5 [MQTT-3.1.2-3]; v3.1.1 [MQTT-3.1.2-3]")
    if flags & _WILL_QOS == _WILL_QOS:
        raise MalformedPacketError("Will QoS 3", spec="v5 [MQTT-3.1.2-12]; v3.1.1 [MQTT-3.1.2-14]")
    if not flags & _WILL:
        if flags & _WILL_QOS:
            raise MalformedPacketError(
                "Will QoS without a Will", spec="v5 [MQTT-3.1.2-11]; v3.1.1 [MQTT-3.1.2-13]"
            )
        if flags & _WILL_RETAIN:
            raise MalformedPacketError(
                "Will Retain without a Will", spec="v5 [MQTT-3.1.2-13]; v3.1.1 [MQTT-3.1.2-15]"
            )
    if version == V3_1_1 and flags & _PASSWORD and not flags & _USER_NAME:
        raise MalformedPacketError("password without a user name", spec="v3.1.1 [MQTT-3.1.2-22]")


def _decode_will(body: bytes, at: int, flags: int, version: int) -> tuple[Will, int]:
    properties: Properties = NO_PROPERTIES
    if version == V5:
        properties, at = decode_properties(body, at, WILL)
    topic, at = decode_binary(body, at)
    check_received_topic_name(topic)
    payload, at = decode_binary(body, at)
    will = Will(
        topic=TopicName(topic),
        payload=payload,
        qos=(flags & _WILL_QOS) >> 3,
        retain=bool(flags & _WILL_RETAIN),
        properties=properties,
    )
    return will, at
