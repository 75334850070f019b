import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields

from broker.protocol.codec import WILL, decode_properties, encode_properties
from broker.protocol.errors import MalformedPacketError, PeerError, ProtocolError
from broker.protocol.packets import PacketType, Publish, Will
from broker.protocol.properties import NO_PROPERTIES, Properties
from strategies import properties_for

_T = PacketType
_EVERY = {WILL, *PacketType} - {_T.PINGREQ, _T.PINGRESP}
_ANSWERS = {_T.CONNACK, _T.PUBACK, _T.PUBREC, _T.PUBREL, _T.PUBCOMP, _T.SUBACK, _T.UNSUBACK}
_ENDS = {_T.DISCONNECT, _T.AUTH}

# v5 §2.2.2.2, table 2-4: one encoding of each Property, its value, and the packets that may carry it.
_TABLE: list[tuple[str, dict[str, object], set[int]]] = [
    ("01 01", {"payload_format_indicator": 1}, {_T.PUBLISH, WILL}),
    ("02 00 00 01 00", {"message_expiry_interval": 256}, {_T.PUBLISH, WILL}),
    ("03 00 01 74", {"content_type": "t"}, {_T.PUBLISH, WILL}),
    ("08 00 01 72", {"response_topic": "r"}, {_T.PUBLISH, WILL}),
    ("09 00 01 00", {"correlation_data": b"\0"}, {_T.PUBLISH, WILL}),
    ("0B 80 01", {"subscription_identifiers": (128,)}, {_T.PUBLISH, _T.SUBSCRIBE}),
    ("11 FF FF FF FF", {"session_expiry_interval": 2**32 - 1}, {_T.CONNECT, _T.CONNACK, _T.DISCONNECT}),
    ("12 00 01 63", {"assigned_client_identifier": "c"}, {_T.CONNACK}),
    ("13 00 1E", {"server_keep_alive": 30}, {_T.CONNACK}),
    ("15 00 01 6D", {"authentication_method": "m"}, {_T.CONNECT, _T.CONNACK, _T.AUTH}),
    (
        "15 00 01 6D 16 00 01 64",
        {"authentication_method": "m", "authentication_data": b"d"},
        {_T.CONNECT, _T.CONNACK, _T.AUTH},
    ),
    ("17 00", {"request_problem_information": False}, {_T.CONNECT}),
    ("18 00 00 00 05", {"will_delay_interval": 5}, {WILL}),
    ("19 01", {"request_response_information": True}, {_T.CONNECT}),
    ("1A 00 01 69", {"response_information": "i"}, {_T.CONNACK}),
    ("1C 00 01 73", {"server_reference": "s"}, {_T.CONNACK, _T.DISCONNECT}),
    ("1F 00 01 72", {"reason_string": "r"}, _ANSWERS | _ENDS),
    ("21 FF FF", {"receive_maximum": 65_535}, {_T.CONNECT, _T.CONNACK}),
    ("22 00 00", {"topic_alias_maximum": 0}, {_T.CONNECT, _T.CONNACK}),
    ("23 00 01", {"topic_alias": 1}, {_T.PUBLISH}),
    ("24 00", {"maximum_qos": 0}, {_T.CONNACK}),
    ("25 00", {"retain_available": False}, {_T.CONNACK}),
    ("26 00 01 6B 00 00", {"user_properties": (("k", ""),)}, _EVERY),
    ("27 00 00 00 01", {"maximum_packet_size": 1}, {_T.CONNECT, _T.CONNACK}),
    ("28 00", {"wildcard_subscription_available": False}, {_T.CONNACK}),
    ("29 00", {"subscription_identifier_available": False}, {_T.CONNACK}),
    ("2A 01", {"shared_subscription_available": True}, {_T.CONNACK}),
]
_ROWS = pytest.mark.parametrize(
    ("encoded", "values", "carriers"), _TABLE, ids=[list(values)[-1] for _, values, _ in _TABLE]
)


def _block(encoded: str, times: int = 1) -> bytes:
    content = bytes.fromhex(encoded) * times
    return bytes((len(content),)) + content


@_ROWS
def test_each_property_round_trips_in_its_packets(
    encoded: str, values: dict[str, object], carriers: set[int]
) -> None:
    expected = Properties(**values)  # type: ignore[arg-type]  # the table pairs names and types
    block = _block(encoded)
    for carrier in carriers:
        decoded, end = decode_properties(b"?" + block + b"rest", 1, carrier)
        assert decoded == expected
        assert end == 1 + len(block)
        assert encode_properties(expected, carrier) == block
        for name, value in values.items():
            assert type(getattr(decoded, name)) is type(value)


@_ROWS
def test_each_property_is_malformed_in_every_other_packet(
    encoded: str, values: dict[str, object], carriers: set[int]
) -> None:
    for carrier in _EVERY - carriers:
        with pytest.raises(MalformedPacketError):
            decode_properties(_block(encoded), 0, carrier)


@_ROWS
def test_each_property_comes_once_unless_it_may_repeat(
    encoded: str, values: dict[str, object], carriers: set[int]
) -> None:
    for carrier in carriers:
        if values.keys() & {"user_properties", "subscription_identifiers"}:
            decoded, _ = decode_properties(_block(encoded, times=2), 0, carrier)
            assert len(decoded.user_properties + decoded.subscription_identifiers) == 2
        else:
            with pytest.raises(ProtocolError):
                decode_properties(_block(encoded, times=2), 0, carrier)


@_ROWS
def test_each_property_cut_anywhere_is_malformed(
    encoded: str, values: dict[str, object], carriers: set[int]
) -> None:
    last = bytes.fromhex(encoded.removeprefix("15 00 01 6D ") or encoded)
    for end in range(1, len(last)):
        with pytest.raises(MalformedPacketError):
            decode_properties(bytes((end,)) + last[:end], 0, min(carriers))


def test_table_has_every_property() -> None:
    names = {name for _, values, _ in _TABLE for name in values}
    assert names == {field.name for field in fields(Properties)}


def test_identifiers_outside_the_table_are_malformed() -> None:
    known = {bytes.fromhex(encoded)[0] for encoded, _, _ in _TABLE} | {0x16}
    for identifier in set(range(256)) - known:
        for carrier in _EVERY:
            with pytest.raises(MalformedPacketError):
                decode_properties(bytes((2, identifier, 0)), 0, carrier)


@pytest.mark.parametrize("carrier", sorted(_EVERY))
def test_no_properties_are_the_shared_value(carrier: int) -> None:
    assert encode_properties(NO_PROPERTIES, carrier) == b"\0"
    assert encode_properties(Properties(), carrier) == b"\0"
    decoded, end = decode_properties(b"\0", 0, carrier)
    assert decoded is NO_PROPERTIES
    assert end == 1


@pytest.mark.parametrize(("packet", "carrier"), [(Publish, _T.PUBLISH), (Will, WILL)])
@given(data=st.data())
def test_decoding_gives_back_what_was_encoded(packet: type, carrier: int, data: st.DataObject) -> None:
    properties = data.draw(properties_for(packet))
    block = encode_properties(properties, carrier)
    assert decode_properties(block, 0, carrier) == (properties, len(block))


@pytest.mark.parametrize("carrier", sorted(_EVERY))
@given(block=st.binary(max_size=40))
def test_any_bytes_decode_or_are_refused(carrier: int, block: bytes) -> None:
    data = bytes((len(block),)) + block
    try:
        properties, end = decode_properties(data, 0, carrier)
    except PeerError:
        return
    assert end == len(data)
    assert decode_properties(encode_properties(properties, carrier), 0, carrier)[0] == properties
