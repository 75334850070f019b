"""What waits for the disk, and the order in which acknowledgements leave."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.protocol.packets import (
    V3_1_1,
    V5,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    TopicName,
)
from broker.session import Flow
from broker.storage import StoredSession
from fakes import EngineDriver
from fakes_client import FakeClient

_DURABLE = TopicName(b"durable")
_FLEETING = TopicName(b"fleeting")
_BOTH = TopicName(b"both")
_NOBODY = TopicName(b"nobody")
_TOPICS = [_DURABLE, _FLEETING, _BOTH, _NOBODY]


def _site() -> tuple[EngineDriver, FakeClient, FakeClient]:
    """A driver, a receiver whose Session is durable, one whose is not."""
    driver = EngineDriver()
    durable = driver.connect("durable", expiry=1000)
    durable.subscribe(b"durable", b"both", qos=2)
    fleeting = driver.connect("fleeting")
    fleeting.subscribe(b"fleeting", b"both", qos=2)
    driver.is_holding_commits = True
    return driver, durable, fleeting


def _stored(driver: EngineDriver, client_id: str) -> StoredSession:
    (stored,) = (each for each in driver.snapshot().sessions.values() if each.row.client_id == client_id)
    return stored


@pytest.mark.parametrize("qos", [1, 2])
def test_no_acknowledgement_comes_before_a_durable_session_has_the_message(qos: int) -> None:
    driver, _, _ = _site()
    sender = driver.connect("s")
    packet_id = sender.publish(_DURABLE, b"m", qos=qos)
    assert sender.take() == []
    driver.finish_commit()
    assert sender.take() == [PubAck(packet_id) if qos == 1 else PubRec(packet_id)]
    assert [each.message.payload for each in _stored(driver, "durable").in_flight] == [b"m"]


@pytest.mark.parametrize("topic", [_FLEETING, _NOBODY])
def test_what_no_durable_session_needs_is_acknowledged_at_once(topic: bytes) -> None:
    driver, _, _ = _site()
    sender = driver.connect("s")
    packet_id = sender.publish(topic, qos=1)
    assert sender.take_one(PubAck).packet_id == packet_id


def test_pubrec_to_a_durable_session_waits_until_its_packet_id_is_durable() -> None:
    driver, _, _ = _site()
    sender = driver.connect("s", expiry=1000)
    driver.finish_commits()
    sender.publish(_FLEETING, qos=2)
    assert sender.take() == []
    driver.finish_commits()
    assert sender.take() == [PubRec(1)]
    assert _stored(driver, "s").inbound == {1}


def test_a_qos_1_delivery_may_go_before_the_commit() -> None:
    driver, durable, _ = _site()
    driver.connect("s").publish(_DURABLE, b"m", qos=1)
    assert durable.payloads() == [b"m"]


def test_a_qos_2_delivery_to_a_durable_session_never_goes_before_the_commit() -> None:
    driver, durable, fleeting = _site()
    driver.connect("s").publish(_BOTH, b"m", qos=2)
    assert durable.take() == []
    assert fleeting.payloads() == [b"m"]
    driver.finish_commit()
    (message,) = durable.messages()
    (stored,) = _stored(driver, "durable").in_flight
    assert (stored.packet_id, stored.flow) == (message.packet_id, Flow.AWAIT_PUBREC)


def test_pubrel_to_a_durable_session_waits_until_its_pubrec_is_durable() -> None:
    driver, durable, _ = _site()
    driver.connect("s").publish(_DURABLE, b"m", qos=2)
    driver.finish_commit()
    packet_id = durable.messages()[0].packet_id
    durable.send(PubRec(packet_id))
    assert durable.take() == []
    driver.finish_commits()
    assert durable.take() == [PubRel(packet_id)]


def test_pubcomp_waits_until_the_packet_id_is_free_in_the_store() -> None:
    driver, _, _ = _site()
    sender = driver.connect("s", expiry=1000)
    sender.publish(_NOBODY, qos=2)
    driver.finish_commits()
    sender.take()
    sender.send(PubRel(1))
    assert sender.take() == []
    driver.finish_commits()
    assert sender.take() == [PubComp(1)]
    assert _stored(driver, "s").inbound == set()


def test_a_repeated_qos_2_message_on_a_new_connection_waits_for_the_same_commit() -> None:
    driver, _, _ = _site()
    sender = driver.connect("s", expiry=1000)
    message = Publish(_DURABLE, b"m", 2, packet_id=7)
    sender.send(message)
    sender.lose()
    sender = driver.connect("s", expiry=1000, is_clean_start=False)
    sender.send(message)
    assert sender.take() == []
    driver.finish_commits()
    assert sender.take() == [PubRec(7)]
    assert len(_stored(driver, "durable").in_flight) == 1


def test_a_repeated_pubrel_on_a_new_connection_waits_for_the_same_commit() -> None:
    driver, _, _ = _site()
    sender = driver.connect("s", expiry=1000)
    sender.publish(_NOBODY, qos=2)
    driver.finish_commits()
    sender.send(PubRel(1))
    sender.lose()
    sender = driver.connect("s", expiry=1000, is_clean_start=False)
    sender.send(PubRel(1))
    assert sender.take() == []
    driver.finish_commits()
    assert [type(packet) for packet in sender.take()] == [PubComp]


def test_the_commit_of_a_retained_message_holds_its_acknowledgement() -> None:
    driver, _, _ = _site()
    sender = driver.connect("s")
    sender.publish(_NOBODY, b"m", qos=1, is_retain=True)
    assert sender.take() == []
    driver.finish_commit()
    assert [type(packet) for packet in sender.take()] == [PubAck]
    sender.publish(_NOBODY, b"", qos=1, is_retain=True)
    assert sender.take() == []
    driver.finish_commits()
    assert [type(packet) for packet in sender.take()] == [PubAck]


def test_an_acknowledgement_never_passes_one_that_waits_for_the_disk() -> None:
    driver, _, _ = _site()
    sender = driver.connect("s")
    sender.send(
        Publish(_DURABLE, b"", 1, packet_id=1),
        Publish(_NOBODY, b"", 1, packet_id=2),
        Publish(_FLEETING, b"", 2, packet_id=3),
        PingReq(),
    )
    assert sender.take() == [PingResp()]
    driver.finish_commit()
    assert [packet.packet_id for packet in sender.take()] == [1, 2, 3]  # type: ignore[union-attr]


def test_one_clients_wait_does_not_hold_up_another() -> None:
    driver, _, _ = _site()
    first, second = driver.connect("1"), driver.connect("2")
    first.publish(_DURABLE, qos=1)
    second.publish(_FLEETING, qos=1)
    assert first.take() == []
    assert [type(packet) for packet in second.take()] == [PubAck]


def test_a_group_that_came_during_a_commit_waits_for_the_next() -> None:
    driver, _, _ = _site()
    sender = driver.connect("s")
    sender.publish(_DURABLE, qos=1)
    sender.publish(_DURABLE, qos=1)
    driver.finish_commit()
    assert [packet.packet_id for packet in sender.take()] == [1]  # type: ignore[union-attr]
    driver.finish_commit()
    assert [packet.packet_id for packet in sender.take()] == [2]  # type: ignore[union-attr]


def test_an_old_client_with_too_much_unacknowledged_is_read_from_later() -> None:
    driver = EngineDriver(receive_maximum=2)
    durable = driver.connect("durable", expiry=1000)
    durable.subscribe(_DURABLE, qos=1)
    driver.is_holding_commits = True
    sender = driver.connect("s", V3_1_1)
    for _ in range(4):
        sender.publish(_DURABLE, b"m", qos=1)
    assert sender.is_paused
    assert not sender.is_closed
    driver.finish_commits()
    assert not sender.is_paused
    assert [packet.packet_id for packet in sender.take()] == [1, 2, 3, 4]
    assert durable.payloads() == [b"m"] * 4


def test_a_lost_client_is_not_waited_for() -> None:
    driver, durable, _ = _site()
    sender = driver.connect("s")
    sender.publish(_DURABLE, b"m", qos=1)
    sender.lose()
    driver.finish_commits()
    assert sender.take() == []
    assert durable.payloads() == [b"m"]


@pytest.mark.parametrize("commits", range(7))
def test_a_qos_2_message_arrives_exactly_once_wherever_the_process_dies(commits: int) -> None:
    """Sender and receiver, both durable, come back after a crash at each commit boundary and go on."""
    driver = EngineDriver()
    receiver = _Device(driver, "r")
    receiver.client.subscribe(b"t", qos=2)
    sender = _Device(driver, "s")
    driver.is_holding_commits = True
    sender.publish(7, b"m")
    for _ in range(commits):
        if driver.committing is not None:
            driver.finish_commit()
        sender.work()
        receiver.work()
    driver.take_down()
    sender.come_back()
    receiver.come_back()
    for _ in range(6):
        sender.work()
        receiver.work()
    assert sender.unacknowledged == {}
    sender.publish(7, b"n")  # The same packet id again: another message.
    for _ in range(6):
        sender.work()
        receiver.work()
    assert receiver.messages == [b"m", b"n"]
    stored = _stored(driver, "r")
    assert (stored.in_flight, stored.pending_messages) == ([], 0)
    assert not _stored(driver, "s").inbound


class _Device:
    """A client with Session State of its own that survives its connections (v5 §4.3.3)."""

    def __init__(self, driver: EngineDriver, name: str) -> None:
        self.driver = driver
        self.name = name
        self.client = driver.connect(name, expiry=1000)
        self.unacknowledged: dict[int, Publish | PubRel] = {}
        self.received: set[int] = set()
        self.messages: list[bytes] = []

    def publish(self, packet_id: int, payload: bytes) -> None:
        message = Publish(TopicName(b"t"), payload, 2, packet_id=packet_id)
        self.unacknowledged[packet_id] = message
        self.client.send(message)

    def work(self) -> None:
        for packet in self.client.take():
            if isinstance(packet, Publish):
                if packet.packet_id not in self.received:
                    self.received.add(packet.packet_id)
                    self.messages.append(packet.payload)
                self.client.send(PubRec(packet.packet_id))
            elif isinstance(packet, PubRel):
                self.received.discard(packet.packet_id)
                self.client.send(PubComp(packet.packet_id))
            elif isinstance(packet, PubRec):
                self.unacknowledged[packet.packet_id] = PubRel(packet.packet_id)
                self.client.send(PubRel(packet.packet_id))
            elif isinstance(packet, PubComp):
                del self.unacknowledged[packet.packet_id]

    def come_back(self) -> None:
        self.client = self.driver.connect(self.name, expiry=1000, is_clean_start=False)
        for packet in self.unacknowledged.values():
            self.client.send(packet)


def _durable_payloads(driver: EngineDriver) -> set[bytes]:
    payloads = {row.message.payload for changes in driver.changes for row in changes.put.values()}
    return payloads | {
        message.payload for changes in driver.changes for message in changes.retained.values() if message
    }


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(_TOPICS), st.integers(0, 2), st.booleans()),
        st.tuples(st.just("commit")),
        st.tuples(st.just("release")),
    ),
    max_size=40,
)


@settings(max_examples=150)
@given(steps=_STEPS, version=st.sampled_from([V3_1_1, V5]), is_durable=st.booleans())
def test_acknowledgements_leave_in_the_order_of_arrival(
    steps: list[tuple[Any, ...]], version: int, is_durable: bool
) -> None:
    """Mixed QoS, receivers and commits: order, no PUBACK before its commit, none forgotten."""
    driver, durable, _ = _site()
    sender = driver.connect("s", version, is_clean_start=not is_durable, expiry=1000 * is_durable)
    driver.finish_commits()
    expected: list[tuple[type, int]] = []
    got: list[tuple[type, int]] = []
    releasable: list[int] = []
    #: By packet id: the message, or a retained one that replaced it before the commit.
    must_be_stored: dict[int, set[bytes]] = {}
    retained: dict[bytes, list[set[bytes]]] = {}

    def look() -> None:
        for packet in sender.take():
            assert isinstance(packet, PubAck | PubRec | PubComp)
            got.append((type(packet), packet.packet_id))
            if isinstance(packet, PubRec):
                releasable.append(packet.packet_id)
            if not isinstance(packet, PubComp) and packet.packet_id in must_be_stored:
                assert must_be_stored[packet.packet_id] & _durable_payloads(driver), "too early"
        assert got == expected[: len(got)]

    for step in steps:
        if step[0] == "publish":
            _, topic, qos, is_retain = step
            packet_id = sender.packet_id() if qos else 0
            payload = b"m%d" % packet_id
            sender.send(Publish(topic, payload, qos, is_retain, packet_id=packet_id))
            stored = {payload}
            if qos:
                expected.append((PubAck if qos == 1 else PubRec, packet_id))
                if topic in (_DURABLE, _BOTH) or is_retain:
                    must_be_stored[packet_id] = stored
            if is_retain and topic not in (_DURABLE, _BOTH):
                for replaced in retained.setdefault(topic, []):
                    replaced.add(payload)
                retained[topic].append(stored)
        elif step[0] == "commit" and driver.committing is not None:
            driver.finish_commit()
        elif step[0] == "release" and releasable:
            packet_id = releasable.pop(0)
            sender.send(PubRel(packet_id))
            expected.append((PubComp, packet_id))
        look()
        durable.take()
    driver.finish_commits()
    look()
    assert got == expected
