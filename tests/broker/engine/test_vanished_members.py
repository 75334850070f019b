"""Messages of a Shared Subscription whose chosen member went away (v5 §4.8.2; ruling: QoS 1 only)."""

from broker.protocol.packets import V5, Publish
from broker.protocol.properties import Properties
from fakes import EngineDriver
from fakes_client import FakeClient

_FILTER = b"$share/g/jobs"
_KEPT = Properties(session_expiry_interval=100)


def _member(driver: EngineDriver, client_id: str, qos: int, *, is_kept: bool = True) -> FakeClient:
    properties = _KEPT if is_kept else Properties()
    client = driver.connect(client_id, V5, is_clean_start=not is_kept, properties=properties)
    client.subscribe(_FILTER, qos=qos)
    return client


def _payloads(client: FakeClient) -> list[bytes]:
    return [packet.payload for packet in client.take() if isinstance(packet, Publish)]


def test_an_unacknowledged_message_goes_to_another_member_once_the_connection_is_lost() -> None:
    driver = EngineDriver()
    first = _member(driver, "first", 1)
    driver.connect("p").publish(b"jobs", b"1", qos=1)
    assert _payloads(first) == [b"1"]
    second = _member(driver, "second", 1)
    first.lose()
    assert _payloads(second) == [b"1"]
    back = driver.connect("first", V5, is_clean_start=False, properties=_KEPT)
    assert _payloads(back) == [], "it is the other's now"


def test_without_another_member_it_waits_for_the_session() -> None:
    driver = EngineDriver()
    first = _member(driver, "first", 1)
    driver.connect("p").publish(b"jobs", b"1", qos=1)
    first.lose()
    back = driver.connect("first", V5, is_clean_start=False, properties=_KEPT)
    assert _payloads(back) == [b"1"]


def test_pending_messages_of_an_ended_session_go_to_a_member_that_is_away() -> None:
    driver = EngineDriver()
    first, second = _member(driver, "first", 1, is_kept=False), _member(driver, "second", 1)
    second.lose()
    publisher = driver.connect("p")
    publisher.publish(b"jobs", b"1", qos=1)
    assert _payloads(first) == [b"1"]
    first.lose()
    back = driver.connect("second", V5, is_clean_start=False, properties=_KEPT)
    assert _payloads(back) == [b"1"]


def test_qos_2_waits_for_its_session_and_ends_with_it() -> None:
    driver = EngineDriver()
    first = _member(driver, "first", 2)
    driver.connect("p").publish(b"jobs", b"1", qos=2)
    first.take()
    second = _member(driver, "second", 2)
    first.lose()
    assert _payloads(second) == []
    driver.sleep(101)
    assert _payloads(second) == []


def test_what_was_passed_on_is_not_stored_for_the_first_any_more() -> None:
    driver = EngineDriver()
    first = _member(driver, "first", 1)
    driver.connect("p").publish(b"jobs", b"1", qos=1)
    second = _member(driver, "second", 1)
    first.lose()
    second.take()
    driver.take_down()
    back = driver.connect("first", V5, is_clean_start=False, properties=_KEPT)
    other = driver.connect("second", V5, is_clean_start=False, properties=_KEPT)
    assert (_payloads(back), _payloads(other)) == ([], [b"1"])


def test_a_congested_client_is_not_read_from() -> None:
    driver = EngineDriver()
    client = driver.connect("c", V5)
    client.set_writable(False)
    assert client.is_paused
    client.set_writable(True)
    assert not client.is_paused
