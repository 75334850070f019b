import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.protocol import errors, packets
from broker.protocol.codec import decode_packet, encode_packet, encode_publish_head
from broker.protocol.errors import LocalUsageError, PeerError
from broker.protocol.packets import (
    V3_1_1,
    V5,
    Auth,
    ClientId,
    ConnAck,
    Connect,
    ControlPacket,
    Disconnect,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    SubscriptionRequest,
    TopicFilter,
    TopicName,
    UnsubAck,
    Unsubscribe,
    Will,
)
from broker.protocol.primitives import decode_variable_byte_integer
from broker.protocol.properties import NO_PROPERTIES, Properties
from broker.protocol.reason_codes import ReasonCode
from strategies import control_packets, publishes

_VERSIONS = pytest.mark.parametrize("version", [V3_1_1, V5])
_VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "packets.json").read_text())
_BYTES = {"topic", "payload", "password", "topic_filter", "correlation_data", "authentication_data"}


def _rows(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("row", "version"),
        [
            pytest.param(row, version, id=f"{row['id']}-{version}")
            for row in _VECTORS
            if kind in row
            for version in row["versions"]
        ],
    )


def _value(name: str, written: Any) -> Any:
    """Turn one field of a vector, as JSON has it, into the field of the packet."""
    if name in _BYTES:
        return bytes.fromhex(written[4:]) if written.startswith("hex:") else written.encode()
    if name == "topic_filters":
        return tuple(item.encode() for item in written)
    if name == "reason_code":
        return ReasonCode[written]
    if name == "reason_codes":
        return tuple(ReasonCode[item] for item in written)
    if name == "properties":
        return Properties(**_values(written))
    if name == "will":
        return Will(**_values(written))
    if name == "requests":
        return tuple(SubscriptionRequest(**_values(item)) for item in written)
    if name == "user_properties":
        return tuple(tuple(pair) for pair in written)
    return tuple(written) if isinstance(written, list) else written


def _values(written: dict[str, Any]) -> dict[str, Any]:
    return {name: _value(name, item) for name, item in written.items()}


def _packet(written: dict[str, Any]) -> ControlPacket:
    fields = dict(written)
    packet: ControlPacket = getattr(packets, fields.pop("type"))(**_values(fields))
    return packet


def _decode(encoded: bytes, version: int) -> ControlPacket:
    length, start = decode_variable_byte_integer(encoded, 1)
    assert start + length == len(encoded)
    return decode_packet(encoded[0], encoded[start:], version)


@_rows("packet")
def test_vector_decodes_to_its_packet(row: dict[str, Any], version: int) -> None:
    assert _decode(bytes.fromhex(row["hex"]), version) == _packet(row["packet"])


@_rows("packet")
def test_packet_encodes_to_the_shortest_form(row: dict[str, Any], version: int) -> None:
    encoded = encode_packet(_packet(row["packet"]), version)
    if row.get("is_shortest", True):
        assert encoded == bytes.fromhex(row["hex"])
    else:
        assert len(encoded) < len(bytes.fromhex(row["hex"]))


@_rows("error")
def test_vector_is_refused_with_its_error_and_clause(row: dict[str, Any], version: int) -> None:
    expected: type[PeerError] = getattr(errors, row["error"])
    with pytest.raises(expected) as refusal:
        _decode(bytes.fromhex(row["hex"]), version)
    assert type(refusal.value) is expected
    if not row["error"].startswith("Topic"):  # those are the words of `topics`
        assert row["spec"].removeprefix("v5 ").removeprefix("v3.1.1 ") in str(refusal.value)


def test_vectors_have_unique_names_and_their_remaining_length() -> None:
    names = [row["id"] for row in _VECTORS]
    assert len(set(names)) == len(names)
    for row in _VECTORS:
        encoded = bytes.fromhex(row["hex"])
        assert encoded[1] == len(encoded) - 2, row["id"]


@_VERSIONS
def test_vectors_cover_every_packet(version: int) -> None:
    seen = {row["packet"]["type"] for row in _VECTORS if "packet" in row and version in row["versions"]}
    every = {packet.__name__ for packet in ControlPacket.__args__}
    assert seen == (every if version == V5 else every - {"Auth"})


@_VERSIONS
@given(data=st.data())
def test_decoding_gives_back_what_was_encoded(version: int, data: st.DataObject) -> None:
    packet = data.draw(control_packets(version))
    assert _decode(encode_packet(packet, version), version) == packet


@_VERSIONS
@given(data=st.data())
def test_packet_cut_anywhere_raises_nothing_but_peer_errors(version: int, data: st.DataObject) -> None:
    encoded = encode_packet(data.draw(control_packets(version)), version)
    _, start = decode_variable_byte_integer(encoded, 1)
    for end in range(start, len(encoded)):
        _decode_or_refuse(encoded[0], encoded[start:end], version)


@_VERSIONS
@given(data=st.data())
def test_packet_with_changed_bytes_raises_nothing_but_peer_errors(version: int, data: st.DataObject) -> None:
    encoded = encode_packet(data.draw(control_packets(version)), version)
    _, start = decode_variable_byte_integer(encoded, 1)
    body = bytearray(encoded[start:])
    for _ in range(min(3, len(body))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    _decode_or_refuse(encoded[0], bytes(body), version)


@_VERSIONS
@given(first_byte=st.integers(0, 255), body=st.binary(max_size=60))
def test_any_bytes_raise_nothing_but_peer_errors(version: int, first_byte: int, body: bytes) -> None:
    _decode_or_refuse(first_byte, body, version)


def _decode_or_refuse(first_byte: int, body: bytes, version: int) -> None:
    """Decode, or refuse; what decodes must say the same when it is written again."""
    try:
        packet = decode_packet(first_byte, body, version)
    except PeerError:
        return
    version = packet.version if isinstance(packet, Connect) else version
    assert _decode(encode_packet(packet, version), version) == packet


@_VERSIONS
@given(data=st.data())
def test_publish_head_leaves_room_for_the_packet_id(version: int, data: st.DataObject) -> None:
    publish = data.draw(publishes(version))
    prefix, suffix_head = encode_publish_head(
        publish.topic,
        len(publish.payload),
        version,
        publish.qos,
        publish.is_retain,
        publish.is_dup,
        publish.properties,
    )
    packet_id = publish.packet_id.to_bytes(2, "big") if publish.qos else b""
    assert _decode(prefix + packet_id + suffix_head + publish.payload, version) == publish


@_VERSIONS
@pytest.mark.parametrize("around", [0x7F, 0x80, 0x3FFF, 0x4000, 0x1F_FFFF, 0x20_0000])
@pytest.mark.parametrize("qos", [0, 1])
def test_publish_round_trips_where_the_remaining_length_grows(version: int, around: int, qos: int) -> None:
    head = 5 + 2 * qos + (version == V5)
    publish = Publish(TopicName(b"a/b"), bytes(around - head), qos, packet_id=qos)
    encoded = encode_packet(publish, version)
    assert decode_variable_byte_integer(encoded, 1)[0] == around
    assert _decode(encoded, version) == publish


def test_3_1_1_leaves_out_what_it_has_no_place_for() -> None:
    said = Properties(reason_string="r")
    assert encode_packet(PubAck(1, ReasonCode.NOT_AUTHORIZED, said), V3_1_1) == b"\x40\x02\x00\x01"
    assert encode_packet(Disconnect(ReasonCode.SERVER_BUSY, said), V3_1_1) == b"\xe0\x00"
    assert encode_packet(UnsubAck(1, (ReasonCode.SUCCESS,), said), V3_1_1) == b"\xb0\x02\x00\x01"
    request = SubscriptionRequest(TopicFilter(b"a"), 1, True, True, 2)
    assert encode_packet(Subscribe(1, (request,)), V3_1_1) == b"\x82\x06\x00\x01\x00\x01a\x01"
    publish = Publish(TopicName(b"a"), b"p", properties=Properties(content_type="t"))
    assert encode_packet(publish, V3_1_1) == b"\x30\x04\x00\x01ap"


def test_3_1_1_suback_names_every_failure_0x80() -> None:
    codes = (ReasonCode.GRANTED_QOS_2, ReasonCode.NOT_AUTHORIZED, ReasonCode.QUOTA_EXCEEDED)
    assert encode_packet(SubAck(1, codes), V3_1_1) == b"\x90\x05\x00\x01\x02\x80\x80"


_LONG = TopicName(b"a" * 65_536)
_REQUEST = SubscriptionRequest(TopicFilter(b"a"))


@pytest.mark.parametrize(
    ("packet", "version"),
    [
        pytest.param(
            ConnAck(reason_code=ReasonCode.MALFORMED_PACKET), V3_1_1, id="connack without return code"
        ),
        pytest.param(Auth(), V3_1_1, id="auth in 3.1.1"),
        pytest.param(Connect(version=3, client_id=ClientId("")), V3_1_1, id="connect of level 3"),
        pytest.param(
            Connect(version=V3_1_1, client_id=ClientId(""), password=b"p"),
            V3_1_1,
            id="password alone in 3.1.1",
        ),
        pytest.param(Connect(version=V5, client_id=ClientId(""), keep_alive=65_536), V5, id="keep alive"),
        pytest.param(
            Connect(version=V5, client_id=ClientId(""), will=Will(topic=TopicName(b"w"), payload=b"", qos=3)),
            V5,
            id="will qos 3",
        ),
        pytest.param(Publish(_LONG, b""), V5, id="topic too long"),
        pytest.param(Publish(TopicName(b"a"), b"", 3, packet_id=1), V5, id="qos 3"),
        pytest.param(Publish(TopicName(b"a"), b"", -1), V3_1_1, id="qos below 0"),
        pytest.param(Publish(TopicName(b"a"), b"", 1), V5, id="qos 1 without packet id"),
        pytest.param(
            Publish(TopicName(b"a"), b"", properties=Properties(receive_maximum=1)),
            V5,
            id="misplaced property",
        ),
        pytest.param(
            Publish(TopicName(b"a"), b"", properties=Properties(topic_alias=0)), V5, id="topic alias 0"
        ),
        pytest.param(PubAck(0), V5, id="packet id 0"),
        pytest.param(PubAck(65_536), V3_1_1, id="packet id too large"),
        pytest.param(Subscribe(1, ()), V5, id="empty subscribe"),
        pytest.param(Unsubscribe(1, ()), V3_1_1, id="empty unsubscribe"),
        pytest.param(SubAck(1, ()), V3_1_1, id="empty suback"),
        pytest.param(UnsubAck(1), V5, id="empty unsuback in 5"),
        pytest.param(Subscribe(1, (SubscriptionRequest(TopicFilter(b"a"), 3),)), V5, id="subscription qos 3"),
        pytest.param(
            Subscribe(1, (SubscriptionRequest(TopicFilter(b"a"), retain_handling=3),)),
            V5,
            id="retain handling 3",
        ),
        pytest.param(
            Subscribe(1, (_REQUEST,), Properties(reason_string="r")), V5, id="reason string in subscribe"
        ),
    ],
)
def test_packets_without_form_on_the_wire_are_our_own_fault(packet: ControlPacket, version: int) -> None:
    with pytest.raises(LocalUsageError):
        encode_packet(packet, version)


def test_packet_above_the_largest_remaining_length_is_our_own_fault() -> None:
    with pytest.raises(LocalUsageError):
        encode_publish_head(b"a", 268_435_455, V3_1_1, 0, False, False, NO_PROPERTIES)


@pytest.mark.parametrize("reason_code", list(ReasonCode))
def test_every_reason_code_is_taken_by_some_packet(reason_code: ReasonCode) -> None:
    bodies = [(0x20, b"\0%c\0"), (0x40, b"\0\1%c"), (0x62, b"\0\1%c"), (0x90, b"\0\1\0%c")]
    bodies += [(0xB0, b"\0\1\0%c"), (0xE0, b"%c"), (0xF0, b"%c\4\x15\0\1m")]

    def is_taken(first_byte: int, body: bytes) -> bool:
        try:
            decode_packet(first_byte, body % reason_code, V5)
        except PeerError:
            return False
        return True

    assert any(is_taken(first_byte, body) for first_byte, body in bodies)
