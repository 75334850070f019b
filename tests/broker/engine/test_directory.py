"""Sessions as operators see them: pages, figures, the kick."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.engine import (
    count_receivers,
    directory,
    kick,
    page_of_client_ids,
    session_info,
    subscriptions_of,
)
from broker.protocol.packets import (
    V3_1_1,
    V5,
    ClientId,
    Disconnect,
    SubscriptionRequest,
    TopicFilter,
    TopicName,
)
from broker.protocol.reason_codes import ReasonCode
from fakes import EngineDriver
from fakes_client import will


def page(driver: EngineDriver, after: str, limit: int, tenant: str = "default") -> list[str]:
    found: list[ClientId] = []
    for _ in page_of_client_ids(driver.engine.state, tenant, after=after, limit=limit, page=found):
        pass
    return list(found)


@settings(max_examples=30)
@given(names=st.sets(st.text("abc", min_size=1, max_size=4), max_size=20), limit=st.integers(1, 7))
def test_pages_one_after_the_other_give_every_client_once_in_order(names: set[str], limit: int) -> None:
    driver = EngineDriver(is_durable=False)
    for name in names:
        driver.connect(name)
    driver.connect("zzz", tenant="other")
    listed: list[str] = []
    while found := page(driver, listed[-1] if listed else "", limit):
        assert len(found) <= limit
        listed += found
    assert listed == sorted(names)


def test_a_long_list_is_walked_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "_SLICE", 2)
    driver = EngineDriver(is_durable=False)
    for name in "edcba":
        driver.connect(name)
    found: list[ClientId] = []
    walk = page_of_client_ids(driver.engine.state, "default", after="a", limit=3, page=found)
    assert len(list(walk)) == 2
    assert found == ["b", "c", "d"]


def test_a_session_is_told_with_its_connection_and_without() -> None:
    driver = EngineDriver()
    opened_at = driver.now
    client = driver.connect("c", expiry=100)
    client.subscribe(b"a/#", b"b", qos=1)
    info = session_info(driver.engine.state, "default", "c")
    assert info is not None
    assert (info.is_connected, info.since, info.protocol_version) == (True, opened_at, V5)
    assert (info.peer_address, info.listener, info.subscriptions) == ("192.0.2.1", "test", 2)
    driver.sleep(5)
    client.lose()
    driver.publish(b"b", b"12345", qos=1)
    away = session_info(driver.engine.state, "default", "c")
    assert away is not None
    assert (away.is_connected, away.since, away.expiry_interval_s) == (False, driver.now, 100)
    assert (away.pending_messages, away.pending_bytes, away.peer_address) == (1, 6, None)
    assert [each.topic_filter for each in subscriptions_of(driver.engine.state, "default", "c")] == [
        b"a/#",
        b"b",
    ]
    assert session_info(driver.engine.state, "other", "c") is None


@pytest.mark.parametrize("version", [V3_1_1, V5])
def test_a_kicked_client_is_told_and_its_session_kept(version: int) -> None:
    driver = EngineDriver()
    client = driver.connect("c", version, is_clean_start=version == V5, expiry=100)
    assert kick(driver.engine.state, "default", "c", is_end=False, now=driver.now)
    driver.settle()
    expected = [Disconnect(ReasonCode.ADMINISTRATIVE_ACTION)] if version == V5 else []
    assert client.take() == expected
    assert client.close_reason is ReasonCode.ADMINISTRATIVE_ACTION
    assert page(driver, "", 9) == ["c"]


@pytest.mark.parametrize("is_connected", [True, False])
def test_a_kick_can_end_the_session_connected_or_not_and_the_store_forgets_it(is_connected: bool) -> None:
    driver = EngineDriver()
    watcher = driver.connect("w")
    watcher.subscribe(b"will")
    client = driver.connect("c", expiry=100, will=will(b"will", b"gone", delay=50))
    client.subscribe(b"t", qos=1)
    if not is_connected:
        client.lose()
    assert kick(driver.engine.state, "default", "c", is_end=True, now=driver.now)
    driver.settle()
    assert page(driver, "", 9) == ["w"]
    assert [message.payload for message in watcher.messages()] == [b"gone"]
    assert [kept.row.client_id for kept in driver.snapshot().sessions.values()] == []


def test_nobody_is_kicked_in_another_tenant() -> None:
    driver = EngineDriver()
    client = driver.connect("c", tenant="red")
    assert not kick(driver.engine.state, "blue", "c", is_end=True, now=driver.now)
    assert client.close_reason is None


def test_receivers_are_counted_as_they_would_be_served() -> None:
    driver = EngineDriver()
    one, two, three = (driver.connect(name) for name in "123")
    one.subscribe(b"t", b"#")
    two.subscribe(b"$share/g/t")
    three.subscribe(b"$share/g/t", SubscriptionRequest(TopicFilter(b"t"), is_no_local=True))
    state, topic = driver.engine.state, TopicName(b"t")
    assert count_receivers(state, "default", topic, None) == 3
    assert count_receivers(state, "default", topic, "3") == 2
    assert count_receivers(state, "other", topic, None) == 0
