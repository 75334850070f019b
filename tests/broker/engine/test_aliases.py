"""Topic Aliases towards Clients that offer them (v5 §3.3.2.3.4, [MQTT-3.1.2-26])."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.protocol.packets import V3_1_1, V5, Publish
from broker.protocol.properties import Properties
from fakes import EngineDriver
from fakes_client import FakeClient

_TOPIC = b"devices/lamp-1/temperature"


def _subscriber(
    driver: EngineDriver,
    client_id: str,
    maximum: int,
    *,
    qos: int = 0,
    maximum_packet_size: int | None = None,
) -> FakeClient:
    client = driver.connect(
        client_id,
        V5,
        properties=Properties(topic_alias_maximum=maximum, maximum_packet_size=maximum_packet_size),
    )
    client.subscribe(b"#", qos=qos)
    return client


def _sent(client: FakeClient) -> list[tuple[bytes, int | None]]:
    packets = client.take()
    assert all(isinstance(packet, Publish) for packet in packets)
    return [
        (packet.topic, packet.properties.topic_alias) for packet in packets if isinstance(packet, Publish)
    ]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_the_first_message_sets_the_alias_and_the_next_ones_use_it(qos: int) -> None:
    driver = EngineDriver()
    subscriber = _subscriber(driver, "s", 1, qos=qos)
    publisher = driver.connect("p", V3_1_1)
    for _ in range(3):
        publisher.publish(_TOPIC, b"m", qos=qos)
    assert _sent(subscriber) == [(_TOPIC, 1), (b"", 1), (b"", 1)]


def test_a_client_that_offers_none_gets_none() -> None:
    driver = EngineDriver()
    subscriber = driver.connect("s", V5)
    subscriber.subscribe(b"#")
    driver.connect("p").publish(_TOPIC, b"m")
    assert _sent(subscriber) == [(_TOPIC, None)]


def test_topics_beyond_the_maximum_and_short_ones_go_without() -> None:
    driver = EngineDriver()
    subscriber = _subscriber(driver, "s", 1)
    publisher = driver.connect("p")
    for topic in (b"t/1", b"long/1", b"long/2", b"long/1"):
        publisher.publish(topic, b"m")
    assert _sent(subscriber) == [(b"t/1", None), (b"long/1", 1), (b"long/2", None), (b"", 1)]


def test_a_message_too_large_for_the_client_sets_no_alias() -> None:
    driver = EngineDriver()
    subscriber = _subscriber(driver, "s", 5, maximum_packet_size=60)
    publisher = driver.connect("p")
    publisher.publish(_TOPIC, bytes(100))
    publisher.publish(_TOPIC, b"m")
    assert _sent(subscriber) == [(_TOPIC, 1)]


def test_aliases_end_with_the_connection() -> None:
    driver = EngineDriver()
    properties = Properties(topic_alias_maximum=5, session_expiry_interval=100)
    subscriber = driver.connect("s", V5, is_clean_start=False, properties=properties)
    subscriber.subscribe(b"#", qos=1)
    publisher = driver.connect("p")
    publisher.publish(_TOPIC, b"1", qos=1)
    subscriber.acknowledge_all()
    subscriber.lose()
    publisher.publish(_TOPIC, b"2", qos=1)
    subscriber = driver.connect("s", V5, is_clean_start=False, properties=properties)
    assert _sent(subscriber) == [(_TOPIC, 1)]


def test_others_still_share_a_frame_without_alias() -> None:
    driver = EngineDriver()
    aliased, plain = _subscriber(driver, "a", 5), driver.connect("b", V5)
    plain.subscribe(b"#")
    publisher = driver.connect("p")
    for _ in range(2):
        publisher.publish(_TOPIC, b"m")
    assert _sent(aliased) == [(_TOPIC, 1), (b"", 1)]
    assert _sent(plain) == [(_TOPIC, None)] * 2


@given(
    maximum=st.integers(1, 4), topics=st.lists(st.sampled_from([b"aaaa", b"bbbb", b"cccc", b"d", b"eeeee"]))
)
def test_a_client_that_follows_the_aliases_reads_every_topic(maximum: int, topics: list[bytes]) -> None:
    driver = EngineDriver()
    subscriber = _subscriber(driver, "s", maximum)
    publisher = driver.connect("p")
    for topic in topics:
        publisher.publish(topic, b"m")
    known: dict[int, bytes] = {}
    read = []
    for topic, alias in _sent(subscriber):
        if alias is not None:
            assert 1 <= alias <= maximum
            known[alias] = topic or known[alias]
        read.append(topic or known[alias or 0])
    assert read == topics
