"""Wills: when they are published, when not, and what they look like."""

import pytest

from broker.protocol.packets import V3_1_1, V5, SubscriptionRequest, TopicFilter
from broker.protocol.properties import Properties
from broker.protocol.reason_codes import ReasonCode
from fakes import START, EngineDriver
from fakes_client import FakeClient, will

_VERSIONS = pytest.mark.parametrize("version", [V3_1_1, V5])


def _site(version: int = V5) -> tuple[EngineDriver, FakeClient]:
    driver = EngineDriver()
    watcher = driver.connect("watcher", version, is_clean_start=False, expiry=100_000)
    watcher.subscribe(b"will/#", qos=2)
    return driver, watcher


def _wills(watcher: FakeClient) -> list[bytes]:
    return [message.payload for message in watcher.acknowledge_all()]


@_VERSIONS
def test_a_lost_clients_will_is_published(version: int) -> None:
    driver, watcher = _site(version)
    driver.connect("c", version, will=will(b"will/c", b"gone", qos=1)).lose()
    (message,) = watcher.acknowledge_all()
    assert (message.topic, message.payload, message.qos, message.is_retain) == (b"will/c", b"gone", 1, False)


@_VERSIONS
def test_a_client_that_says_good_bye_takes_its_will_with_it(version: int) -> None:
    driver, watcher = _site(version)
    client = driver.connect("c", version, is_clean_start=False, expiry=10, will=will(b"will/c"))
    client.disconnect()
    driver.sleep(100)
    assert _wills(watcher) == []
    assert driver.snapshot().wills == {}


@pytest.mark.parametrize("reason_code", [0x04, 0x80, 0x83, 0x97])
def test_a_v5_client_that_leaves_with_any_other_reason_leaves_its_will(reason_code: int) -> None:
    driver, watcher = _site()
    driver.connect("c", will=will(b"will/c")).disconnect(ReasonCode(reason_code))
    assert _wills(watcher) == [b"gone"]


def test_a_client_that_breaks_the_protocol_leaves_its_will() -> None:
    driver, watcher = _site()
    driver.connect("c", will=will(b"will/c")).send_bytes(b"\x00\x00")
    assert _wills(watcher) == [b"gone"]


def test_silence_publishes_the_will() -> None:
    driver, watcher = _site()
    driver.connect("c", keep_alive=10, will=will(b"will/c"))
    driver.sleep(16)
    assert _wills(watcher) == [b"gone"]


def test_a_retained_will_is_kept() -> None:
    driver, _ = _site()
    driver.connect("c", will=will(b"will/c", b"gone", retain=True)).lose()
    late = driver.connect("late")
    late.subscribe(b"will/c")
    assert [(message.payload, message.is_retain) for message in late.messages()] == [(b"gone", True)]


def test_a_will_waits_for_its_delay() -> None:
    driver, watcher = _site()
    driver.connect("c", expiry=100, will=will(b"will/c", delay=10)).lose()
    driver.sleep(9.9)
    assert _wills(watcher) == []
    driver.sleep(0.5)
    assert _wills(watcher) == [b"gone"]
    driver.sleep(200)
    assert _wills(watcher) == []


def test_a_client_that_comes_back_in_time_keeps_its_will_unsaid() -> None:
    driver, watcher = _site()
    driver.connect("c", expiry=100, will=will(b"will/c", delay=10)).lose()
    driver.sleep(5)
    driver.connect("c", is_clean_start=False, expiry=100).disconnect()
    driver.sleep(200)
    assert _wills(watcher) == []


def test_a_client_that_comes_back_with_a_clean_start_ends_the_session_and_so_the_delay() -> None:
    driver, watcher = _site()
    driver.connect("c", expiry=100, will=will(b"will/c", delay=10)).lose()
    driver.connect("c", is_clean_start=True)
    assert _wills(watcher) == [b"gone"]


def test_a_will_is_published_when_its_session_ends_at_the_latest() -> None:
    driver, watcher = _site()
    driver.connect("c", expiry=5, will=will(b"will/c", delay=100)).lose()
    driver.sleep(5.25)
    assert _wills(watcher) == [b"gone"]
    driver.connect("d", expiry=0, will=will(b"will/d", delay=100)).lose()
    assert _wills(watcher) == [b"gone"]


def test_a_take_over_publishes_a_will_without_delay_and_not_one_with() -> None:
    driver, watcher = _site()
    driver.connect("c", expiry=100, will=will(b"will/c", b"1"))
    driver.connect("c", expiry=100, is_clean_start=False, will=will(b"will/c", b"2", delay=10))
    assert _wills(watcher) == [b"1"]
    driver.connect("c", expiry=100, is_clean_start=False)
    driver.sleep(200)
    assert _wills(watcher) == []


def test_each_connection_has_its_own_will() -> None:
    driver, watcher = _site()
    driver.connect("c", expiry=100, will=will(b"will/c", b"1", delay=10)).lose()
    driver.sleep(5)
    driver.connect("c", is_clean_start=False, expiry=100, will=will(b"will/c", b"2", delay=10)).lose()
    driver.sleep(6)
    assert _wills(watcher) == []
    driver.sleep(5)
    assert _wills(watcher) == [b"2"]


def test_the_expiry_of_a_will_counts_from_its_publication() -> None:
    driver, watcher = _site()
    watcher.lose()
    driver.connect("c", expiry=1000, will=will(b"will/c", qos=1, delay=50, expiry=20)).lose()
    driver.sleep(60)
    back = driver.connect("watcher", is_clean_start=False, expiry=1000)
    (message,) = back.acknowledge_all()
    assert message.properties.message_expiry_interval in (10, 11)
    assert message.properties.will_delay_interval is None


def test_properties_of_a_will_travel_with_it() -> None:
    driver, watcher = _site()
    properties = Properties(content_type="text/plain", user_properties=(("k", "v"),), response_topic="r")
    last = will(b"will/c")
    driver.connect("c", will=type(last)(topic=last.topic, payload=b"", properties=properties)).lose()
    (message,) = watcher.acknowledge_all()
    assert message.properties == properties


def test_a_will_does_not_reach_its_own_session_through_no_local() -> None:
    driver, _ = _site()
    client = driver.connect("c", expiry=100, will=will(b"will/c", qos=1))
    client.subscribe(SubscriptionRequest(TopicFilter(b"will/c"), 1, is_no_local=True))
    client.lose()
    assert driver.connect("c", is_clean_start=False).messages() == []


@pytest.mark.parametrize("expiry", [0, 100])
@pytest.mark.parametrize("delay", [0, 10])
def test_a_will_survives_the_process(expiry: int, delay: int) -> None:
    driver, _ = _site()
    driver.connect("c", expiry=expiry, will=will(b"will/c", qos=1, delay=delay))
    driver.take_down(now=START + 5)
    driver.sleep(11)
    watcher = driver.connect("watcher", is_clean_start=False, expiry=1000)
    assert _wills(watcher) == [b"gone"]
    assert driver.snapshot().wills == {}
    driver.take_down()
    watcher = driver.connect("watcher", is_clean_start=False, expiry=1000)
    assert _wills(watcher) == []


def test_a_delay_that_was_running_goes_on_after_a_restart() -> None:
    driver, _ = _site()
    driver.connect("c", expiry=1000, will=will(b"will/c", qos=1, delay=100)).lose()
    driver.take_down(now=START + 60)
    driver.sleep(39)
    assert driver.engine.stats.wills_published == 0
    driver.sleep(2)
    assert driver.engine.stats.wills_published == 1


def test_a_client_that_comes_back_after_a_restart_keeps_its_will_unsaid() -> None:
    driver, _ = _site()
    driver.connect("c", expiry=1000, will=will(b"will/c", qos=1, delay=100))
    driver.take_down()
    driver.connect("c", is_clean_start=False, expiry=1000)
    driver.sleep(500)
    assert driver.engine.stats.wills_published == 0
    assert driver.snapshot().wills == {}
