from collections.abc import Callable, Mapping
from typing import Final

import pytest

from broker.protocol.codec import decode_packet, encode_packet
from broker.protocol.connection import LEGAL_PACKETS, NEXT_STATES, Connection, ConnectionState
from broker.protocol.errors import (
    MalformedPacketError,
    PacketTooLargeError,
    ProtocolError,
    TopicAliasInvalidError,
)
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
_FILTER: Final = TopicFilter(b"a")
_SAMPLES: Final[Mapping[type[ControlPacket], ControlPacket]] = {
    type(packet): packet
    for packet in (
        _CONNECT,
        ConnAck(),
        Publish(TopicName(b"a"), b"p", 1, packet_id=1),
        PubAck(1),
        PubRec(1),
        PubRel(1),
        PubComp(1),
        Subscribe(1, (SubscriptionRequest(_FILTER),)),
        SubAck(1, (ReasonCode.SUCCESS,)),
        Unsubscribe(1, (_FILTER,)),
        UnsubAck(1, (ReasonCode.SUCCESS,)),
        PingReq(),
        PingResp(),
        Disconnect(),
        Auth(),
    )
}
_PINGREQ: Final = b"\xc0\x00"


def _new() -> Connection:
    return Connection(connect_packet_size_maximum=100, now=0.0)


def _authenticating(connect: Connect = _CONNECT) -> Connection:
    connection = _new()
    connection.receive(encode_packet(connect, connect.version), now=0.0)
    assert connection.events(10) == [connect]
    connection.handle_connect(connect)
    return connection


def _connected(connect: Connect = _CONNECT) -> Connection:
    connection = _authenticating(connect)
    connection.accept(maximum_packet_size=1000, topic_alias_maximum=2)
    return connection


def _closed() -> Connection:
    connection = _connected()
    connection.close()
    return connection


_REACH: Final[Mapping[ConnectionState, Callable[[], Connection]]] = {
    ConnectionState.AWAIT_CONNECT: _new,
    ConnectionState.AUTHENTICATING: _authenticating,
    ConnectionState.CONNECTED: _connected,
    ConnectionState.CLOSED: _closed,
}
_MOVES: Final[Mapping[ConnectionState, Callable[[Connection], None]]] = {
    ConnectionState.AUTHENTICATING: lambda connection: connection.handle_connect(_CONNECT),
    ConnectionState.CONNECTED: lambda connection: connection.accept(
        maximum_packet_size=1000, topic_alias_maximum=0
    ),
    ConnectionState.CLOSED: Connection.close,
}


def test_samples_hold_every_packet() -> None:
    assert _SAMPLES.keys() == set(ControlPacket.__args__)


@pytest.mark.parametrize("kind", _SAMPLES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("state", ConnectionState, ids=lambda state: state.name)
def test_each_state_lets_its_legal_packets_through_and_no_other(
    state: ConnectionState, kind: type[ControlPacket]
) -> None:
    connection = _REACH[state]()
    assert connection.state is state
    packet = _SAMPLES[kind]
    # Before CONNECT the version is not known, and bytes are read as 3.1.1, which has no AUTH.
    connection.receive(encode_packet(packet, V5 if kind is Auth else connection.version), now=1.0)
    packets = connection.events(10)
    if kind in LEGAL_PACKETS[state]:
        assert packets == [packet]
        assert connection.failure is None
    else:
        assert packets == []
        expected = type(None) if state is ConnectionState.CLOSED else (ProtocolError, MalformedPacketError)
        assert isinstance(connection.failure, expected)


def test_legal_packets_are_those_of_clients() -> None:
    clients = set(ControlPacket.__args__) - {ConnAck, SubAck, UnsubAck, PingResp}
    assert LEGAL_PACKETS[ConnectionState.AWAIT_CONNECT] == {Connect}
    assert LEGAL_PACKETS[ConnectionState.CONNECTED] == clients - {Connect}
    assert LEGAL_PACKETS[ConnectionState.CLOSED] == set()


@pytest.mark.parametrize("after", _MOVES, ids=lambda state: state.name)
@pytest.mark.parametrize("before", ConnectionState, ids=lambda state: state.name)
def test_states_follow_the_table_and_nothing_else(before: ConnectionState, after: ConnectionState) -> None:
    connection = _REACH[before]()
    if after in NEXT_STATES[before]:
        _MOVES[after](connection)
        assert connection.state is after
    elif after is before is ConnectionState.CLOSED:
        connection.close()  # The end may be met from both sides at once.
        assert connection.state is ConnectionState.CLOSED
    else:
        with pytest.raises(ProtocolError):
            _MOVES[after](connection)
        assert connection.state is before


def test_every_state_can_be_reached_and_every_one_ends() -> None:
    assert set(NEXT_STATES) == set(LEGAL_PACKETS) == set(ConnectionState)
    assert all(
        ConnectionState.CLOSED in following
        for state, following in NEXT_STATES.items()
        if state is not ConnectionState.CLOSED
    )


def test_good_packets_before_an_illegal_one_are_given_first() -> None:
    connection = _connected()
    connection.receive(_PINGREQ * 2 + encode_packet(_CONNECT, V5) + _PINGREQ, now=1.0)
    assert connection.events(10) == [PingReq(), PingReq()]
    assert type(connection.failure) is ProtocolError
    assert connection.events(10) == []


def test_second_connect_of_another_level_is_a_second_connect_all_the_same() -> None:
    connection = _connected()
    connection.receive(bytes.fromhex("10 0D 0004 4D515454 06 02 0000 00 0001 63"), now=1.0)
    assert connection.events(10) == []
    assert type(connection.failure) is ProtocolError


def test_what_follows_connect_waits_for_its_answer() -> None:
    connection = _new()
    publish = Publish(TopicName(b"a"), b"p", 1, packet_id=1)
    connection.receive(encode_packet(_CONNECT, V5) + encode_packet(publish, V5), now=0.0)
    assert connection.events(10) == [_CONNECT]
    connection.handle_connect(_CONNECT)
    connection.accept(maximum_packet_size=1000, topic_alias_maximum=0)
    assert connection.events(10) == [publish]
    assert connection.events(10) == []


def test_limits_of_a_stranger_hold_until_it_is_accepted() -> None:
    connection = _new()
    connection.receive(b"\x10\x63", now=0.0)
    assert connection.events(1) == []
    assert type(connection.failure) is PacketTooLargeError

    accepted = _connected()
    large = Publish(TopicName(b"a"), bytes(990))
    accepted.receive(encode_packet(large, V5), now=0.0)
    assert len(accepted.events(1)) == 1
    accepted.receive(encode_packet(Publish(TopicName(b"a"), bytes(994)), V5), now=0.0)
    assert accepted.events(1) == []
    assert type(accepted.failure) is PacketTooLargeError


def test_topic_aliases_are_allowed_as_announced() -> None:
    connection = _connected()
    for alias, error in ((2, type(None)), (3, TopicAliasInvalidError)):
        packet = Publish(TopicName(b"a"), b"", properties=Properties(topic_alias=alias))
        connection.receive(encode_packet(packet, V5), now=0.0)
        connection.events(1)
        assert isinstance(connection.failure, error)


@pytest.mark.parametrize("version", [V3_1_1, V5])
def test_version_of_the_connect_reads_and_writes_the_rest(version: int) -> None:
    connection = _connected(Connect(version=version, client_id=ClientId("c")))
    assert connection.version == version
    assert connection.send(ConnAck())
    assert connection.data_to_send() == (b"\x20\x03\0\0\0" if version == V5 else b"\x20\x02\0\0")
    connection.receive(b"\x82\x07\0\1\0\0\1a\0" if version == V5 else b"\x82\x06\0\1\0\1a\0", now=0.0)
    assert connection.events(1) == [_SAMPLES[Subscribe]]


def test_packet_above_the_maximum_of_the_peer_is_not_sent() -> None:
    connection = _connected(
        Connect(version=V5, client_id=ClientId("c"), properties=Properties(maximum_packet_size=20))
    )
    fitting = SubAck(1, (ReasonCode.SUCCESS,) * 15)
    assert len(encode_packet(fitting, V5)) == 20
    assert connection.send(fitting)
    assert not connection.send(SubAck(1, (ReasonCode.SUCCESS,) * 16))
    assert connection.data_to_send() == encode_packet(fitting, V5)


def test_data_to_send_is_everything_in_order_once() -> None:
    connection = _connected()
    outgoing = connection.outgoing
    assert connection.data_to_send() == b""
    connection.send(ConnAck())
    connection.send(PingResp())
    data = connection.data_to_send()
    assert decode_packet(data[0], data[2:5], V5) == ConnAck()
    assert data[5:] == b"\xd0\x00"
    assert connection.data_to_send() == b""
    assert connection.outgoing is outgoing == []


def test_silence_is_one_and_a_half_keep_alive_after_the_last_bytes() -> None:
    connection = _connected()
    assert connection.silent_until() == 15.0
    connection.receive(b"\xc0", now=7.0)
    assert connection.silent_until() == 22.0


def test_silence_is_no_fault_without_keep_alive() -> None:
    assert _connected(Connect(version=V5, client_id=ClientId("c"))).silent_until() is None
    assert _new().silent_until() is None
