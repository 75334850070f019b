"""The data representations that every Control Packet is made of.

Knows: integers, strings, binary data and string pairs, as bytes and as values.
Does not know: packets, Properties, topics.
Spec: v5 §1.5; v3.1.1 §1.5, §2.2.3.

Decoders take the data and a position and return the value and the position after it. They raise
MalformedPacketError when the data ends early; encoders raise LocalUsageError for a value that has
no place on the wire.
"""

from typing import Final

from .errors import LocalUsageError, MalformedPacketError

#: The largest Variable Byte Integer, so also the largest Remaining Length (v5 §1.5.5).
MAX_VARIABLE_BYTE_INTEGER: Final = 268_435_455
#: The longest string or binary datum in bytes (v5 §1.5.4, §1.5.6).
MAX_LENGTH: Final = 65_535


def decode_byte(data: bytes, at: int) -> tuple[int, int]:
    """Read one byte (v5 §1.5.1)."""
    try:
        return data[at], at + 1
    except IndexError:
        raise _cut_off("v5 §1.5.1; v3.1.1 §1.5.1") from None


def decode_two_byte_integer(data: bytes, at: int) -> tuple[int, int]:
    """Read a big-endian 16-bit number (v5 §1.5.2; v3.1.1 §1.5.2)."""
    try:
        return data[at] << 8 | data[at + 1], at + 2
    except IndexError:
        raise _cut_off("v5 §1.5.2; v3.1.1 §1.5.2") from None


def decode_four_byte_integer(data: bytes, at: int) -> tuple[int, int]:
    """Read a big-endian 32-bit number (v5 §1.5.3)."""
    end = at + 4
    if end > len(data):
        raise _cut_off("v5 §1.5.3")
    return int.from_bytes(data[at:end], "big"), end


def decode_variable_byte_integer(data: bytes, at: int) -> tuple[int, int]:
    """Read a number 0..268_435_455 of one to four bytes.

    Raises:
        MalformedPacketError: also for a fifth byte, and for more bytes than the number needs.

    Spec: v5 §1.5.5 [MQTT-1.5.5-1]. The Remaining Length of 3.1.1 has no rule of fewest bytes.
    """
    value = 0
    for shift in (0, 7, 14, 21):
        byte, at = decode_byte(data, at)
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:
                raise MalformedPacketError("number longer than needed", spec="v5 [MQTT-1.5.5-1]")
            return value, at
    raise MalformedPacketError("Variable Byte Integer of more than four bytes", spec="v5 §1.5.5")


def decode_binary(data: bytes, at: int) -> tuple[bytes, int]:
    """Read Binary Data: a two-byte length and as many bytes (v5 §1.5.6)."""
    length, start = decode_two_byte_integer(data, at)
    end = start + length
    if end > len(data):
        raise _cut_off("v5 §1.5.6; v3.1.1 §1.5.3")
    return data[start:end], end


def decode_string(data: bytes, at: int) -> tuple[str, int]:
    """Read a UTF-8 Encoded String; a byte order mark stays (v5 §1.5.4; v3.1.1 §1.5.3).

    Raises:
        MalformedPacketError: also for ill-formed UTF-8, surrogates and U+0000.
    """
    encoded, end = decode_binary(data, at)
    return decode_utf8(encoded), end


def decode_utf8(encoded: bytes) -> str:
    """Return the text of a string's bytes; refuses what `decode_string` refuses."""
    try:
        text = encoded.decode()
    except UnicodeDecodeError:
        raise MalformedPacketError(
            "string is not well-formed UTF-8", spec="v5 [MQTT-1.5.4-1]; v3.1.1 [MQTT-1.5.3-1]"
        ) from None
    if "\0" in text:
        raise MalformedPacketError("string holds U+0000", spec="v5 [MQTT-1.5.4-2]; v3.1.1 [MQTT-1.5.3-2]")
    return text


def decode_string_pair(data: bytes, at: int) -> tuple[tuple[str, str], int]:
    """Read a name and a value (v5 §1.5.7)."""
    name, at = decode_string(data, at)
    value, at = decode_string(data, at)
    return (name, value), at


def encode_byte(value: int) -> bytes:
    """Write one byte (v5 §1.5.1)."""
    return _encode_integer(value, 1)


def encode_two_byte_integer(value: int) -> bytes:
    """Write a big-endian 16-bit number (v5 §1.5.2; v3.1.1 §1.5.2)."""
    return _encode_integer(value, 2)


def encode_four_byte_integer(value: int) -> bytes:
    """Write a big-endian 32-bit number (v5 §1.5.3)."""
    return _encode_integer(value, 4)


def encode_variable_byte_integer(value: int) -> bytes:
    """Write a number in the fewest bytes (v5 [MQTT-1.5.5-1]; v3.1.1 §2.2.3)."""
    if not 0 <= value <= MAX_VARIABLE_BYTE_INTEGER:
        raise LocalUsageError(f"{value} is no Variable Byte Integer")
    if value < 0x80:
        return bytes((value,))
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_binary(value: bytes) -> bytes:
    """Write Binary Data (v5 §1.5.6)."""
    if len(value) > MAX_LENGTH:
        raise LocalUsageError(f"{len(value)} bytes where the wire takes {MAX_LENGTH}")
    return len(value).to_bytes(2, "big") + value


def encode_string(value: str) -> bytes:
    """Write a UTF-8 Encoded String (v5 §1.5.4; v3.1.1 §1.5.3)."""
    if "\0" in value:
        raise LocalUsageError("U+0000 in a string for the wire")
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        raise LocalUsageError("surrogate in a string for the wire") from None
    return encode_binary(encoded)


def encode_string_pair(value: tuple[str, str]) -> bytes:
    """Write a name and a value (v5 §1.5.7)."""
    return encode_string(value[0]) + encode_string(value[1])


def _encode_integer(value: int, size: int) -> bytes:
    try:
        return value.to_bytes(size, "big")
    except OverflowError:
        raise LocalUsageError(f"{value} does not fit in {size} bytes") from None


def _cut_off(spec: str) -> MalformedPacketError:
    return MalformedPacketError("packet ends inside a field", spec=spec)
