"""Pending messages that wait in the store, and what is never written there."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.protocol.packets import ClientId, PubAck, Publish
from broker.session import Session
from broker.session.pending import PAGE_MESSAGES
from fakes import EngineDriver, FakePermissions
from fakes_client import FakeClient


def _away(driver: EngineDriver, client_id: str = "c", *filters: bytes) -> None:
    client = driver.connect(client_id, expiry=1000)
    client.subscribe(*(filters or (b"t",)), qos=1)
    client.lose()


def _back(driver: EngineDriver, client_id: str = "c", **fields: Any) -> FakeClient:
    return driver.connect(client_id, expiry=1000, is_clean_start=False, **fields)


def _take_all(driver: EngineDriver, client: FakeClient) -> list[bytes]:
    """Acknowledge until nothing comes any more."""
    payloads = []
    while messages := client.messages():
        payloads += [message.payload for message in messages]
        for message in messages:
            client.send(PubAck(message.packet_id))
        driver.settle()
    return payloads


def _session(driver: EngineDriver, client_id: str = "c") -> Session:
    return driver.engine.state.tenant("default").sessions[ClientId(client_id)]


def test_what_waits_for_a_client_that_is_away_is_not_in_memory() -> None:
    driver = EngineDriver()
    _away(driver)
    for number in range(PAGE_MESSAGES + 10):
        driver.publish(b"t", b"%d" % number, qos=1)
    session = _session(driver)
    assert len(session._waiting) == 0
    assert session.pending_messages == PAGE_MESSAGES + 10


@pytest.mark.parametrize("is_restarted", [False, True])
def test_pages_come_in_order_until_nothing_waits(is_restarted: bool) -> None:
    driver = EngineDriver()
    _away(driver)
    count = 2 * PAGE_MESSAGES + 3
    for number in range(count):
        driver.publish(b"t", b"%d" % number, qos=1)
    if is_restarted:
        driver.take_down()
    client = _back(driver, receive_maximum=100)
    assert _take_all(driver, client) == [b"%d" % number for number in range(count)]
    assert _session(driver).pending_messages == 0
    driver.publish(b"t", b"next", qos=1)
    assert client.payloads() == [b"next"]


def test_messages_that_come_while_a_page_is_on_its_way_follow_it() -> None:
    driver = EngineDriver()
    _away(driver)
    driver.publish(b"t", b"1", qos=1)
    driver.is_holding_commits = True
    client = _back(driver)
    assert client.payloads() == []
    driver.publish(b"t", b"2", qos=1)
    driver.publish(b"t", b"3", qos=1)
    driver.finish_commits()
    assert client.payloads() == [b"1", b"2", b"3"]


def test_a_page_for_a_connection_that_is_gone_is_not_lost() -> None:
    driver = EngineDriver()
    _away(driver)
    driver.publish(b"t", b"1", qos=1)
    driver.is_holding_commits = True
    _back(driver).lose()
    client = _back(driver)
    driver.finish_commits()
    assert client.payloads() == [b"1"]


def test_a_page_leaves_out_what_the_client_may_not_receive_any_more() -> None:
    driver = EngineDriver()
    _away(driver, "c", b"#")
    driver.publish(b"secret", b"1", qos=1)
    driver.publish(b"open", b"2", qos=1)
    driver.permissions["c"] = FakePermissions(no_receive=(b"secret",))
    driver.take_down()
    assert _back(driver).payloads() == [b"2"]


def test_what_expires_in_the_store_makes_room_for_others() -> None:
    driver = EngineDriver(pending_messages_maximum=4)
    _away(driver)
    driver.take_down()
    for _ in range(4):
        driver.publish(b"t", b"old", qos=1, expires_at=driver.now + 5)
    driver.sleep(6)
    driver.sweep()
    driver.publish(b"t", b"new", qos=1)
    assert _session(driver).dropped == 4
    assert _back(driver).payloads() == [b"new"]


@pytest.mark.parametrize("is_killed", [False, True])
def test_what_an_ended_session_had_in_the_store_of_a_shared_subscription_finds_another_member(
    is_killed: bool,
) -> None:
    driver = EngineDriver()
    _away(driver, "c", b"$share/g/t")
    for number in range(3):
        driver.publish(b"t", b"%d" % number, qos=1)
    other = driver.connect("other", expiry=1000)
    other.subscribe(b"$share/g/t", qos=1)
    if is_killed:
        driver.is_holding_commits = True
    driver.connect("c", expiry=1000)  # Clean Start: the Session ends.
    if is_killed:
        driver.finish_commit()  # It is told to have ended; nothing was read.
        driver.take_down()
        other = _back(driver, "other")
    assert other.payloads() == [b"0", b"1", b"2"]
    assert len(driver.snapshot().sessions) == 2


def test_a_message_that_everybody_acknowledged_is_never_written_and_its_publisher_waits_no_longer() -> None:
    driver = EngineDriver()
    receiver = driver.connect("r", expiry=1000)
    receiver.subscribe(b"t", qos=1)
    sender = driver.connect("s")
    driver.is_holding_commits = True
    driver.publish(b"other", b"", qos=1, is_retain=True)
    driver.publish(b"kept", b"x", qos=1, is_retain=True)  # A commit that is on its way.
    packet_id = sender.publish(b"t", b"m", qos=1)
    assert sender.take() == []
    (message,) = receiver.messages()
    receiver.send(PubAck(message.packet_id))
    assert sender.take() == [PubAck(packet_id)]
    driver.finish_commits()
    assert [row for changes in driver.changes for row in changes.put.values()] == []


def test_one_receiver_that_has_not_acknowledged_holds_the_publisher_back() -> None:
    driver = EngineDriver()
    receivers = [driver.connect(name, expiry=1000) for name in ("a", "b")]
    for receiver in receivers:
        receiver.subscribe(b"t", qos=1)
    sender = driver.connect("s")
    driver.is_holding_commits = True
    driver.publish(b"kept", b"x", qos=1, is_retain=True)
    packet_id = sender.publish(b"t", b"m", qos=1)
    (message,) = receivers[0].messages()
    receivers[0].send(PubAck(message.packet_id))
    assert sender.take() == []
    driver.finish_commits()
    assert sender.take() == [PubAck(packet_id)]
    assert [row.session for changes in driver.changes for row in changes.put.values()] == [
        _session(driver, "b").number
    ]


def test_publishers_of_what_must_be_stored_are_not_read_while_too_much_waits_for_the_disk() -> None:
    driver = EngineDriver(journal_bytes_maximum=2_000)
    _away(driver)
    sender = driver.connect("s")
    driver.is_holding_commits = True
    sender.publish(b"t", b"x" * 3_000, qos=1)
    sender.publish(b"t", b"later", qos=1)
    assert sender.is_paused
    assert driver.engine.stats.store_holds == 1
    driver.finish_commits()
    assert not sender.is_paused
    driver.finish_commits()
    assert [packet.packet_id for packet in sender.take() if isinstance(packet, PubAck)] == [1, 2]


@settings(max_examples=80, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("publish"), st.integers(1, 40)),
            st.sampled_from([("come", 0), ("go", 0), ("take", 0), ("commit", 0), ("hold", 0), ("kill", 0)]),
        ),
        max_size=40,
    )
)
def test_nothing_is_lost_and_order_is_kept_however_pages_commits_and_connections_fall(
    steps: list[tuple[str, int]],
) -> None:
    """What the store has taken comes, once per connection at least, first deliveries in order."""
    driver = EngineDriver()
    _away(driver)
    client: FakeClient | None = None
    published = 0
    #: Published in this life of the process, and on disk.
    recent: set[int] = set()
    certain: set[int] = set()
    seen: list[int] = []

    def take(client: FakeClient) -> None:
        for message in client.messages():
            assert isinstance(message, Publish)
            if int(message.payload) not in seen:
                seen.append(int(message.payload))
            client.send(PubAck(message.packet_id))

    for act, count in steps:
        if act == "publish":
            for _ in range(count):
                published += 1
                recent.add(published)
                driver.publish(b"t", b"%d" % published, qos=1)
        elif act == "come" and client is None:
            client = _back(driver, receive_maximum=7)
        elif act == "go" and client is not None:
            client.lose()
            client = None
        elif act == "take" and client is not None:
            take(client)
        elif act == "hold":
            driver.is_holding_commits = True
        elif act == "commit":
            driver.is_holding_commits = False
            driver.finish_commits()
            driver.settle()
            certain |= recent
        elif act == "kill":
            driver.take_down()
            client = None
            recent.clear()
    driver.is_holding_commits = False
    driver.finish_commits()
    driver.settle()
    client = client or _back(driver, receive_maximum=7)
    before = -1
    while len(seen) != before:
        before = len(seen)
        take(client)
        driver.settle()
    assert certain <= set(seen)
    assert seen == sorted(seen)
    assert _session(driver).pending_messages == 0
