"""Retained messages: kept, replaced, cleared, expired, and sent to new Subscriptions."""

import pytest

from broker.protocol.codec import encode_packet
from broker.protocol.packets import (
    V3_1_1,
    V5,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    SubscriptionRequest,
    TopicFilter,
    TopicName,
)
from broker.protocol.properties import Properties
from broker.protocol.reason_codes import ReasonCode
from fakes import EngineDriver, FakePermissions
from fakes_client import request_for

_VERSIONS = pytest.mark.parametrize("version", [V3_1_1, V5])


@_VERSIONS
def test_a_new_subscription_brings_the_retained_message(version: int) -> None:
    driver = EngineDriver()
    driver.connect("s", version).publish(b"a/b", b"m", qos=1, is_retain=True)
    receiver = driver.connect("r", version)
    receiver.subscribe(b"a/+", qos=2)
    (message,) = receiver.acknowledge_all()
    assert (message.topic, message.payload, message.qos, message.is_retain) == (b"a/b", b"m", 1, True)


def test_the_answer_comes_before_the_retained_messages() -> None:
    driver = EngineDriver()
    driver.connect("s").publish(b"t", b"m", is_retain=True)
    receiver = driver.connect("r")
    receiver.send(Subscribe(1, (request_for(b"t"),)))
    assert [type(packet) for packet in receiver.take()] == [SubAck, Publish]


def test_the_last_retained_message_of_a_topic_holds() -> None:
    driver = EngineDriver()
    sender = driver.connect("s")
    for payload in (b"1", b"2"):
        sender.publish(b"t", payload, is_retain=True)
    sender.publish(b"t", b"3")
    receiver = driver.connect("r")
    receiver.subscribe(b"t")
    assert receiver.payloads() == [b"2"]


def test_an_empty_retained_message_clears_the_topic_and_is_delivered_itself() -> None:
    driver = EngineDriver()
    sender, watcher = driver.connect("s"), driver.connect("w")
    sender.publish(b"t", b"m", is_retain=True)
    watcher.subscribe(request_for(b"t", retain_handling=2, is_retain_as_published=True))
    sender.publish(b"t", b"", is_retain=True)
    assert [(message.payload, message.is_retain) for message in watcher.messages()] == [(b"", True)]
    receiver = driver.connect("r")
    receiver.subscribe(b"t")
    assert receiver.messages() == []
    assert driver.snapshot().retained == {}


@pytest.mark.parametrize(("retain_handling", "again"), [(0, [b"m"]), (1, []), (2, [])])
def test_retain_handling_decides_what_a_repeated_subscription_brings(
    retain_handling: int, again: list[bytes]
) -> None:
    driver = EngineDriver()
    driver.connect("s").publish(b"t", b"m", is_retain=True)
    receiver = driver.connect("r")
    request = request_for(b"t", retain_handling=retain_handling)
    receiver.subscribe(request)
    assert receiver.payloads() == ([b"m"] if retain_handling < 2 else [])
    receiver.subscribe(request)
    assert receiver.payloads() == again
    receiver.subscribe(request_for(b"t", 1, retain_handling=retain_handling))
    assert receiver.payloads() == again
    receiver.unsubscribe(b"t")
    receiver.take()
    receiver.subscribe(request)
    assert receiver.payloads() == ([b"m"] if retain_handling < 2 else [])


def test_a_shared_subscription_brings_no_retained_messages() -> None:
    driver = EngineDriver()
    driver.connect("s").publish(b"t", b"m", is_retain=True)
    receiver = driver.connect("r")
    receiver.subscribe(b"$share/g/t")
    assert receiver.messages() == []


def test_a_retained_message_carries_the_identifier_of_its_subscription() -> None:
    driver = EngineDriver()
    driver.connect("s").publish(b"t", b"m", is_retain=True)
    receiver = driver.connect("r")
    receiver.subscribe(b"t", b"#", identifier=7)
    assert [message.properties.subscription_identifiers for message in receiver.messages()] == [(7,), (7,)]


def test_a_retained_message_tells_its_remaining_time_and_is_gone_after_it() -> None:
    driver = EngineDriver()
    properties = Properties(message_expiry_interval=60)
    driver.connect("s").publish(b"t", b"m", is_retain=True, properties=properties)
    driver.sleep(45)
    receiver = driver.connect("r")
    receiver.subscribe(b"t")
    assert receiver.messages()[0].properties.message_expiry_interval == 15
    driver.sleep(15)
    receiver.subscribe(b"#")
    assert receiver.messages() == []
    assert driver.snapshot().retained == {}


def test_retained_messages_on_forbidden_topics_are_held_back() -> None:
    driver = EngineDriver()
    sender = driver.connect("s")
    for topic in (b"open", b"secret"):
        sender.publish(topic, topic, is_retain=True)
    driver.permissions["r"] = FakePermissions(no_receive=(b"secret",))
    receiver = driver.connect("r")
    receiver.subscribe(b"#")
    assert receiver.payloads() == [b"open"]


def test_retained_messages_are_limited_in_number() -> None:
    driver = EngineDriver(retained_messages_maximum=1)
    watcher, sender = driver.connect("w"), driver.connect("s")
    watcher.subscribe(b"#")
    sender.publish(b"1", b"m", is_retain=True)
    sender.publish(b"2", b"m", is_retain=True)
    sender.publish(b"1", b"replaced", is_retain=True)
    assert watcher.payloads() == [b"m", b"m", b"replaced"]
    receiver = driver.connect("r")
    receiver.subscribe(b"#")
    assert receiver.payloads() == [b"replaced"]
    assert driver.engine.stats.retained_refused == 1


@pytest.mark.parametrize("qos", [0, 1])
def test_thousands_of_retained_messages_come_in_slices_and_completely(qos: int) -> None:
    driver = EngineDriver(in_flight_maximum=65_535)
    for number in range(2_600):
        driver.publish(b"t/%d" % number, b"%d" % number, qos=qos, is_retain=True)
    receiver = driver.connect("r")
    driver.engine.receive(receiver.connection, b"\x82\x09\x00\x01\x00\x00\x03t/#" + b"%c" % qos, driver.now)
    seen = []
    while driver.turn():
        seen.append(len(receiver.messages()))
    assert seen[:5] == [500, 500, 500, 500, 500]
    assert sum(seen) + len(receiver.messages()) == 2_600


def test_a_slice_is_limited_in_bytes() -> None:
    driver = EngineDriver(write_buffer_high_bytes=10_000)
    for number in range(20):
        driver.publish(b"t/%d" % number, b"x" * 5_000, is_retain=True)
    receiver = driver.connect("r")
    driver.engine.receive(receiver.connection, b"\x82\x09\x00\x01\x00\x00\x03t/#\x00", driver.now)
    driver.turn()
    assert 2 <= len(receiver.messages()) <= 3
    driver.settle()
    assert len(receiver.messages()) >= 17


def test_retained_messages_wait_for_a_client_that_takes_nothing() -> None:
    driver = EngineDriver()
    for number in range(1200):
        driver.publish(b"t/%d" % number, b"m", is_retain=True)
    receiver = driver.connect("r")
    subscribe = Subscribe(1, (request_for(b"t/#", 0),))
    driver.engine.receive(receiver.connection, encode_packet(subscribe, V5), driver.now)
    driver.turn()
    receiver.set_writable(False)
    sent = len(receiver.messages())
    assert 0 < sent < 1200
    receiver.set_writable(True)
    assert sent + len(receiver.messages()) == 1200


def test_retained_messages_wait_for_the_receive_maximum() -> None:
    driver = EngineDriver(pending_messages_maximum=5)
    for number in range(50):
        driver.publish(b"t/%d" % number, b"m", qos=1, is_retain=True)
    receiver = driver.connect("r", receive_maximum=2)
    receiver.subscribe(b"t/#", qos=1)
    assert len(receiver.connection.attached.in_flight) == 2
    assert len(receiver.acknowledge_all()) == 50
    assert driver.engine.stats.sessions.dropped_pending_full == 0


def test_a_message_replaced_before_its_turn_does_not_follow_its_successor() -> None:
    driver = EngineDriver()
    for number in range(10):
        driver.publish(b"t/%d" % number, b"old", is_retain=True)
    receiver = driver.connect("r", receive_maximum=1)
    driver.publish(b"q", b"first", qos=1, is_retain=True)
    driver.publish(b"q/2", b"second", qos=1, is_retain=True)
    receiver.subscribe(b"q/#", b"t/#", qos=1)
    driver.publish(b"t/3", b"new", is_retain=True)
    driver.publish(b"t/4", b"", is_retain=True)
    received = [(message.topic, message.payload) for message in receiver.acknowledge_all()]
    after = received[received.index((TopicName(b"t/3"), b"new")) :]
    assert (TopicName(b"t/3"), b"old") not in after
    assert (TopicName(b"t/4"), b"old") not in received


def test_what_was_unsubscribed_brings_no_more_retained_messages() -> None:
    driver = EngineDriver()
    for number in range(10):
        driver.publish(b"t/%d" % number, b"m", qos=1, is_retain=True)
    receiver = driver.connect("r", receive_maximum=1)
    receiver.subscribe(b"t/#", qos=1)
    first, second = receiver.messages()[0], receiver.connection.attached.pending_messages
    receiver.unsubscribe(b"t/#")
    receiver.send(PubAck(first.packet_id))
    assert len(receiver.acknowledge_all()) <= second
    assert not receiver.connection.backlog


def test_who_subscribes_again_and_again_without_reading_costs_no_more_memory() -> None:
    driver = EngineDriver()
    for number in range(1200):
        driver.publish(b"t/%d" % number, b"m", is_retain=True)
    receiver = driver.connect("r")
    subscribe = Subscribe(1, (request_for(b"#", 0),))
    driver.engine.receive(receiver.connection, encode_packet(subscribe, V5) * 100, driver.now)
    driver.turn()
    assert len(receiver.connection.backlog) == 1


@pytest.mark.parametrize("topic_filter", [b"a/b/c", b"x" * 11])
def test_a_filter_beyond_our_limits_is_refused(topic_filter: bytes) -> None:
    driver = EngineDriver(topic_levels_maximum=2, topic_bytes_maximum=10)
    client = driver.connect()
    answer = client.subscribe(topic_filter, b"t", qos=1)
    assert answer.reason_codes == (ReasonCode.TOPIC_FILTER_INVALID, ReasonCode.GRANTED_QOS_1)


def test_a_subscription_may_be_refused_limited_or_too_many() -> None:
    driver = EngineDriver(subscriptions_maximum=1)
    driver.permissions["c"] = FakePermissions(no_subscribe=(b"secret",), maximum_qos=1)
    client = driver.connect("c")
    assert client.subscribe(b"secret", b"$share/g/secret", b"t", b"t", b"u", qos=2).reason_codes == (
        ReasonCode.NOT_AUTHORIZED,
        ReasonCode.NOT_AUTHORIZED,
        ReasonCode.GRANTED_QOS_1,
        ReasonCode.GRANTED_QOS_1,
        ReasonCode.QUOTA_EXCEEDED,
    )


def test_too_many_filters_in_one_packet_end_the_connection() -> None:
    driver = EngineDriver(filters_per_subscribe_maximum=2)
    client = driver.connect("c")
    client.unsubscribe(b"1", b"2")
    assert not client.is_closed
    client.unsubscribe(b"1", b"2", b"3")
    assert client.close_reason is ReasonCode.PROTOCOL_ERROR
    client = driver.connect("c")
    client.send(Subscribe(1, tuple(map(request_for, (b"1", b"2", b"3")))))
    assert client.close_reason is ReasonCode.PROTOCOL_ERROR


def test_an_expired_message_makes_room_though_nobody_looks_for_it() -> None:
    driver = EngineDriver(retained_messages_maximum=1)
    sender = driver.connect("s")
    sender.publish(b"a", b"m", is_retain=True, properties=Properties(message_expiry_interval=10))
    sender.publish(b"b", b"m", is_retain=True)
    assert driver.engine.stats.retained_refused == 1
    driver.sleep(11)
    assert driver.snapshot().retained == {}
    sender.publish(b"b", b"m", is_retain=True)
    assert driver.engine.stats.retained_refused == 1


def test_a_message_that_replaces_an_expiring_one_stays() -> None:
    driver = EngineDriver()
    sender = driver.connect("s")
    sender.publish(b"t", b"old", is_retain=True, properties=Properties(message_expiry_interval=10))
    sender.publish(b"t", b"new", is_retain=True)
    driver.sleep(20)
    receiver = driver.connect("r")
    receiver.subscribe(b"t")
    assert [message.payload for message in receiver.messages()] == [b"new"]
    assert not driver.engine.state.tenant("default").expiries


def test_a_message_expires_after_a_restart_too() -> None:
    driver = EngineDriver()
    properties = Properties(message_expiry_interval=10)
    driver.connect("s").publish(b"t", b"m", is_retain=True, properties=properties)
    driver.take_down()
    driver.sleep(11)
    assert driver.snapshot().retained == {}


def test_a_client_with_no_local_does_not_get_its_own_retained_message() -> None:
    driver = EngineDriver()
    client, other = driver.connect("c"), driver.connect("o")
    client.publish(b"t/own", b"m", is_retain=True)
    other.publish(b"t/other", b"m", is_retain=True)
    client.subscribe(SubscriptionRequest(TopicFilter(b"t/+"), is_no_local=True))
    assert [message.topic for message in client.messages()] == [b"t/other"]
