"""How fast one client may publish: delayed first, closed if it goes on."""

from broker.protocol.packets import V3_1_1, Disconnect, Publish, TopicName
from broker.protocol.reason_codes import ReasonCode
from fakes import EngineDriver
from fakes_client import FakeClient


def _burst(client: FakeClient, count: int) -> None:
    client.send(*[Publish(TopicName(b"t"), b"m")] * count)


def test_a_client_within_its_rate_is_never_held() -> None:
    driver = EngineDriver(publish_rate_maximum=10)
    client = driver.connect("c", V3_1_1)
    driver.sleep(1)
    for _ in range(20):
        _burst(client, 10)
        assert not client.is_paused
        driver.sleep(1)
    assert driver.engine.stats.publish_rate_holds == 0


def test_a_faster_client_is_read_again_when_it_has_waited_its_time() -> None:
    driver = EngineDriver(publish_rate_maximum=10)
    reader = driver.connect("r", V3_1_1)
    reader.subscribe(b"t")
    client = driver.connect("c", V3_1_1)
    driver.sleep(1)
    _burst(client, 30)
    assert len(reader.take()) == 30, "what was read is not lost"
    assert client.is_paused
    driver.sleep(1.5)
    assert client.is_paused
    driver.sleep(1)
    assert not client.is_paused
    assert driver.engine.stats.publish_rate_holds == 1


def test_a_client_that_stays_too_fast_is_closed() -> None:
    driver = EngineDriver(publish_rate_maximum=10, publish_rate_patience_s=5)
    client = driver.connect("c")
    for _ in range(10):
        _burst(client, 30)
        driver.sleep(3)
        if client.is_closed:
            break
    assert client.take() == [Disconnect(ReasonCode.MESSAGE_RATE_TOO_HIGH)]
    assert driver.engine.stats.publish_rate_closes == 1


def test_a_burst_now_and_then_closes_nobody() -> None:
    driver = EngineDriver(publish_rate_maximum=10, publish_rate_patience_s=5)
    client = driver.connect("c")
    for _ in range(20):
        _burst(client, 30)
        driver.sleep(6)
    assert not client.is_closed


def test_without_a_maximum_nobody_is_held() -> None:
    driver = EngineDriver()
    client = driver.connect("c")
    _burst(client, 5000)
    assert not client.is_paused
