"""PUBLISH from Clients to Clients: QoS, Subscriptions, Properties, versions, refusals."""

import pytest

from broker.protocol.packets import (
    V3_1_1,
    V5,
    Disconnect,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    TopicName,
)
from broker.protocol.properties import Properties
from broker.protocol.reason_codes import ReasonCode
from fakes import EngineDriver, FakePermissions
from fakes_client import request_for

_VERSIONS = pytest.mark.parametrize("version", [V3_1_1, V5])
_T = TopicName(b"t")


@pytest.mark.parametrize("from_version", [V3_1_1, V5])
@pytest.mark.parametrize("to_version", [V3_1_1, V5])
@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("subscribed", [0, 1, 2])
@pytest.mark.parametrize("is_durable", [False, True])
def test_a_message_travels_at_the_lower_qos(
    from_version: int, to_version: int, published: int, subscribed: int, is_durable: bool
) -> None:
    driver = EngineDriver()
    receiver = driver.connect("r", to_version, is_clean_start=not is_durable, expiry=100 * is_durable)
    receiver.subscribe(b"t", qos=subscribed)
    sender = driver.connect("s", from_version)
    sender.publish(b"t", b"m", qos=published)
    messages = receiver.acknowledge_all()
    assert [(message.topic, message.payload) for message in messages] == [(b"t", b"m")]
    assert messages[0].qos == min(published, subscribed)
    assert not messages[0].is_retain
    assert not sender.acknowledge_all()
    assert driver.engine.state.tenants["default"].sessions["r"].in_flight == {}  # type: ignore[index]


def test_each_qos_has_its_answers() -> None:
    driver = EngineDriver()
    driver.connect("r").subscribe(b"t", qos=2)
    sender = driver.connect("s")
    sender.publish(b"t", qos=0)
    assert sender.take() == []
    packet_id = sender.publish(b"t", qos=1)
    assert sender.take() == [PubAck(packet_id)]
    packet_id = sender.publish(b"t", qos=2)
    assert sender.take() == [PubRec(packet_id)]
    sender.send(PubRel(packet_id))
    assert sender.take() == [PubComp(packet_id)]


def test_a_qos_2_message_that_comes_again_before_its_release_is_the_same() -> None:
    driver = EngineDriver()
    receiver = driver.connect("r")
    receiver.subscribe(b"t")
    sender = driver.connect("s")
    message = Publish(_T, b"m", 2, packet_id=5)
    again = Publish(_T, b"m", 2, is_dup=True, packet_id=5)
    sender.send(message, again)
    assert sender.take() == [PubRec(5), PubRec(5)]
    assert receiver.payloads() == [b"m"]
    sender.send(PubRel(5), message)
    assert sender.take() == [PubComp(5), PubRec(5)]
    assert receiver.payloads() == [b"m"]


def test_a_qos_2_packet_id_is_known_across_connections() -> None:
    driver = EngineDriver()
    receiver = driver.connect("r")
    receiver.subscribe(b"t")
    sender = driver.connect("s", expiry=100)
    sender.send(Publish(_T, b"m", 2, packet_id=5))
    sender.lose()
    sender = driver.connect("s", is_clean_start=False, expiry=100)
    sender.send(Publish(_T, b"m", 2, is_dup=True, packet_id=5), PubRel(5))
    assert sender.take() == [PubRec(5), PubComp(5)]
    assert receiver.payloads() == [b"m"]


def test_an_unknown_packet_id_is_answered_as_not_found() -> None:
    client = EngineDriver().connect()
    client.send(PubRel(9), PubRec(9), PubAck(9), PubComp(9))
    not_found = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
    assert client.take() == [PubComp(9, not_found), PubRel(9, not_found)]
    assert not client.is_closed


def test_an_old_client_learns_of_an_unknown_packet_id_without_a_reason() -> None:
    client = EngineDriver().connect("c", V3_1_1)
    client.send(PubRel(9), PubRec(9))
    assert client.take() == [PubComp(9), PubRel(9)]


def test_a_v5_publisher_is_told_that_nobody_listens() -> None:
    driver = EngineDriver()
    sender = driver.connect("s")
    nobody = ReasonCode.NO_MATCHING_SUBSCRIBERS
    sender.send(Publish(_T, b"", 1, packet_id=1), Publish(_T, b"", 2, packet_id=2))
    assert sender.take() == [PubAck(1, nobody), PubRec(2, nobody)]
    old = driver.connect("o", V3_1_1)
    old.send(Publish(_T, b"", 1, packet_id=1))
    assert old.take() == [PubAck(1)]


def test_overlapping_subscriptions_bring_one_copy_with_the_highest_qos_and_all_identifiers() -> None:
    driver = EngineDriver()
    receiver = driver.connect("r")
    receiver.subscribe(b"a/b", qos=0, identifier=1)
    receiver.subscribe(b"a/+", qos=2, identifier=2)
    receiver.subscribe(b"#", qos=1)
    driver.connect("s").publish(b"a/b", b"m", qos=2)
    messages = receiver.messages()
    assert [(message.payload, message.qos) for message in messages] == [(b"m", 2)]
    assert sorted(messages[0].properties.subscription_identifiers) == [1, 2]


def test_subscription_identifiers_are_each_receivers_own() -> None:
    driver = EngineDriver()
    first, second, old = driver.connect("1"), driver.connect("2"), driver.connect("3", V3_1_1)
    first.subscribe(b"t", identifier=11)
    second.subscribe(b"t", identifier=268_435_455)
    old.subscribe(b"t")
    driver.connect("s").publish(b"t", b"m")
    assert first.messages()[0].properties.subscription_identifiers == (11,)
    assert second.messages()[0].properties.subscription_identifiers == (268_435_455,)
    assert old.payloads() == [b"m"]


def test_a_new_subscription_replaces_the_one_with_its_filter() -> None:
    driver = EngineDriver()
    receiver = driver.connect("r")
    receiver.subscribe(b"t", qos=2, identifier=1)
    receiver.subscribe(b"t", qos=0)
    driver.connect("s").publish(b"t", b"m", qos=2)
    (message,) = receiver.messages()
    assert (message.qos, message.properties.subscription_identifiers) == (0, ())


@pytest.mark.parametrize("order", [("own", "other"), ("other", "own")])
@pytest.mark.parametrize("qos", [0, 1])
def test_no_local_keeps_a_clients_own_messages_from_it_and_only_those(
    order: tuple[str, str], qos: int
) -> None:
    driver = EngineDriver()
    own, other = driver.connect("own"), driver.connect("other")
    own.subscribe(request_for(b"t", 1, is_no_local=True))
    other.subscribe(b"t")
    for _ in range(2):
        for name in order:
            (own if name == "own" else other).publish(b"t", name.encode(), qos=qos)
    assert own.payloads() == [b"other"] * 2
    assert other.payloads() == [name.encode() for name in order] * 2


def test_no_local_leaves_another_subscription_of_the_client_as_it_is() -> None:
    client = EngineDriver().connect()
    client.subscribe(request_for(b"a/#", 1, is_no_local=True), request_for(b"a/b", 0))
    client.publish(b"a/b", b"m", qos=1)
    assert [message.qos for message in client.messages()] == [0]


def test_retain_travels_as_published_only_where_that_was_asked_for() -> None:
    driver = EngineDriver()
    as_published, usual, old = driver.connect("1"), driver.connect("2"), driver.connect("3", V3_1_1)
    as_published.subscribe(request_for(b"t", is_retain_as_published=True))
    usual.subscribe(b"t")
    old.subscribe(b"t")
    driver.connect("s").publish(b"t", b"m", is_retain=True)
    assert [message.is_retain for message in as_published.messages()] == [True]
    assert [message.is_retain for message in usual.messages()] == [False]
    assert [message.is_retain for message in old.messages()] == [False]


def test_properties_of_a_message_reach_v5_receivers_unaltered() -> None:
    driver = EngineDriver()
    receiver, old = driver.connect("r"), driver.connect("o", V3_1_1)
    receiver.subscribe(b"t")
    old.subscribe(b"t")
    properties = Properties(
        payload_format_indicator=1,
        content_type="text/plain",
        response_topic="answers",
        correlation_data=b"\x00\x01",
        user_properties=(("b", "2"), ("a", "1"), ("b", "2")),
    )
    driver.connect("s").publish(b"t", b"m", properties=properties)
    assert receiver.messages()[0].properties == properties
    assert old.payloads() == [b"m"]


def test_a_topic_alias_ends_at_the_broker() -> None:
    driver = EngineDriver(topic_alias_maximum=1)
    receiver = driver.connect("r")
    receiver.subscribe(b"t")
    sender = driver.connect("s")
    sender.publish(b"t", b"1", properties=Properties(topic_alias=1))
    sender.publish(b"", b"2", properties=Properties(topic_alias=1))
    assert [(message.topic, message.payload) for message in receiver.received] == [  # type: ignore[union-attr]
        (b"t", b"1"),
        (b"t", b"2"),
    ]
    assert all(message.properties == Properties() for message in receiver.messages())
    sender.publish(b"t", properties=Properties(topic_alias=2))
    assert sender.take() == [Disconnect(ReasonCode.TOPIC_ALIAS_INVALID)]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_receiver_learns_how_long_a_message_still_holds(qos: int) -> None:
    driver = EngineDriver()
    offline = driver.connect("r", expiry=1000)
    offline.subscribe(b"t", qos=2)
    online = driver.connect("o")
    online.subscribe(b"t", qos=2)
    offline.lose()
    driver.connect("s").publish(b"t", b"m", qos=qos, properties=Properties(message_expiry_interval=60))
    assert online.messages()[0].properties.message_expiry_interval == 60
    driver.sleep(25)
    back = driver.connect("r", is_clean_start=False, expiry=1000)
    remaining = [message.properties.message_expiry_interval for message in back.messages()]
    assert remaining == ([35] if qos else [])


def test_a_message_that_expired_while_it_waited_is_not_delivered() -> None:
    driver = EngineDriver()
    receiver = driver.connect("r", expiry=1000)
    receiver.subscribe(b"t", qos=1)
    receiver.lose()
    driver.connect("s").publish(b"t", b"m", qos=1, properties=Properties(message_expiry_interval=60))
    driver.sleep(60)
    assert driver.connect("r", is_clean_start=False, expiry=1000).messages() == []
    assert driver.engine.stats.sessions.dropped_expired == 1
    driver.take_down()
    assert driver.connect("r", is_clean_start=False, expiry=1000).messages() == []


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("is_durable", [False, True])
def test_a_message_too_large_for_one_receiver_reaches_the_others(qos: int, is_durable: bool) -> None:
    driver = EngineDriver()
    small = driver.connect("small", maximum_packet_size=50, expiry=100 * is_durable)
    large = driver.connect("large")
    for receiver in (small, large):
        receiver.subscribe(b"t", qos=qos)
    sender = driver.connect("s")
    sender.publish(b"t", b"x" * 100, qos=qos)
    sender.publish(b"t", b"fits", qos=qos)
    assert [message.payload for message in small.acknowledge_all()] == [b"fits"]
    assert [message.payload for message in large.acknowledge_all()] == [b"x" * 100, b"fits"]
    assert driver.engine.stats.sessions.dropped_too_large == 1
    assert not driver.engine.state.tenants["default"].sessions["small"].in_flight  # type: ignore[index]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_an_old_client_that_publishes_what_it_may_not_is_closed(qos: int) -> None:
    driver = EngineDriver()
    driver.permissions["c"] = FakePermissions(no_publish=(b"t",))
    receiver = driver.connect("r")
    receiver.subscribe(b"t")
    client = driver.connect("c", V3_1_1)
    client.publish(b"t", b"m", qos=qos)
    assert client.take() == []
    assert client.close_reason is ReasonCode.NOT_AUTHORIZED
    assert receiver.take() == []


def test_a_v5_client_learns_from_the_acknowledgement_that_it_may_not_publish() -> None:
    driver = EngineDriver()
    driver.permissions["c"] = FakePermissions(no_publish=(b"t",))
    client = driver.connect("c")
    client.send(Publish(_T, b"", 1, packet_id=1), Publish(_T, b"", 2, packet_id=2))
    assert client.take() == [
        PubAck(1, ReasonCode.NOT_AUTHORIZED),
        PubRec(2, ReasonCode.NOT_AUTHORIZED),
    ]
    assert not client.connection.attached.inbound
    assert driver.engine.stats.publishes_denied == 2
    client.publish(b"t", qos=0)
    assert client.take() == [Disconnect(ReasonCode.NOT_AUTHORIZED)]


def test_a_client_that_may_publish_may_still_be_forbidden_to_retain() -> None:
    driver = EngineDriver()
    driver.permissions["c"] = FakePermissions(no_retain=(b"t",))
    client = driver.connect("c")
    client.send(Publish(_T, b"m", 1, is_retain=True, packet_id=1), Publish(_T, b"m", 1, packet_id=2))
    first, second = client.take()
    assert first == PubAck(1, ReasonCode.NOT_AUTHORIZED)
    assert second == PubAck(2, ReasonCode.NO_MATCHING_SUBSCRIBERS)
    assert len(driver.engine.state.tenants["default"].retained) == 0


def test_what_a_subscriber_may_not_receive_is_held_back() -> None:
    driver = EngineDriver()
    driver.permissions["r"] = FakePermissions(no_receive=(b"secret",))
    receiver = driver.connect("r")
    receiver.subscribe(b"#")
    sender = driver.connect("s")
    sender.publish(b"secret", b"1")
    sender.publish(b"open", b"2")
    assert receiver.payloads() == [b"2"]


@pytest.mark.parametrize("topic", [b"a/b/c", b"x" * 11])
def test_a_topic_beyond_our_limits_ends_the_connection(topic: bytes) -> None:
    client = EngineDriver(topic_levels_maximum=2, topic_bytes_maximum=10).connect()
    client.publish(topic)
    assert client.take() == [Disconnect(ReasonCode.TOPIC_NAME_INVALID)]


def test_a_topic_at_our_limits_is_fine() -> None:
    client = EngineDriver(topic_levels_maximum=2, topic_bytes_maximum=3).connect()
    client.publish(b"a/b")
    assert not client.is_closed


def test_a_v5_client_that_ignores_our_receive_maximum_is_closed() -> None:
    client = EngineDriver(receive_maximum=2).connect()
    for packet_id in (1, 2):
        client.send(Publish(_T, b"", 2, packet_id=packet_id))
    assert not client.is_closed
    client.send(PubRel(1), Publish(_T, b"", 2, packet_id=3))
    assert not client.is_closed
    client.take()
    client.send(Publish(_T, b"", 1, packet_id=4))
    assert client.take() == [Disconnect(ReasonCode.RECEIVE_MAXIMUM_EXCEEDED)]


def test_a_clients_receive_maximum_bounds_what_is_in_flight() -> None:
    driver = EngineDriver()
    receiver = driver.connect("r", receive_maximum=2)
    receiver.subscribe(b"t", qos=1)
    sender = driver.connect("s")
    for number in range(5):
        sender.publish(b"t", b"%d" % number, qos=1)
    first = receiver.messages()
    assert [message.payload for message in first] == [b"0", b"1"]
    receiver.send(PubAck(first[0].packet_id))
    assert receiver.payloads() == [b"2"]


def test_qos_0_messages_are_not_bounded_by_the_receive_maximum() -> None:
    driver = EngineDriver()
    receiver = driver.connect("r", receive_maximum=1)
    receiver.subscribe(b"t", qos=1)
    sender = driver.connect("s")
    sender.publish(b"t", b"1", qos=1)
    sender.publish(b"t", b"2", qos=1)
    sender.publish(b"t", b"3", qos=0)
    assert receiver.payloads() == [b"1", b"3"]


@_VERSIONS
def test_subscriptions_that_come_and_go_decide_the_very_next_message(version: int) -> None:
    driver = EngineDriver()
    receiver, sender = driver.connect("r", version), driver.connect("s", version)
    sender.publish(b"t", b"0")
    receiver.subscribe(b"t")
    sender.publish(b"t", b"1")
    receiver.unsubscribe(b"t")
    sender.publish(b"t", b"2")
    assert receiver.payloads() == [b"1"]


def test_topics_longer_than_what_is_remembered_are_routed_like_others() -> None:
    driver = EngineDriver()
    receiver = driver.connect("r")
    receiver.subscribe(b"#")
    sender = driver.connect("s")
    for _ in range(2):
        sender.publish(b"x" * 1000, b"m")
    assert receiver.payloads() == [b"m", b"m"]
    assert not sender.connection.routes


def test_what_is_remembered_of_a_publisher_is_bounded() -> None:
    driver = EngineDriver(route_cache_maximum=100)
    sender = driver.connect("s")
    for number in range(3000):
        sender.publish(b"%d" % number)
    assert len(sender.connection.routes) <= 1024
    assert len(driver.engine.state.tenants["default"].audiences) <= 100
