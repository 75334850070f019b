import sys
import tracemalloc
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from broker.protocol.codec import decode_packet, encode_packet
from broker.protocol.errors import (
    MalformedPacketError,
    PacketTooLargeError,
    PeerError,
    ProtocolError,
    TopicAliasInvalidError,
)
from broker.protocol.packets import V3_1_1, V5, ControlPacket, PingReq, Publish, TopicName
from broker.protocol.primitives import decode_variable_byte_integer, encode_variable_byte_integer
from broker.protocol.properties import NO_PROPERTIES, Properties
from broker.protocol.stream import PacketStream
from strategies import control_packets, publishes

_VERSIONS = pytest.mark.parametrize("version", [V3_1_1, V5])
_CEILING = 268_435_460
_ALIASES = 8

_PINGREQ = b"\xc0\x00"


def _stream(version: int, *, maximum: int = _CEILING, aliases: int = 0) -> PacketStream:
    stream = PacketStream(maximum_packet_size=maximum)
    stream.version = version
    stream.topic_alias_maximum = aliases
    return stream


def _read_all(stream: PacketStream, reads: Iterable[bytes], limit: int = 1000) -> list[ControlPacket]:
    packets: list[ControlPacket] = []
    for data in reads:
        stream.feed(data)
        while taken := stream.read(limit):
            packets += taken
    return packets


def _without_frame(packet: ControlPacket) -> ControlPacket:
    return replace(packet, frame=None) if isinstance(packet, Publish) else packet


def _decode(encoded: bytes, version: int) -> ControlPacket:
    _, start = decode_variable_byte_integer(encoded, 1)
    return decode_packet(encoded[0], encoded[start:], version)


def _expected(
    encoded: Sequence[bytes], version: int, aliases: int
) -> tuple[list[ControlPacket], type[PeerError] | None]:
    """What a stream should give, by the plain codec and the words of v5 §3.3.2.3.4."""
    packets: list[ControlPacket] = []
    topics: dict[int, TopicName] = {}
    for frame in encoded:
        try:
            packet = _decode(frame, version)
        except PeerError as error:
            return packets, type(error)
        if isinstance(packet, Publish):
            if packet.properties.subscription_identifiers:
                return packets, ProtocolError
            alias = packet.properties.topic_alias
            if alias is not None:
                if alias > aliases:
                    return packets, TopicAliasInvalidError
                topics[alias] = packet.topic or topics.get(alias, TopicName(b""))
                if not topics[alias]:
                    return packets, ProtocolError
                properties = replace(packet.properties, topic_alias=None)
                packet = replace(packet, topic=topics[alias], properties=properties)
        packets.append(packet)
    return packets, None


@st.composite
def _chunks(draw: st.DrawFn, data: bytes) -> list[bytes]:
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _small_alias(packet: ControlPacket) -> ControlPacket:
    """Bring drawn aliases down to where they meet each other."""
    if isinstance(packet, Publish) and packet.properties.topic_alias is not None:
        alias = packet.properties.topic_alias % (_ALIASES + 1) or 1
        return replace(packet, properties=replace(packet.properties, topic_alias=alias))
    return packet


@_VERSIONS
@given(data=st.data())
def test_any_chunking_gives_what_the_codec_gives_packet_by_packet(version: int, data: st.DataObject) -> None:
    sent = data.draw(st.lists((publishes(version) | control_packets(version)).map(_small_alias), max_size=8))
    encoded = [encode_packet(packet, version) for packet in sent]
    stream = _stream(version, aliases=_ALIASES)
    reads = data.draw(_chunks(b"".join(encoded)))
    packets = _read_all(stream, reads, limit=data.draw(st.integers(1, 5)))
    expected, error = _expected(encoded, version, _ALIASES)
    assert [_without_frame(packet) for packet in packets] == expected
    assert type(stream.failure) is (error or type(None))


def _framed(first_byte: int, body: bytes) -> bytes:
    return bytes((first_byte,)) + encode_variable_byte_integer(len(body)) + body


_LIKELY_FIRST_BYTES = st.sampled_from([0x30, 0x32, 0x34, 0x31, 0x33, 0x40, 0x50, 0x62, 0x70, 0xC0])
_LIKELY_BODIES = st.builds(
    lambda topic, rest: len(topic).to_bytes(2, "big") + topic + rest,
    st.sampled_from([b"", b"a", b"a/b", b"+", b"a\0", b"\xff", b"\xc3\xa9", b"\xed\xa0\x80"]),
    st.binary(max_size=6) | st.sampled_from([b"\0\0", b"\0\1", b"\0\1\0", b"\0", b"\0\1\0p"]),
)


@_VERSIONS
@given(
    first_byte=_LIKELY_FIRST_BYTES | st.integers(0, 255),
    body=_LIKELY_BODIES | st.binary(max_size=12),
    rest=st.binary(max_size=4),
)
def test_whatever_the_codec_refuses_the_stream_refuses_alike(
    version: int, first_byte: int, body: bytes, rest: bytes
) -> None:
    frame = _framed(first_byte, body)
    expected, error = _expected([frame], version, 0)
    stream = _stream(version)
    stream.feed(frame + rest)
    assert [_without_frame(packet) for packet in stream.read(1)] == expected
    assert type(stream.failure) is (error or type(None))


@_VERSIONS
@given(data=st.data())
def test_frame_is_the_packet_itself_where_it_may_travel_unchanged(version: int, data: st.DataObject) -> None:
    sent = data.draw(publishes(version).filter(lambda packet: packet.properties.topic_alias is None))
    encoded = encode_packet(sent, version)
    stream = _stream(version)
    stream.feed(encoded + _PINGREQ)
    (packet, *_) = stream.read(1) or [PingReq()]
    may_travel = sent.qos == 0 and not sent.is_retain and sent.properties == NO_PROPERTIES
    assert getattr(packet, "frame", None) == (encoded if may_travel else None)


def test_frame_of_a_known_alias_is_not_given() -> None:
    stream = _stream(V5, aliases=1)
    packets = _read_all(
        stream, [bytes.fromhex("30 07 0001 61 03 23 0001"), bytes.fromhex("30 06 0000 03 23 0001")]
    )
    assert packets == [Publish(TopicName(b"a"), b"")] * 2


@_VERSIONS
def test_nothing_is_read_after_a_failure(version: int) -> None:
    stream = _stream(version)
    stream.feed(_PINGREQ + b"\x00\x00" + _PINGREQ)
    assert stream.read(10) == [PingReq()]
    failure = stream.failure
    assert type(failure) is MalformedPacketError
    stream.feed(_PINGREQ)
    assert stream.read(10) == []
    assert stream.failure is failure


def test_read_gives_no_more_than_asked_for() -> None:
    stream = _stream(V5)
    stream.feed(_PINGREQ * 5)
    assert [len(stream.read(2)) for _ in range(4)] == [2, 2, 1, 0]


def test_version_holds_for_packets_not_yet_read() -> None:
    stream = _stream(V3_1_1)
    stream.feed(bytes.fromhex("10 0D 0004 4D515454 05 02 003C 00 0000") + bytes.fromhex("30 04 0001 61 00"))
    assert len(stream.read(1)) == 1
    stream.version = V5
    assert [_without_frame(packet) for packet in stream.read(1)] == [Publish(TopicName(b"a"), b"")]


# Limits.


def _publish_of(size: int) -> bytes:
    remaining = size - 2
    while 1 + len(encode_variable_byte_integer(remaining)) + remaining > size:
        remaining -= 1
    frame = _framed(0x30, b"\0\1a" + bytes(remaining - 3))
    assert len(frame) == size
    return frame


@_VERSIONS
@pytest.mark.parametrize(
    ("maximum", "larger"),
    [
        *((2, 6), (6, 7), (100, 101), (127, 128), (128, 129), (129, 131), (130, 131), (131, 132)),
        *((16_386, 16_388), (16_388, 16_389), (70_000, 70_001)),
    ],
)
def test_maximum_packet_size_is_exact_and_known_before_the_body_comes(
    version: int, maximum: int, larger: int
) -> None:
    stream = _stream(version, maximum=maximum)
    stream.feed(_PINGREQ if maximum < 6 else _publish_of(maximum - (maximum == 130)))
    assert len(stream.read(1)) == 1
    frame = _publish_of(larger)
    _, start = decode_variable_byte_integer(frame, 1)
    stream.feed(frame[:start])
    assert stream.read(1) == []
    assert type(stream.failure) is PacketTooLargeError


def test_maximum_packet_size_holds_for_packets_not_yet_read() -> None:
    stream = _stream(V3_1_1, maximum=100)
    stream.feed(_publish_of(50) * 2)
    assert len(stream.read(1)) == 1
    stream.maximum_packet_size = 49
    assert stream.read(1) == []
    assert type(stream.failure) is PacketTooLargeError


@pytest.mark.parametrize(
    ("length", "size"),
    [("7F", 127), ("80 01", 128), ("FF 7F", 16_383), ("80 80 01", 16_384), ("80 80 80 01", 2_097_152)],
)
@_VERSIONS
def test_remaining_length_is_read_in_all_its_forms(version: int, length: str, size: int) -> None:
    stream = _stream(version)
    packets = _read_all(stream, [b"\x30" + bytes.fromhex(length), b"\0\1a" + bytes(size - 3) + _PINGREQ])
    assert len(packets) == 2
    assert isinstance(packets[0], Publish)
    assert len(packets[0].payload) == size - 3 - (version == V5)


@_VERSIONS
def test_remaining_length_of_five_bytes_is_malformed(version: int) -> None:
    stream = _stream(version)
    stream.feed(bytes.fromhex("30 80 80 80"))
    assert stream.read(1) == []
    assert type(stream.failure) is not MalformedPacketError, "a longer one may still come"
    stream.feed(b"\x80")
    assert stream.read(1) == []
    assert type(stream.failure) is MalformedPacketError


def test_remaining_length_longer_than_needed_is_malformed_in_5_only() -> None:
    padded = bytes.fromhex("C0 80 00")
    lenient, strict = _stream(V3_1_1), _stream(V5)
    assert _read_all(lenient, [padded]) == [PingReq()]
    assert _read_all(strict, [padded]) == []
    assert type(strict.failure) is MalformedPacketError


# Topic Aliases.


def _aliased(topic: bytes, alias: int) -> bytes:
    return encode_packet(Publish(TopicName(topic), b"p", properties=Properties(topic_alias=alias)), V5)


def test_alias_may_be_given_another_topic() -> None:
    reads = [_aliased(b"a", 1), _aliased(b"b", 2), _aliased(b"", 1), _aliased(b"c", 1), _aliased(b"", 1)]
    packets = _read_all(_stream(V5, aliases=2), reads)
    assert [packet.topic for packet in packets if isinstance(packet, Publish)] == [
        b"a",
        b"b",
        b"a",
        b"c",
        b"c",
    ]


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        pytest.param(_aliased(b"a", 3), TopicAliasInvalidError, id="above-the-maximum"),
        pytest.param(bytes.fromhex("30 07 0001 61 03 23 0000"), TopicAliasInvalidError, id="zero"),
        pytest.param(_aliased(b"", 2), ProtocolError, id="unknown"),
        pytest.param(bytes.fromhex("30 03 0000 00"), ProtocolError, id="neither-topic-nor-alias"),
        pytest.param(bytes.fromhex("30 06 0001 61 02 0B 01"), ProtocolError, id="subscription-identifier"),
    ],
)
def test_what_only_a_server_or_nobody_may_send_is_refused(frame: bytes, error: type[PeerError]) -> None:
    stream = _stream(V5, aliases=2)
    stream.feed(frame)
    assert stream.read(1) == []
    assert type(stream.failure) is error


# Memory.


def test_consumed_read_is_not_held() -> None:
    stream = _stream(V5)
    data = _PINGREQ * 50_000 + b"\xc0"
    before = sys.getrefcount(data)
    assert len(_read_all(stream, [data])) == 50_000
    assert sys.getrefcount(data) == before
    assert len(_read_all(stream, [b"\x00"])) == 1


@pytest.mark.parametrize("chunk", [1, 2, 1000])
def test_long_packet_in_short_reads_costs_its_length_and_no_more(chunk: int) -> None:
    size = 200 * 1000
    frame = _publish_of(size)
    reads = [frame[at : at + chunk] for at in range(0, size, chunk)]
    stream = _stream(V3_1_1)
    allocated = largest = 0
    tracemalloc.start()
    try:
        for number, data in enumerate(reads, 1):
            held, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            stream.feed(data)
            assert len(stream.read(1)) == (number == len(reads))
            now, peak = tracemalloc.get_traced_memory()
            allocated += peak - held
            largest = max(largest, now)
    finally:
        tracemalloc.stop()
    # Linear: what all the reads allocate is a few times the packet; held is little more than it.
    assert allocated < 8 * size + 400 * len(reads)
    assert largest < 1.5 * size


def test_topics_of_a_peer_are_remembered_within_bounds() -> None:
    stream = _stream(V3_1_1)
    tracemalloc.start()
    try:
        for number in range(3000):
            stream.feed(_framed(0x30, b"\x40\0" + b"%05d" % number + bytes(0x4000 - 5).replace(b"\0", b"t")))
            assert len(stream.read(1)) == 1
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2_000_000
