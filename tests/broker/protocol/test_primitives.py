from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.protocol.errors import LocalUsageError, MalformedPacketError
from broker.protocol.primitives import (
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

_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
_TYPES = [
    pytest.param(decode_byte, encode_byte, st.integers(0, 0xFF), id="byte"),
    pytest.param(decode_two_byte_integer, encode_two_byte_integer, st.integers(0, 0xFFFF), id="two"),
    pytest.param(decode_four_byte_integer, encode_four_byte_integer, st.integers(0, 2**32 - 1), id="four"),
    pytest.param(
        decode_variable_byte_integer, encode_variable_byte_integer, st.integers(0, 2**28 - 1), id="variable"
    ),
    pytest.param(decode_binary, encode_binary, st.binary(), id="binary"),
    pytest.param(decode_string, encode_string, _TEXTS, id="string"),
    pytest.param(decode_string_pair, encode_string_pair, st.tuples(_TEXTS, _TEXTS), id="pair"),
]

Decode = Callable[[bytes, int], tuple[Any, int]]
Encode = Callable[[Any], bytes]


@pytest.mark.parametrize(("decode", "encode", "values"), _TYPES)
@given(data=st.data())
def test_decoding_gives_back_what_was_encoded_and_where_it_ends(
    decode: Decode, encode: Encode, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    value = data.draw(values)
    encoded = encode(value)
    assert decode(b"??" + encoded + b"rest", 2) == (value, 2 + len(encoded))


@pytest.mark.parametrize(("decode", "encode", "values"), _TYPES)
@given(data=st.data())
def test_every_shorter_prefix_is_malformed(
    decode: Decode, encode: Encode, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    encoded = encode(data.draw(values))
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(MalformedPacketError):
        decode(encoded[:cut], 0)


@pytest.mark.parametrize("decode", [parameter.values[0] for parameter in _TYPES])
@given(data=st.binary(max_size=12), at=st.integers(0, 13))
def test_any_bytes_decode_or_are_malformed(decode: Decode, data: bytes, at: int) -> None:
    try:
        _, end = decode(data, at)
    except MalformedPacketError:
        return
    assert at < end <= len(data)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (127, "7F"),
        (128, "80 01"),
        (16_383, "FF 7F"),
        (16_384, "80 80 01"),
        (2_097_151, "FF FF 7F"),
        (2_097_152, "80 80 80 01"),
        (268_435_455, "FF FF FF 7F"),
    ],
)
def test_variable_byte_integers_are_those_of_the_table_in_the_specification(value: int, encoded: str) -> None:
    assert encode_variable_byte_integer(value) == bytes.fromhex(encoded)
    assert decode_variable_byte_integer(bytes.fromhex(encoded), 0) == (value, len(encoded.split()))


@pytest.mark.parametrize("encoded", ["80 00", "81 00", "FF FF 80 00", "80 80 80 80 01", "FF FF FF FF 7F"])
def test_overlong_variable_byte_integers_are_malformed(encoded: str) -> None:
    with pytest.raises(MalformedPacketError):
        decode_variable_byte_integer(bytes.fromhex(encoded), 0)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("ED A0 80", id="surrogate U+D800"),
        pytest.param("ED BF BF", id="surrogate U+DFFF"),
        pytest.param("C0 80", id="overlong U+0000"),
        pytest.param("E0 80 AF", id="overlong slash"),
        pytest.param("F4 90 80 80", id="beyond U+10FFFF"),
        pytest.param("61 80", id="lone continuation"),
        pytest.param("E2 82", id="cut inside a character"),
        pytest.param("61 00 62", id="U+0000"),
    ],
)
def test_text_that_the_specification_forbids_is_malformed(text: str) -> None:
    with pytest.raises(MalformedPacketError):
        decode_string(encode_binary(bytes.fromhex(text)), 0)


def test_byte_order_mark_is_kept() -> None:
    assert decode_string(b"\x00\x04\xef\xbb\xbfa", 0) == ("\ufeffa", 6)  # v5 and v3.1.1 [MQTT-1.5.4-3]


def test_string_of_the_specification_decodes() -> None:
    # v5 §1.5.4, figure 1-2: the letter A and U+2A6D4.
    assert decode_string(bytes.fromhex("00 05 41 F0 AA 9B 94"), 0) == ("A\U0002a6d4", 7)


@pytest.mark.parametrize(
    ("encode", "value"),
    [
        (encode_byte, 256),
        (encode_byte, -1),
        (encode_two_byte_integer, 65_536),
        (encode_four_byte_integer, 2**32),
        (encode_variable_byte_integer, 268_435_456),
        (encode_variable_byte_integer, -1),
        (encode_binary, bytes(65_536)),
        (encode_string, "é" * 32_768),
        (encode_string, "a\0b"),
        (encode_string, "\ud800"),
        (encode_string_pair, ("a", "\0")),
    ],
)
def test_values_without_place_on_the_wire_are_our_own_fault(encode: Encode, value: Any) -> None:
    with pytest.raises(LocalUsageError):
        encode(value)


def test_longest_string_fits() -> None:
    assert decode_string(encode_string("a" * 65_535), 0) == ("a" * 65_535, 65_537)
