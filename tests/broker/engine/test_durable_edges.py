"""Durable Sessions where two things happen at the same time."""

import pytest

from broker.protocol.packets import (
    ClientId,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    TopicName,
)
from broker.session import Session
from fakes import EngineDriver
from fakes_client import FakeClient, request_for


class _Paced(EngineDriver):
    """With `is_early` the time of the next commit has not come yet."""

    is_early = False

    def _commit(self) -> None:
        if not self.is_early:
            super()._commit()

    def turn(self) -> bool:
        has_more = super().turn()
        return bool(self.engine.state.effects or self._proceeding) if self.is_early else has_more


def _session(driver: EngineDriver) -> Session:
    return driver.engine.state.tenant("default").sessions[ClientId("c")]


def _kept(driver: EngineDriver, *filters: bytes, qos: int = 1, **fields: int) -> FakeClient:
    client = driver.connect("c", expiry=1000, **fields)  # type: ignore[arg-type]
    client.subscribe(*filters, qos=qos)
    return client


def _back(driver: EngineDriver, **fields: int) -> FakeClient:
    return driver.connect("c", expiry=1000, is_clean_start=False, **fields)  # type: ignore[arg-type]


def test_suback_comes_although_what_it_waited_for_was_never_written() -> None:
    driver = _Paced()
    client = _kept(driver, b"t")
    driver.is_early = True
    driver.publish(b"t", b"1", qos=1)
    (message,) = client.messages()
    client.send(Subscribe(77, (request_for(b"t", 1),)))
    client.send(PubAck(message.packet_id))
    driver.is_early = False
    driver.settle()
    assert client.take_one(SubAck).packet_id == 77


def test_a_publisher_is_read_again_although_what_filled_the_journal_was_never_written() -> None:
    driver = _Paced(journal_bytes_maximum=1000)
    client = _kept(driver, b"t")
    sender = driver.connect("s")
    driver.is_early = True
    sender.publish(b"t", bytes(2000), qos=1)
    assert sender.is_paused
    (message,) = client.messages()
    client.send(PubAck(message.packet_id))
    driver.is_early = False
    driver.settle()
    sender.take_one(PubAck)
    assert not sender.is_paused


def test_messages_that_are_not_stored_go_on_while_too_much_waits_for_the_disk() -> None:
    driver = EngineDriver(journal_bytes_maximum=1000)
    _kept(driver, b"kept")
    receiver, sender = driver.connect("r"), driver.connect("s")
    receiver.subscribe(b"t", qos=1)
    driver.is_holding_commits = True
    driver.publish(b"kept", bytes(2000), qos=1)
    sender.publish(b"t", b"1", qos=1)
    sender.publish(b"t", b"2", qos=1)
    assert receiver.payloads() == [b"1", b"2"]


@pytest.mark.parametrize("what", ["PUBREL", "SUBSCRIBE"])
def test_acknowledgements_that_wait_for_the_disk_are_bounded(what: str) -> None:
    driver = EngineDriver(receive_maximum=10, frame_budget=5)
    client = driver.connect("c", expiry=1000)
    driver.is_holding_commits = True
    client.send(Publish(TopicName(b"t"), b"", 2, False, False, 1))
    for number in range(100):
        client.send(PubRel(9) if what == "PUBREL" else Subscribe(1, (request_for(b"t", number % 2),)))
    assert client.is_paused
    assert client.connection.unacknowledged <= 15
    driver.is_holding_commits = False
    driver.finish_commits()
    driver.settle()
    assert not client.is_paused


@pytest.mark.parametrize("is_expiring", [False, True])
def test_the_newest_of_superseding_messages_comes_last(is_expiring: bool) -> None:
    driver = EngineDriver()
    _kept(driver, b"t", b"o").lose()
    driver.publish(b"o", b"first", qos=1)
    driver.publish(b"t", b"1", qos=1, supersede_key=b"k")
    driver.is_holding_commits = True
    client = _back(driver, receive_maximum=1)
    expires_at = driver.now + 500 if is_expiring else None
    driver.publish(b"t", b"2", qos=1, supersede_key=b"k", expires_at=expires_at)  # A page is on its way.
    if is_expiring:
        client.lose()
    else:
        driver.finish_commit()
    driver.publish(b"t", b"3", qos=1, supersede_key=b"k")
    driver.finish_commits()
    driver.is_holding_commits = False
    client = _back(driver, receive_maximum=1) if is_expiring else client
    payloads: list[bytes] = []
    while messages := client.messages():
        payloads += [message.payload for message in messages]
        client.send(PubAck(messages[-1].packet_id))
        driver.settle()
    assert payloads[-1] == b"3"


def test_pages_are_bounded_in_bytes() -> None:
    driver = EngineDriver(pending_bytes_maximum=64 << 20)
    _kept(driver, b"t").lose()
    for _ in range(20):
        driver.publish(b"t", bytes(1 << 19), qos=1)
    _back(driver, receive_maximum=1)
    assert len(_session(driver)._waiting) <= 4


def test_retained_messages_come_after_a_page_that_brought_nothing() -> None:
    driver = EngineDriver()
    driver.publish(b"r", b"kept", qos=1, is_retain=True)
    _kept(driver, b"t").lose()
    driver.publish(b"t", b"1", qos=1, expires_at=driver.now + 1)
    driver.sleep(2)
    driver.sweep()
    driver.is_holding_commits = True
    client = _back(driver)
    client.send(Subscribe(77, (request_for(b"r", 1),)))
    driver.finish_commits()
    assert client.payloads() == [b"kept"]


def test_clearing_a_retained_message_again_waits_for_the_first_time() -> None:
    driver = EngineDriver()
    first, second = driver.connect("a"), driver.connect("b")
    driver.publish(b"r", b"old", qos=1, is_retain=True)
    driver.is_holding_commits = True
    first.publish(b"r", b"", qos=1, is_retain=True)
    second.publish(b"r", b"", qos=1, is_retain=True)
    assert (first.take(), second.take()) == ([], [])
    driver.finish_commits()
    second.take_one(PubAck)
    driver.take_down()
    reader = driver.connect("n")
    reader.subscribe(b"r", qos=1)
    assert reader.payloads() == []


def test_what_expires_in_memory_is_counted_once() -> None:
    driver = EngineDriver()
    client = _kept(driver, b"t", receive_maximum=1)
    driver.publish(b"t", b"0", qos=1)
    driver.publish(b"t", b"1", qos=1, expires_at=driver.now + 1)
    driver.sleep(2)
    driver.sweep()
    (message,) = client.messages()
    client.send(PubAck(message.packet_id))
    assert _session(driver).dropped == 1


def test_a_sweep_takes_no_message_whose_packet_id_is_on_its_way_to_the_store() -> None:
    driver = EngineDriver()
    client = _kept(driver, b"t", qos=2, receive_maximum=1)
    driver.publish(b"t", b"0", qos=2)
    (message,) = client.messages()
    driver.publish(b"t", b"1", qos=2, expires_at=driver.now + 1)
    driver.is_holding_commits = True
    client.send(PubRec(message.packet_id))
    driver.finish_commits()
    client.take()
    client.send(PubComp(message.packet_id))  # The next one gets its packet id, which waits for its commit.
    driver.now += 2
    driver.sweep()
    driver.finish_commits()
    (message,) = client.messages()
    client.send(PubRec(message.packet_id))
    driver.finish_commits()
    driver.take_down()
    assert [packet for packet in _back(driver).take() if isinstance(packet, PubRel)] == [
        PubRel(message.packet_id)
    ]


def test_what_is_on_disk_for_a_member_goes_to_no_member_that_keeps_nothing() -> None:
    driver = EngineDriver()
    client = _kept(driver, b"$share/g/s")
    sender = driver.connect("p")
    sender.publish(b"s", b"job", qos=1)
    sender.take_one(PubAck)
    other = driver.connect("e")
    other.subscribe(b"$share/g/s", qos=1)
    client.lose()
    driver.take_down()
    assert _back(driver).payloads() == [b"job"]


def test_a_session_that_is_emptied_and_its_successor_are_told_apart_after_a_restart() -> None:
    driver = EngineDriver()
    _kept(driver, b"$share/g/t").lose()
    for number in range(3):
        driver.publish(b"t", b"%d" % number, qos=1)
    other = driver.connect("b", expiry=1000)
    other.subscribe(b"$share/g/t", qos=1)
    driver.is_holding_commits = True
    driver.connect("c", expiry=1000)
    driver.finish_commit()
    driver.take_down()
    other = driver.connect("b", expiry=1000, is_clean_start=False)
    assert sorted(other.payloads()) == [b"0", b"1", b"2"]
