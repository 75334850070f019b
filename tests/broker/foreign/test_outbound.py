"""Messages to a foreign broker: order, limits, expiry, and what a lost connection leaves behind."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.foreign.outbound import PACKET_ID_MAXIMUM, Outbound
from broker.protocol.client_connection import ClientConnection
from broker.protocol.codec import encode_packet
from broker.protocol.packets import V5, ClientId, ConnAck, Connect, Publish, TopicName
from broker.protocol.properties import Properties
from broker.protocol.reason_codes import ReasonCode
from broker.protocol.stream import PacketStream

NOW = 100.0


def outbound(**limits: int) -> Outbound:
    return Outbound(**{"in_flight_maximum": 3, "messages_maximum": 10, "bytes_maximum": 1000, **limits})


def connect(of: Outbound, *, is_session_present: bool = True, **told: Any) -> ClientConnection:
    connection = ClientConnection(
        Connect(version=V5, client_id=ClientId("c")), packet_size_maximum=9999, now=NOW
    )
    connection.receive(encode_packet(ConnAck(properties=Properties(**told)), V5), now=NOW)
    connection.events()
    connection.outgoing.clear()
    of.connected(connection, is_session_present=is_session_present)
    return connection


def put(of: Outbound, payload: bytes, qos: int = 1, **options: Any) -> bool:
    message = Publish(TopicName(b"t"), payload, qos, bool(options.get("is_retain")))
    expires_at, key = options.get("expires_at"), options.get("key")
    return of.put(message, expires_at=expires_at, supersede_key=key)


def sent(of: Outbound, connection: ClientConnection, now: float = NOW) -> list[Publish]:
    of.pump(connection, now)
    stream = PacketStream(maximum_packet_size=1 << 20)
    stream.version = V5
    stream.feed(connection.data_to_send())
    packets = stream.read(1000)
    assert stream.failure is None
    return [packet for packet in packets if isinstance(packet, Publish)]


def told(packets: list[Publish]) -> list[tuple[bytes, int, bool]]:
    return [(packet.payload, packet.packet_id, packet.is_dup) for packet in packets]


def test_the_quota_holds_messages_back_and_pubacks_let_them_go() -> None:
    of = outbound()
    connection = connect(of, receive_maximum=2)
    for number in range(4):
        put(of, b"%d" % number)
    assert told(sent(of, connection)) == [(b"0", 1, False), (b"1", 2, False)]
    of.handle_puback(1, ReasonCode.SUCCESS)
    assert told(sent(of, connection)) == [(b"2", 3, False)]
    of.handle_puback(1, ReasonCode.SUCCESS)  # It answers nothing now.
    assert len(of) == 3


def test_qos_0_keeps_its_place_and_is_not_waited_for() -> None:
    of = outbound(in_flight_maximum=1)
    connection = connect(of)
    put(of, b"a", 0)
    put(of, b"b", 1)
    put(of, b"c", 0)
    put(of, b"d", 1)
    put(of, b"e", 0)
    assert [packet.payload for packet in sent(of, connection)] == [b"a", b"b", b"c"]
    of.handle_puback(1, ReasonCode.SUCCESS)
    assert [packet.payload for packet in sent(of, connection)] == [b"d", b"e"]


def test_what_is_in_flight_is_sent_again_under_its_id_before_anything_new() -> None:
    of = outbound()
    for number in range(4):
        put(of, b"%d" % number)
    sent(of, connect(of))
    of.handle_puback(2, ReasonCode.SUCCESS)
    again = connect(of)
    assert told(sent(of, again)) == [(b"0", 1, True), (b"2", 3, True), (b"3", 4, False)]


def test_a_smaller_quota_holds_repetitions_back_too() -> None:
    of = outbound()
    for number in range(3):
        put(of, b"%d" % number)
    sent(of, connect(of))
    again = connect(of, receive_maximum=1)
    assert told(sent(of, again)) == [(b"0", 1, True)]
    of.handle_puback(1, ReasonCode.SUCCESS)
    assert told(sent(of, again)) == [(b"1", 2, True)]


def test_without_its_session_what_was_in_flight_is_new_and_first() -> None:
    of = outbound()
    for number in range(4):
        put(of, b"%d" % number)
    sent(of, connect(of))
    sent(of, connect(of))  # DUP by now
    fresh = sent(of, connect(of, is_session_present=False))
    assert [(packet.payload, packet.is_dup) for packet in fresh] == [
        (b"0", False),
        (b"1", False),
        (b"2", False),
    ]


@pytest.mark.parametrize("limits", [{"messages_maximum": 2}, {"bytes_maximum": 4}])
def test_beyond_a_limit_the_newest_is_dropped_and_counted(limits: dict[str, int]) -> None:
    of = outbound(**limits)
    assert [put(of, b"x") for _ in range(3)] == [True, True, False]
    assert of.stats.dropped_full == 1
    connection = connect(of)
    sent(of, connection)
    of.handle_puback(1, ReasonCode.SUCCESS)
    assert put(of, b"x")


def test_time_in_the_queue_counts_for_the_expiry() -> None:
    of = outbound()
    put(of, b"gone", expires_at=NOW + 5)
    put(of, b"old", expires_at=NOW + 60)
    (packet,) = sent(of, connect(of), now=NOW + 20)
    assert (packet.payload, packet.properties.message_expiry_interval) == (b"old", 40)
    assert of.stats.dropped_expired == 1


def test_a_message_that_waits_is_superseded_in_its_place_and_one_in_flight_is_not() -> None:
    of = outbound(in_flight_maximum=1)
    connection = connect(of)
    put(of, b"first", key=b"k")
    assert [packet.payload for packet in sent(of, connection)] == [b"first"]
    put(of, b"second", key=b"k")
    put(of, b"other")
    put(of, b"third", key=b"k")
    of.handle_puback(1, ReasonCode.SUCCESS)
    assert [packet.payload for packet in sent(of, connection)] == [b"third"]
    assert (of.stats.superseded, of.size_bytes) == (1, len(b"tthirdtother"))


@pytest.mark.parametrize(
    ("limit", "counter"),
    [({"maximum_packet_size": 20}, "dropped_too_large"), ({"retain_available": False}, "refused")],
)
def test_what_the_broker_does_not_take_is_counted_and_not_sent(limit: dict[str, Any], counter: str) -> None:
    of = outbound()
    put(of, bytes(20), is_retain=True)
    put(of, b"x")
    assert [packet.payload for packet in sent(of, connect(of, **limit))] == [b"x"]
    assert getattr(of.stats, counter) == 1
    assert len(of) == 1


def test_a_refusal_by_puback_is_counted() -> None:
    of = outbound()
    put(of, b"x")
    sent(of, connect(of))
    of.handle_puback(1, ReasonCode.NOT_AUTHORIZED)
    assert (of.stats.refused, len(of), of.size_bytes) == (1, 0, 0)


def test_packet_ids_wrap_below_those_of_subscribe_and_pass_over_those_in_use() -> None:
    of = outbound(messages_maximum=10, in_flight_maximum=2)
    connection = connect(of)
    put(of, b"stays")
    sent(of, connection)
    last = 1
    for _ in range(PACKET_ID_MAXIMUM):
        put(of, b"")
        (packet,) = sent(of, connection)
        of.handle_puback(packet.packet_id, ReasonCode.SUCCESS)
        assert packet.packet_id == (last + 1 if last < PACKET_ID_MAXIMUM else 2)
        last = packet.packet_id


@given(st.lists(st.sampled_from(["put", "pump", "ack", "lose", "forget"]), max_size=60))
def test_no_message_is_lost_and_each_first_sending_is_in_order(steps: list[str]) -> None:
    of = outbound(messages_maximum=1000)
    connection = connect(of)
    put_count = 0
    unanswered: dict[int, bytes] = {}
    first_sendings: list[bytes] = []
    taken: set[bytes] = set()

    def pump() -> None:
        for packet in sent(of, connection):
            unanswered[packet.packet_id] = packet.payload
            if packet.payload not in first_sendings:
                first_sendings.append(packet.payload)

    for step in [*steps, *["pump", "ack"] * 80]:
        match step:
            case "put":
                put(of, b"%d" % put_count)
                put_count += 1
            case "pump":
                pump()
            case "ack" if unanswered:
                packet_id = next(iter(unanswered))
                taken.add(unanswered.pop(packet_id))
                of.handle_puback(packet_id, ReasonCode.SUCCESS)
            case "lose" | "forget":
                connection = connect(of, is_session_present=step == "lose")
                unanswered.clear()
    assert first_sendings == [b"%d" % number for number in range(put_count)]
    assert taken == set(first_sendings)
    assert (len(of), of.size_bytes) == (0, 0)
