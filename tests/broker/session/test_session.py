"""Deliveries of a Session against a simple model of the Client and of what waits."""

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.protocol.codec import decode_packet
from broker.protocol.connection import Connection
from broker.protocol.errors import ProtocolError
from broker.protocol.packets import (
    V3_1_1,
    V5,
    ClientId,
    ControlPacket,
    PubAck,
    PubComp,
    Publish,
    PubRel,
    TopicName,
)
from broker.protocol.reason_codes import ReasonCode
from broker.session import (
    ApplicationMessage,
    Commit,
    Delivery,
    Flow,
    Journal,
    Operation,
    Session,
    SessionLimits,
    SessionStats,
)
from broker.session.records import PutSession
from broker.storage import MemoryStore, StoredOutbound

_NOW = 100.0
_KEY = ("default", ClientId("c"))


def _decode(frames: list[bytes], version: int) -> list[ControlPacket]:
    data = b"".join(frames)
    packets = []
    while data:
        assert data[1] < 0x80, "the tests use short packets only"
        packets.append(decode_packet(data[0], data[2 : 2 + data[1]], version))
        data = data[2 + data[1] :]
    return packets


class Peer:
    """A Session under test with the Client behind it, which checks everything that it is sent."""

    def __init__(
        self,
        *,
        journal: Journal | None = None,
        in_flight_maximum: int = 10,
        pending_messages_maximum: int = 10,
        pending_bytes_maximum: int = 1000,
    ) -> None:
        self.stats = SessionStats()
        self.dirty: list[Connection] = []
        self.limits = SessionLimits(in_flight_maximum, pending_messages_maximum, pending_bytes_maximum)
        self.session = Session(*_KEY, limits=self.limits, stats=self.stats, dirty=self.dirty, journal=journal)
        self.connection: Connection | None = None

    def attach(
        self,
        *,
        version: int = V5,
        receive_maximum: int = 65_535,
        maximum_packet_size: int = 0xFFFFFFFF,
        now: float = _NOW,
    ) -> list[ControlPacket]:
        self.connection = Connection(connect_packet_size_maximum=1000, now=now)
        self.connection.version = version
        self.connection.maximum_packet_size = maximum_packet_size
        self.session.attach(self.connection, receive_maximum=receive_maximum, now=now)
        return self.take()

    def deliver(
        self, payload: bytes = b"m", qos: int = 1, *, now: float = _NOW, topic: bytes = b"t", **fields: object
    ) -> list[ControlPacket]:
        message = ApplicationMessage(TopicName(topic), payload, qos, **fields)  # type: ignore[arg-type]
        self.session.deliver(Delivery(message, qos), now)
        return self.take()

    def take(self) -> list[ControlPacket]:
        if self.connection is None:
            return []
        assert bool(self.connection.outgoing) == (self.connection in self.dirty)
        packets = _decode(self.connection.outgoing, self.connection.version)
        self.connection.outgoing.clear()
        self.dirty.clear()
        return packets


def _publishes(packets: list[ControlPacket]) -> list[Publish]:
    return [packet for packet in packets if isinstance(packet, Publish)]


def _payloads(packets: list[ControlPacket]) -> list[bytes]:
    return [packet.payload for packet in _publishes(packets)]


class SessionMachine(RuleBasedStateMachine):
    """Any order of deliveries, acknowledgements, connections, congestion and commits."""

    @initialize(
        is_durable=st.booleans(),
        in_flight_maximum=st.integers(1, 5),
        pending_messages_maximum=st.integers(1, 8),
    )
    def begin(self, is_durable: bool, in_flight_maximum: int, pending_messages_maximum: int) -> None:
        self.journal = Journal() if is_durable else None
        self.peer = Peer(
            journal=self.journal,
            in_flight_maximum=in_flight_maximum,
            pending_messages_maximum=pending_messages_maximum,
        )
        self.session = self.peer.session
        self.store = MemoryStore()
        self.store.commit([PutSession(*_KEY, 100, None, None)])
        self.groups: deque[tuple[list[Operation], Commit]] = deque()
        # The model of the Session.
        self.waiting: deque[int] = deque()
        self.unfinished: set[int] = set()
        self.quota = in_flight_maximum
        self.accepted: dict[int, list[int]] = {1: [], 2: []}
        self.dropped = 0
        self.count = 0
        # The Client: on this connection, and over all of them.
        self.outstanding: dict[int, tuple[Flow, int]] = {}
        self.receive_maximum = 0
        self.number_of: dict[int, int] = {}
        self.unreleased: set[int] = set()
        self.seen: dict[int, list[int]] = {1: [], 2: []}
        self.first_sent: list[int] = []
        self.sent_again: list[int] = []

    # What happens to the Session.

    @rule(version=st.sampled_from([V3_1_1, V5]), receive_maximum=st.integers(1, 6))
    @precondition(lambda self: self.peer.connection is None)
    def attach(self, version: int, receive_maximum: int) -> None:
        self.receive_maximum = receive_maximum
        self.quota = min(receive_maximum, self.peer.limits.in_flight_maximum)
        self.pump()
        self.take(self.peer.attach(version=version, receive_maximum=receive_maximum))

    @rule()
    @precondition(lambda self: self.peer.connection is not None)
    def detach(self) -> None:
        self.session.detach(_NOW)
        self.peer.connection = None
        self.outstanding.clear()
        self.sent_again.clear()

    @rule(qos=st.sampled_from([1, 2]))
    def deliver(self, qos: int) -> None:
        number = self.count = self.count + 1
        is_waiting = bool(self.waiting) or not self.is_writable or len(self.unfinished) >= self.quota
        if is_waiting and len(self.waiting) >= self.peer.limits.pending_messages_maximum:
            self.dropped += 1
        else:
            self.accepted[qos].append(number)
            if is_waiting:
                self.waiting.append(number)
            else:
                self.unfinished.add(number)
        self.take(self.peer.deliver(str(number).encode(), qos))

    @rule()
    @precondition(lambda self: self.peer.connection is not None)
    def congest_or_relieve(self) -> None:
        self.session.is_writable = not self.session.is_writable
        if self.session.is_writable:
            self.pump()
            self.session.pump(_NOW)
            self.take(self.peer.take())

    @rule()
    @precondition(lambda self: self.journal is not None and self.journal.operations)
    def hand_over_a_group(self) -> None:
        assert self.journal is not None
        self.groups.append(self.journal.take())

    @rule()
    @precondition(lambda self: self.groups)
    def finish_a_commit(self) -> None:
        operations, commit = self.groups.popleft()
        self.store.commit(operations)
        commit.finish(_NOW)
        self.take(self.peer.take())

    # What the Client does.

    @rule(data=st.data())
    @precondition(lambda self: self.outstanding)
    def acknowledge(self, data: st.DataObject) -> None:
        packet_id = data.draw(st.sampled_from(sorted(self.outstanding)))
        flow, number = self.outstanding[packet_id]
        if flow is Flow.AWAIT_PUBACK:
            self.session.handle_puback(packet_id, _NOW)
            self.finish(packet_id, number)
        elif flow is Flow.AWAIT_PUBCOMP:
            self.unreleased.discard(packet_id)
            self.session.handle_pubcomp(packet_id, _NOW)
            self.finish(packet_id, number)
        elif data.draw(st.integers(0, 4)) == 0:
            self.unreleased.discard(packet_id)
            code = self.session.handle_pubrec(packet_id, ReasonCode.UNSPECIFIED_ERROR, _NOW)
            assert code is None
            self.finish(packet_id, number)
        else:
            code = self.session.handle_pubrec(packet_id, ReasonCode.SUCCESS, _NOW)
            assert code is (ReasonCode.SUCCESS if self.journal is None else None)
            if code is not None:
                self.take([PubRel(packet_id)])
        self.take(self.peer.take())

    @rule(packet_id=st.integers(1, 65_535))
    @precondition(lambda self: self.peer.connection is not None)
    def acknowledge_what_was_never_sent(self, packet_id: int) -> None:
        if packet_id in self.session.in_flight:
            return
        self.session.handle_puback(packet_id, _NOW)
        self.session.handle_pubcomp(packet_id, _NOW)
        code = self.session.handle_pubrec(packet_id, ReasonCode.SUCCESS, _NOW)
        assert code is ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
        assert self.peer.take() == []

    @rule(data=st.data())
    @precondition(lambda self: self.outstanding)
    def acknowledge_wrongly(self, data: st.DataObject) -> None:
        packet_id = data.draw(st.sampled_from(sorted(self.outstanding)))
        flow, _ = self.outstanding[packet_id]
        if flow is Flow.AWAIT_PUBACK:
            with pytest.raises(ProtocolError):
                self.session.handle_pubrec(packet_id, ReasonCode.SUCCESS, _NOW)
        else:
            with pytest.raises(ProtocolError):
                self.session.handle_puback(packet_id, _NOW)
        assert self.peer.take() == []

    # The model.

    @property
    def is_writable(self) -> bool:
        return self.peer.connection is not None and self.session.is_writable

    def pump(self) -> None:
        is_writable = self.peer.connection is None or self.session.is_writable
        while self.waiting and is_writable and len(self.unfinished) < self.quota:
            self.unfinished.add(self.waiting.popleft())

    def finish(self, packet_id: int, number: int) -> None:
        del self.outstanding[packet_id]
        self.unfinished.discard(number)
        self.pump()

    def take(self, packets: list[ControlPacket]) -> None:
        for packet in packets:
            if isinstance(packet, Publish):
                self.take_message(packet)
            else:
                assert isinstance(packet, PubRel)
                assert packet.packet_id in self.unreleased
                self.check_stored(packet.packet_id, Flow.AWAIT_PUBCOMP)
                self.outstanding[packet.packet_id] = (Flow.AWAIT_PUBCOMP, self.number_of[packet.packet_id])

    def take_message(self, packet: Publish) -> None:
        number = int(packet.payload)
        qos = packet.qos
        assert packet.is_dup == (number in self.seen[qos]), "DUP where, and only where, it was sent before"
        assert packet.packet_id not in self.outstanding, "a packet id in use is not used again"
        if qos == 1:
            self.outstanding[packet.packet_id] = (Flow.AWAIT_PUBACK, number)
        else:
            self.check_stored(packet.packet_id, Flow.AWAIT_PUBREC)
            assert (packet.packet_id in self.unreleased) == packet.is_dup, "exactly once"
            self.unreleased.add(packet.packet_id)
            self.outstanding[packet.packet_id] = (Flow.AWAIT_PUBREC, number)
        if packet.is_dup:
            self.sent_again.append(number)
        else:
            self.seen[qos].append(number)
            self.first_sent.append(number)
        self.number_of[packet.packet_id] = number

    def check_stored(self, packet_id: int, flow: Flow) -> None:
        if self.journal is not None:
            kept = [stored for stored in self.stored().values() if stored.packet_id == packet_id]
            assert [stored.flow for stored in kept] == [flow], "durable before it is used"

    def stored(self) -> dict[int, StoredOutbound]:
        with pytest.raises(StopIteration) as stop:
            self.store.load().send(None)
        outbound: dict[int, StoredOutbound] = stop.value.value.sessions[_KEY].outbound
        return outbound

    @invariant()
    def the_session_holds_what_the_model_holds(self) -> None:
        assert len(self.session.in_flight) == len(self.unfinished)
        assert self.session.pending_messages == len(self.waiting)
        assert self.session.pending_bytes == sum(len(str(number)) + 1 for number in self.waiting)
        assert self.peer.stats.dropped_pending_full == self.dropped

    @invariant()
    def the_client_is_never_sent_more_than_it_takes(self) -> None:
        assert len(self.outstanding) <= self.receive_maximum or not self.outstanding
        assert len(self.outstanding) <= self.quota

    @invariant()
    def what_is_sent_again_comes_in_the_order_of_first_sending(self) -> None:
        assert self.sent_again == [number for number in self.first_sent if number in self.sent_again]

    @invariant()
    def order_is_kept_and_nothing_comes_that_was_not_accepted(self) -> None:
        for qos, seen in self.seen.items():
            assert seen == self.accepted[qos][: len(seen)]

    def teardown(self) -> None:
        if not hasattr(self, "peer"):
            return
        if self.peer.connection is None:
            self.attach(V5, 3)
        elif not self.session.is_writable:
            self.congest_or_relieve()
        while self.outstanding or self.groups or (self.journal is not None and self.journal.operations):
            if self.journal is not None and self.journal.operations:
                self.hand_over_a_group()
            while self.groups:
                self.finish_a_commit()
            for packet_id, (flow, number) in list(self.outstanding.items()):
                if flow is Flow.AWAIT_PUBREC:
                    if self.session.handle_pubrec(packet_id, ReasonCode.SUCCESS, _NOW) is not None:
                        self.take([PubRel(packet_id)])
                elif flow is Flow.AWAIT_PUBACK:
                    self.session.handle_puback(packet_id, _NOW)
                    self.finish(packet_id, number)
                else:
                    self.unreleased.discard(packet_id)
                    self.session.handle_pubcomp(packet_id, _NOW)
                    self.finish(packet_id, number)
                self.take(self.peer.take())
        assert self.seen == self.accepted, "nothing is lost"
        assert not self.session.in_flight
        if self.journal is not None:
            assert not self.stored()


TestSessionAgainstModel = SessionMachine.TestCase
TestSessionAgainstModel.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)


def test_a_delivery_goes_out_at_once_with_the_first_packet_id() -> None:
    peer = Peer()
    peer.attach()
    assert peer.deliver(b"m") == [Publish(TopicName(b"t"), b"m", 1, False, False, 1)]


def test_packet_ids_go_round_and_skip_those_in_use() -> None:
    peer = Peer(in_flight_maximum=3)
    peer.attach()
    peer.deliver()
    for packet_id in range(2, 65_536):
        peer.deliver()
        peer.session.handle_puback(packet_id, _NOW)
        peer.take()
    assert _publishes(peer.deliver())[0].packet_id == 2


def test_what_was_not_acknowledged_is_sent_again_in_order_with_its_packet_id_and_dup() -> None:
    peer = Peer()
    peer.attach()
    first = [*peer.deliver(b"1", 1), *peer.deliver(b"2", 2), *peer.deliver(b"3", 1)]
    peer.session.detach(_NOW)
    again = _publishes(peer.attach())
    assert [(packet.payload, packet.packet_id) for packet in again] == [
        (packet.payload, packet.packet_id) for packet in _publishes(first)
    ]
    assert all(packet.is_dup for packet in again)


def test_a_received_qos_2_message_is_followed_by_pubrel_and_not_sent_again() -> None:
    peer = Peer()
    peer.attach()
    peer.deliver(b"m", 2)
    assert peer.session.handle_pubrec(1, ReasonCode.SUCCESS, _NOW) is ReasonCode.SUCCESS
    peer.session.detach(_NOW)
    assert peer.attach() == [PubRel(1)]
    assert peer.session.handle_pubrec(1, ReasonCode.SUCCESS, _NOW) is ReasonCode.SUCCESS


def test_a_qos_2_delivery_that_was_never_sent_comes_without_dup() -> None:
    journal = Journal()
    peer = Peer(journal=journal)
    peer.attach()
    assert peer.deliver(b"m", 2) == []
    peer.session.detach(_NOW)
    peer.connection = None
    _, commit = journal.take()
    commit.finish(_NOW)
    assert peer.attach() == [Publish(TopicName(b"t"), b"m", 2, False, False, 1)]


def test_a_smaller_receive_maximum_holds_for_what_is_sent_again_and_what_waits_for_its_commit() -> None:
    journal = Journal()
    peer = Peer(journal=journal)
    peer.attach()
    for payload in (b"1", b"2", b"3"):
        peer.deliver(payload, 2)
    peer.session.detach(_NOW)
    peer.attach(receive_maximum=1)
    _, commit = journal.take()
    commit.finish(_NOW)
    assert _payloads(peer.take()) == [b"1"]
    peer.session.handle_pubrec(1, ReasonCode.QUOTA_EXCEEDED, _NOW)
    assert _payloads(peer.take()) == [b"2"]


def test_an_expired_message_is_dropped_when_its_turn_comes() -> None:
    peer = Peer()
    peer.deliver(b"old", expires_at=_NOW + 10)
    peer.deliver(b"new", expires_at=_NOW + 30)
    packets = _publishes(peer.attach(now=_NOW + 20))
    assert [packet.payload for packet in packets] == [b"new"]
    assert packets[0].properties.message_expiry_interval == 10
    assert peer.stats.dropped_expired == 1


def test_a_message_too_large_for_the_client_counts_as_delivered() -> None:
    peer = Peer()
    peer.attach(maximum_packet_size=20)
    assert peer.deliver(b"x" * 100) == []
    assert _payloads(peer.deliver(b"small")) == [b"small"]
    assert len(peer.session.in_flight) == 1
    assert peer.stats.dropped_too_large == 1


def test_a_message_exactly_as_large_as_the_client_takes_is_sent() -> None:
    for size in (19, 20, 21):
        peer = Peer()
        peer.attach(maximum_packet_size=20)
        # Two bytes of header, three of topic, two of packet id, one of Properties.
        packets = peer.deliver(b"x" * (size - 8))
        assert bool(packets) == (size <= 20)


def test_a_durable_message_too_large_for_the_client_does_not_hold_up_the_next() -> None:
    journal = Journal()
    peer = Peer(journal=journal)
    peer.attach(receive_maximum=1, maximum_packet_size=20)
    peer.deliver(b"x" * 100, 2)
    peer.deliver(b"small", 1)
    _, commit = journal.take()
    commit.finish(_NOW)
    assert _payloads(peer.take()) == [b"small"]


def test_pending_messages_are_limited_in_bytes() -> None:
    peer = Peer(pending_bytes_maximum=10)
    peer.deliver(b"x" * 9)
    peer.deliver(b"")
    assert peer.session.pending_bytes == 10
    assert peer.session.pending_messages == 1
    assert peer.stats.dropped_pending_full == 1


def test_a_pending_message_is_superseded_by_one_with_its_key_and_keeps_its_place() -> None:
    peer = Peer()
    peer.deliver(b"a1", supersede_key=b"k")
    peer.deliver(b"b")
    peer.deliver(b"a2", supersede_key=b"k")
    peer.deliver(b"c", topic=b"other", supersede_key=b"k")
    assert peer.session.pending_bytes == 3 + 2 + 6
    assert _payloads(peer.attach()) == [b"a2", b"b", b"c"]
    assert peer.stats.superseded == 1


def test_a_message_in_flight_is_never_superseded() -> None:
    peer = Peer()
    peer.attach()
    peer.deliver(b"a1", supersede_key=b"k")
    assert _payloads(peer.deliver(b"a2", supersede_key=b"k")) == [b"a2"]
    peer.session.detach(_NOW)
    assert _payloads(peer.attach()) == [b"a1", b"a2"]


def test_messages_that_the_client_may_not_receive_any_more_are_forgotten() -> None:
    journal = Journal()
    peer = Peer(journal=journal)
    peer.deliver(b"secret", topic=b"secret")
    peer.deliver(b"open", topic=b"open")
    peer.session.may_receive = lambda topic: topic == b"open"
    peer.session.drop_forbidden()
    assert peer.session.pending_bytes == 8
    assert _payloads(peer.attach()) == [b"open"]


def test_the_same_message_is_encoded_for_each_version() -> None:
    old, new = Peer(), Peer()
    old.attach(version=V3_1_1)
    new.attach(version=V5)
    delivery = Delivery(ApplicationMessage(TopicName(b"t"), b"m", 1), 1)
    for _ in range(2):
        old.session.deliver(delivery, _NOW)
        new.session.deliver(delivery, _NOW)
    assert _payloads(old.take()) == _payloads(new.take()) == [b"m", b"m"]


def test_an_inbound_packet_id_is_known_until_it_is_released() -> None:
    session = Peer().session
    assert session.accept_inbound(7) is None
    assert session.inbound == {7}
    assert session.release_inbound(7) == (ReasonCode.SUCCESS, None)
    assert session.release_inbound(7) == (ReasonCode.PACKET_IDENTIFIER_NOT_FOUND, None)


def test_every_answer_about_inbound_ids_waits_for_their_last_change() -> None:
    journal = Journal()
    session = Peer(journal=journal).session
    accepted = session.accept_inbound(7)
    assert accepted is journal.commit
    journal.take()
    _, released = session.release_inbound(7)
    assert released is journal.commit
    assert session.release_inbound(7)[1] is released


@pytest.mark.parametrize(
    ("expiry_interval", "after_s", "has_expired"),
    [(10, 9.9, False), (10, 10, True), (0, 0, True), (0xFFFFFFFF, 1e12, False)],
)
def test_a_session_expires_after_its_interval(
    expiry_interval: int, after_s: float, has_expired: bool
) -> None:
    session = Peer().session
    session.expiry_interval = expiry_interval
    assert not session.has_expired(1e12)
    session.detach(_NOW)
    assert session.has_expired(_NOW + after_s) is has_expired


def test_late_acknowledgements_are_no_fault() -> None:
    peer = Peer()
    peer.attach()
    peer.session.handle_puback(PubAck(9).packet_id, _NOW)
    peer.session.handle_pubcomp(PubComp(9).packet_id, _NOW)
    assert peer.session.handle_pubrec(9, ReasonCode.UNSPECIFIED_ERROR, _NOW) is None
    assert peer.take() == []
