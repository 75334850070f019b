"""Authorization that must be waited for: what is asked when, what waits meanwhile, what no answer means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.protocol.packets import (
    V3_1_1,
    V5,
    ConnAck,
    Disconnect,
    PingReq,
    PingResp,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    TopicName,
)
from broker.protocol.reason_codes import ReasonCode
from fakes import FakePermissions
from fakes_client import connect_packet, request_for, will
from fakes_hooks import HookDriver, Oracle

DENIED = ReasonCode.NOT_AUTHORIZED


@pytest.fixture
def oracle() -> Oracle:
    return Oracle()


@pytest.fixture
def on(oracle: Oracle) -> HookDriver:
    driver = HookDriver()
    driver.oracle = oracle
    return driver


def publish(topic: bytes, payload: bytes = b"", packet_id: int = 0) -> Publish:
    return Publish(TopicName(topic), payload, 1 if packet_id else 0, False, False, packet_id)


def test_a_topic_is_asked_about_once_per_connection(on: HookDriver, oracle: Oracle) -> None:
    client, watcher = on.connect("c"), on.connect("w")
    watcher.subscribe(b"#")
    client.publish(b"a", b"1")
    client.publish(b"a", b"2")
    watcher.subscribe(b"other")  # A new generation: routes are made anew.
    client.publish(b"a", b"3")
    client.publish(b"b", b"4")
    assert watcher.payloads() == [b"1", b"2", b"3", b"4"]
    assert oracle.asked == [("subscribe", "#"), ("publish", "a"), ("subscribe", "other"), ("publish", "b")]
    watcher.publish(b"a", b"5")
    assert oracle.asked[-1] == ("publish", "a")


def test_what_is_denied_is_refused_as_ever(on: HookDriver, oracle: Oracle) -> None:
    oracle.denied |= {("publish", "a"), ("subscribe", "b")}
    client = on.connect("c")
    assert client.subscribe(b"b", b"c", qos=1).reason_codes == (DENIED, ReasonCode.GRANTED_QOS_1)
    client.publish(b"a", qos=1)
    assert client.take_one(PubAck).reason_code is DENIED
    client.publish(b"a")
    assert client.take() == [Disconnect(DENIED)]


def test_what_nobody_may_is_not_asked(on: HookDriver, oracle: Oracle) -> None:
    on.permissions["c"] = FakePermissions(no_publish=(b"a",), no_subscribe=(b"b",))
    client = on.connect("c")
    assert client.subscribe(b"b").reason_codes == (DENIED,)
    client.publish(b"a", qos=1)
    assert client.take_one(PubAck).reason_code is DENIED
    assert oracle.asked == []


def test_a_shared_subscription_is_asked_about_by_its_filter_and_a_name_like_it_by_all_of_it(
    on: HookDriver, oracle: Oracle
) -> None:
    client = on.connect("c")
    client.subscribe(b"$share/g/a/#")
    client.publish(b"$share/g/a", b"1", qos=1)
    assert oracle.asked == [("subscribe", "a/#"), ("publish", "$share/g/a")]


def test_all_filters_of_a_packet_are_asked_about_together_and_granted_together(
    on: HookDriver, oracle: Oracle
) -> None:
    client = on.connect("c")
    client.subscribe(b"a")
    on.publish(b"a", b"kept", is_retain=True)
    client.take()
    on.is_holding_hooks = True
    client.send(Subscribe(9, (request_for(b"a", retain_handling=1), request_for(b"b"), request_for(b"c"))))
    assert len(on.held) == 1
    assert client.take() == []
    on.answer_hooks()
    assert client.take_one(SubAck).packet_id == 9
    assert client.payloads() == []  # The Subscription to `a` was not new (v5 §3.8.3.1).
    assert oracle.asked == [("subscribe", "a"), ("subscribe", "b"), ("subscribe", "c")]


def test_packets_behind_an_open_question_wait_in_order_and_nothing_more_is_read(
    on: HookDriver, oracle: Oracle
) -> None:
    watcher, client = on.connect("w"), on.connect("c")
    watcher.subscribe(b"#", qos=1)
    client.publish(b"known", b"0")
    on.is_holding_hooks = True
    client.send(
        publish(b"known", b"1"),
        publish(b"new", b"2", 7),
        publish(b"known", b"3"),
        publish(b"newer", b"4"),
        PingReq(),
    )
    assert client.is_paused
    assert watcher.payloads() == [b"0", b"1"]
    assert client.take() == []
    on.answer_hooks()
    assert not client.is_paused
    assert watcher.payloads() == [b"2", b"3", b"4"]
    assert client.take() == [PubAck(7), PingResp()]
    assert on.engine.stats.publishes_received == 5


def test_what_is_equal_to_a_packet_before_is_not_handled_twice(on: HookDriver) -> None:
    watcher, client = on.connect("w"), on.connect("c")
    watcher.subscribe(b"#")
    client.publish(b"a", b"0")
    client.send(
        publish(b"a", b"1"),
        publish(b"a", b"1"),
        publish(b"b", b"2"),
        publish(b"a", b"1"),
        publish(b"b", b"2"),
    )
    assert watcher.payloads() == [b"0", b"1", b"1", b"2", b"1", b"2"]


def test_good_packets_before_bad_bytes_are_handled_first(on: HookDriver) -> None:
    watcher, client = on.connect("w"), on.connect("c")
    watcher.subscribe(b"#")
    on.is_holding_hooks = True
    client.send_bytes(bytes.fromhex("30 05 0001 61 00 31 36 00"))  # `1` to `a`, then QoS 3.
    assert not client.is_closed
    on.answer_hooks()
    assert watcher.payloads() == [b"1"]
    assert client.close_reason is ReasonCode.MALFORMED_PACKET


def test_where_nobody_answers_it_is_denied_for_as_long_as_the_connection(
    on: HookDriver, oracle: Oracle
) -> None:
    oracle.unknown |= {("publish", "a"), ("subscribe", "b")}
    client = on.connect("c")
    assert client.subscribe(b"a", b"b", b"c").reason_codes == (ReasonCode.SUCCESS, DENIED, DENIED)
    client.publish(b"a", qos=1)
    assert client.take_one(PubAck).reason_code is DENIED
    oracle.unknown.clear()
    client.publish(b"a", qos=1)
    assert client.take_one(PubAck).reason_code is DENIED
    assert oracle.asked.count(("publish", "a")) == 1


def test_an_answer_for_a_connection_that_is_gone_changes_nothing(on: HookDriver) -> None:
    watcher, client = on.connect("w"), on.connect("c")
    watcher.subscribe(b"#")
    on.is_holding_hooks = True
    client.publish(b"a", b"1")
    client.lose()
    on.answer_hooks()
    assert watcher.payloads() == []


# At CONNECT.


@pytest.mark.parametrize("version", [V3_1_1, V5])
def test_a_will_that_is_denied_refuses_the_connection(on: HookDriver, oracle: Oracle, version: int) -> None:
    oracle.denied.add(("publish", "will"))
    client = on.open(version)
    client.send(connect_packet("c", version, will=will(b"will")))
    assert client.take_one(ConnAck).reason_code is DENIED
    assert oracle.asked == [("publish", "will")]


def test_a_will_that_is_allowed_is_published(on: HookDriver) -> None:
    watcher = on.connect("w")
    watcher.subscribe(b"will")
    on.connect("c", will=will(b"will", b"gone")).lose()
    assert watcher.payloads() == [b"gone"]


def test_subscriptions_of_a_session_are_asked_about_before_it_is_resumed(
    on: HookDriver, oracle: Oracle
) -> None:
    client = on.connect("c", expiry=100)
    client.subscribe(b"a", b"$share/g/b")
    client.disconnect()
    on.publish(b"a", b"1")
    oracle.asked.clear()
    oracle.denied.add(("subscribe", "b"))
    client = on.connect("c", expiry=100, is_clean_start=False)
    assert client.connack.is_session_present
    assert oracle.asked == [("subscribe", "a"), ("subscribe", "b")]
    assert list(client.connection.attached.subscriptions) == [b"a"]


def test_where_nobody_answers_the_client_is_refused_and_the_session_keeps_its_subscriptions(
    on: HookDriver, oracle: Oracle
) -> None:
    on.connect("c", expiry=100).subscribe(b"a", b"b")
    oracle.unknown.add(("subscribe", "b"))
    client = on.open()
    client.send(connect_packet("c", is_clean_start=False))
    assert client.take() == [ConnAck(False, ReasonCode.SERVER_UNAVAILABLE)]
    oracle.unknown.clear()
    client = on.connect("c", is_clean_start=False)
    assert list(client.connection.attached.subscriptions) == [b"a", b"b"]


def test_a_clean_start_asks_about_nothing_that_ends(on: HookDriver, oracle: Oracle) -> None:
    on.connect("c", expiry=100).subscribe(b"a")
    oracle.asked.clear()
    on.connect("c", is_clean_start=True)
    assert oracle.asked == []


# Against the same broker with permissions that answer at once.

_TOPICS = st.sampled_from([b"a", b"b", b"c/d", b"e"])
_STEPS = st.one_of(
    st.tuples(st.just("publish"), _TOPICS, st.integers(0, 1)),
    st.tuples(st.just("subscribe"), st.sampled_from([b"a", b"#", b"+", b"c/#"]), st.integers(0, 1)),
)


@given(
    st.lists(st.lists(_STEPS, max_size=6), max_size=5),
    st.sets(st.tuples(st.sampled_from(["publish", "subscribe"]), _TOPICS)),
    st.booleans(),
)
def test_whoever_decides_what_clients_see_is_the_same(
    batches: list[list[tuple[str, bytes, int]]], denied: set[tuple[str, bytes]], is_held: bool
) -> None:
    asking, plain = HookDriver(is_durable=False), HookDriver(is_durable=False)
    asking.oracle = Oracle()
    asking.oracle.denied = {(action, topic.decode()) for action, topic in denied}
    plain.permissions["c"] = FakePermissions(
        no_publish=tuple(topic for action, topic in denied if action == "publish"),
        no_subscribe=tuple(topic for action, topic in denied if action == "subscribe"),
    )
    seen = []
    for driver in (asking, plain):
        client = driver.connect("c")
        packet_id = 0
        for batch in batches:
            driver.is_holding_hooks = is_held
            packets: list[Publish | Subscribe] = []
            for action, topic, qos in batch:
                packet_id += 1
                if action == "publish":
                    packets.append(publish(topic, str(packet_id).encode(), packet_id if qos else 0))
                else:
                    packets.append(Subscribe(packet_id, (request_for(topic, 0),)))
            client.send(*packets)
            while driver.held:
                driver.answer_hooks()
        seen.append((client.take(), client.close_reason, driver.engine.stats.publishes_received))
    assert seen[0] == seen[1]
