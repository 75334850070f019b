"""The Client's side of a Network Connection: its table of states, limits, chunking."""

from itertools import product
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.protocol.client_connection import LEGAL_PACKETS, NEXT_STATES, ClientConnection, ClientState
from broker.protocol.codec import decode_packet, encode_packet
from broker.protocol.errors import PacketTooLargeError, ProtocolError
from broker.protocol.packets import (
    V3_1_1,
    V5,
    Auth,
    ClientId,
    ConnAck,
    Connect,
    ControlPacket,
    Disconnect,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    SubscriptionRequest,
    TopicFilter,
    TopicName,
    UnsubAck,
    Unsubscribe,
)
from broker.protocol.properties import Properties
from broker.protocol.reason_codes import ReasonCode

_CONNECT: Final = Connect(version=V5, client_id=ClientId("c"), keep_alive=10)
_SAMPLES: Final[tuple[ControlPacket, ...]] = (
    _CONNECT,
    ConnAck(),
    Publish(TopicName(b"a"), b"p", 1, packet_id=1),
    PubAck(1),
    PubRec(1),
    PubRel(1),
    PubComp(1),
    Subscribe(1, (SubscriptionRequest(TopicFilter(b"a")),)),
    SubAck(1, (ReasonCode.SUCCESS,)),
    Unsubscribe(1, (TopicFilter(b"a"),)),
    UnsubAck(1, (ReasonCode.SUCCESS,)),
    PingReq(),
    PingResp(),
    Disconnect(),
    Auth(),
)


def connection(state: ClientState = ClientState.AWAIT_CONNACK) -> ClientConnection:
    made = ClientConnection(_CONNECT, packet_size_maximum=1024, now=0)
    if state is not ClientState.AWAIT_CONNACK:
        feed(made, ConnAck())
    if state is ClientState.CLOSED:
        made.close()
    assert made.state is state
    return made


def feed(to: ClientConnection, *packets: ControlPacket) -> list[ControlPacket]:
    to.receive(b"".join(encode_packet(packet, V5) for packet in packets), now=1)
    return to.events()


def test_it_begins_with_its_connect() -> None:
    assert connection().data_to_send() == encode_packet(_CONNECT, V5)


@pytest.mark.parametrize(
    ("state", "packet"),
    list(product(ClientState, _SAMPLES)),
    ids=lambda value: value.name if isinstance(value, ClientState) else type(value).__name__,
)
def test_each_state_takes_what_its_table_says(state: ClientState, packet: ControlPacket) -> None:
    of = connection(state)
    taken = feed(of, packet)
    if type(packet) in LEGAL_PACKETS[state]:
        assert [type(each) for each in taken] == [type(packet)]
        assert of.failure is None
        assert of.state is NEXT_STATES.get((state, type(packet)), state)
    else:
        assert taken == []
        assert of.state is state
        assert isinstance(of.failure, ProtocolError) is (state is not ClientState.CLOSED)


def test_a_second_connack_ends_the_stream_after_the_packets_before_it() -> None:
    of = connection(ClientState.CONNECTED)
    assert feed(of, PubAck(1), ConnAck(), PubAck(2)) == [PubAck(1)]
    assert isinstance(of.failure, ProtocolError)
    assert of.events() == []


def test_a_refusal_closes() -> None:
    of = connection()
    refusal = ConnAck(False, ReasonCode.NOT_AUTHORIZED)
    assert feed(of, refusal, PubAck(1)) == [refusal]
    assert of.state is ClientState.CLOSED


def test_limits_of_the_server_are_taken_over() -> None:
    of = connection()
    told = Properties(
        receive_maximum=5,
        maximum_packet_size=20,
        maximum_qos=1,
        retain_available=False,
        server_keep_alive=7,
    )
    feed(of, ConnAck(properties=told))
    assert (of.receive_maximum, of.maximum_qos, of.is_retain_available, of.keep_alive) == (5, 1, False, 7)
    of.outgoing.clear()
    assert not of.send(Publish(TopicName(b"t"), bytes(20)))
    assert of.send(Publish(TopicName(b"t"), b"x"))
    assert of.data_to_send() == encode_packet(Publish(TopicName(b"t"), b"x"), V5)


def test_without_limits_of_the_server_the_specification_s_hold() -> None:
    of = connection(ClientState.CONNECTED)
    assert (of.receive_maximum, of.maximum_qos, of.is_retain_available, of.keep_alive) == (65535, 2, True, 10)


def test_a_packet_above_our_maximum_is_refused_by_its_length_alone() -> None:
    of = connection(ClientState.CONNECTED)
    of.receive(b"\x30\xff\xff\x7f", now=1)
    assert of.events() == []
    assert isinstance(of.failure, PacketTooLargeError)


def test_3_1_1_is_spoken_where_the_connect_says_so() -> None:
    of = ClientConnection(Connect(version=V3_1_1, client_id=ClientId("c")), packet_size_maximum=1024, now=0)
    of.receive(b"\x20\x02\x01\x00\x32\x06\x00\x01t\x00\x07x", now=1)
    assert of.events() == [ConnAck(True), Publish(TopicName(b"t"), b"x", 1, packet_id=7)]


def test_a_ping_goes_out() -> None:
    of = connection(ClientState.CONNECTED)
    of.data_to_send()
    of.ping()
    data = of.data_to_send()
    assert decode_packet(data[0], data[2:], V5) == PingReq()


@given(st.lists(st.integers(1, 40), max_size=30))
def test_any_chunking_gives_the_same_packets(sizes: list[int]) -> None:
    packets = [
        ConnAck(),
        *(packet for packet in _SAMPLES if type(packet) in LEGAL_PACKETS[ClientState.CONNECTED]),
    ]
    data = b"".join(encode_packet(packet, V5) for packet in packets)
    of = connection()
    taken = []
    for size in [*sizes, len(data)]:
        chunk, data = data[:size], data[size:]
        if chunk:
            of.receive(chunk, now=2)
            taken += of.events()
    assert taken == packets
    assert of.last_received == 2
