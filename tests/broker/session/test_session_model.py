"""Deliveries of a Session against a simple model of the Client and of what waits."""

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.protocol.errors import ProtocolError
from broker.protocol.packets import (
    V3_1_1,
    V5,
    ControlPacket,
    Publish,
    PubRel,
)
from broker.protocol.reason_codes import ReasonCode
from broker.session import (
    Changes,
    Commit,
    DeliveryRow,
    Flow,
    Journal,
)
from broker.storage import MemoryStore, StoredSession
from session_peer import NOW, Peer


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
        self.session.store()
        self.groups: deque[tuple[Changes, Commit]] = deque()
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
        self.session.detach(NOW)
        self.peer.connection = None
        self.outstanding.clear()
        self.sent_again.clear()

    @rule(qos=st.sampled_from([1, 2]))
    @precondition(lambda self: self.journal is None or self.peer.connection is not None)  # Else: test_pages.
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
            self.session.pump(NOW)
            self.take(self.peer.take())

    @rule()
    @precondition(lambda self: bool(self.journal))
    def hand_over_a_group(self) -> None:
        assert self.journal is not None
        self.groups.append(self.journal.take(NOW))

    @rule()
    @precondition(lambda self: self.groups)
    def finish_a_commit(self) -> None:
        changes, commit = self.groups.popleft()
        self.store.commit(changes)
        commit.finish(NOW)
        self.take(self.peer.take())

    # What the Client does.

    @rule(data=st.data())
    @precondition(lambda self: self.outstanding)
    def acknowledge(self, data: st.DataObject) -> None:
        packet_id = data.draw(st.sampled_from(sorted(self.outstanding)))
        flow, number = self.outstanding[packet_id]
        if flow is Flow.AWAIT_PUBACK:
            self.session.handle_puback(packet_id, NOW)
            self.finish(packet_id, number)
        elif flow is Flow.AWAIT_PUBCOMP:
            self.unreleased.discard(packet_id)
            self.session.handle_pubcomp(packet_id, NOW)
            self.finish(packet_id, number)
        elif data.draw(st.integers(0, 4)) == 0:
            self.unreleased.discard(packet_id)
            code = self.session.handle_pubrec(packet_id, ReasonCode.UNSPECIFIED_ERROR, NOW)
            assert code is None
            self.finish(packet_id, number)
        else:
            code = self.session.handle_pubrec(packet_id, ReasonCode.SUCCESS, NOW)
            assert code is (ReasonCode.SUCCESS if self.journal is None else None)
            if code is not None:
                self.take([PubRel(packet_id)])
        self.take(self.peer.take())

    @rule(packet_id=st.integers(1, 65_535))
    @precondition(lambda self: self.peer.connection is not None)
    def acknowledge_what_was_never_sent(self, packet_id: int) -> None:
        if packet_id in self.session.in_flight:
            return
        self.session.handle_puback(packet_id, NOW)
        self.session.handle_pubcomp(packet_id, NOW)
        code = self.session.handle_pubrec(packet_id, ReasonCode.SUCCESS, NOW)
        assert code is ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
        assert self.peer.take() == []

    @rule(data=st.data())
    @precondition(lambda self: self.outstanding)
    def acknowledge_wrongly(self, data: st.DataObject) -> None:
        packet_id = data.draw(st.sampled_from(sorted(self.outstanding)))
        flow, _ = self.outstanding[packet_id]
        if flow is Flow.AWAIT_PUBACK:
            with pytest.raises(ProtocolError):
                self.session.handle_pubrec(packet_id, ReasonCode.SUCCESS, NOW)
        else:
            with pytest.raises(ProtocolError):
                self.session.handle_puback(packet_id, NOW)
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
            kept = [stored for stored in self.in_flight() if stored.packet_id == packet_id]
            assert [stored.flow for stored in kept] == [flow], "durable before it is used"

    def stored(self) -> StoredSession:
        with pytest.raises(StopIteration) as stop:
            self.store.load().send(None)
        stored: StoredSession = stop.value.value.sessions[self.session.number]
        return stored

    def in_flight(self) -> list[DeliveryRow]:
        return self.stored().in_flight

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
        while self.outstanding or self.groups or self.journal:
            if self.journal:
                self.hand_over_a_group()
            while self.groups:
                self.finish_a_commit()
            for packet_id, (flow, number) in list(self.outstanding.items()):
                if flow is Flow.AWAIT_PUBREC:
                    if self.session.handle_pubrec(packet_id, ReasonCode.SUCCESS, NOW) is not None:
                        self.take([PubRel(packet_id)])
                elif flow is Flow.AWAIT_PUBACK:
                    self.session.handle_puback(packet_id, NOW)
                    self.finish(packet_id, number)
                else:
                    self.unreleased.discard(packet_id)
                    self.session.handle_pubcomp(packet_id, NOW)
                    self.finish(packet_id, number)
                self.take(self.peer.take())
        assert self.seen == self.accepted, "nothing is lost"
        assert not self.session.in_flight
        if self.journal is not None:
            assert (self.stored().in_flight, self.stored().pending_messages) == ([], 0)


TestSessionAgainstModel = SessionMachine.TestCase
TestSessionAgainstModel.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
