"""Messages from a foreign broker: order, acknowledgement, repetition."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.foreign.inbound import Inbound
from broker.protocol.packets import Publish, TopicName


def publish(packet_id: int, payload: bytes = b"p", *, is_dup: bool = False) -> Publish:
    return Publish(TopicName(b"t"), payload, int(packet_id > 0), False, is_dup, packet_id)


def inbound(*packet_ids: int) -> Inbound:
    made = Inbound()
    for packet_id in packet_ids:
        made.put(publish(packet_id))
    return made


def test_messages_are_taken_in_order_and_in_pieces() -> None:
    of = inbound(1, 0, 2)
    assert [each.packet_id for each in of.take(2)] == [1, 0]
    assert [each.packet_id for each in of.take(2)] == [2]
    assert not of.has_waiting


def test_a_puback_is_due_once_the_service_is_done_and_for_qos_1_only() -> None:
    of = inbound(7, 0, 3)
    of.take(3)
    assert of.pubacks() == []
    of.acknowledge(2)
    assert of.pubacks() == [7]
    of.acknowledge(1)
    assert of.pubacks() == [3]
    assert (len(of), of.size_bytes, of.pubacks()) == (0, 0, [])


@pytest.mark.parametrize("count", [-1, 2])
def test_only_what_was_taken_can_be_acknowledged(count: int) -> None:
    of = inbound(1, 2)
    of.take(1)
    with pytest.raises(ValueError, match="acknowledged"):
        of.acknowledge(count)


def test_a_repetition_of_what_the_service_has_is_not_given_again() -> None:
    of = inbound(1, 2)
    of.take(2)
    of.disconnected()
    of.acknowledge(1)
    of.connected(is_session_present=True)
    of.put(publish(1, is_dup=True))
    of.put(publish(2, is_dup=True))
    assert not of.has_waiting
    assert of.pubacks() == [1]
    of.acknowledge(1)
    assert of.pubacks() == [2]


def test_a_puback_that_was_not_sent_is_sent_on_the_next_connection() -> None:
    of = inbound(1)
    of.take(1)
    of.acknowledge(1)
    of.disconnected()
    assert of.pubacks() == []
    of.connected(is_session_present=True)
    of.put(publish(1, is_dup=True))
    assert (of.has_waiting, of.pubacks()) == (False, [1])


@pytest.mark.parametrize(
    "again", [publish(1), publish(1, b"other", is_dup=True)], ids=["no DUP", "other payload"]
)
def test_another_message_under_the_id_is_a_new_one(again: Publish) -> None:
    of = inbound(1)
    of.take(1)
    of.disconnected()
    of.connected(is_session_present=True)
    of.put(again)
    assert of.take(1) == [again]
    of.acknowledge(1)
    assert of.pubacks() == []  # The first is no longer waited for.
    of.acknowledge(1)
    assert of.pubacks() == [1]


def test_without_its_session_the_broker_repeats_nothing() -> None:
    of = inbound(1)
    of.take(1)
    of.disconnected()
    of.connected(is_session_present=False)
    of.put(publish(1, is_dup=True))
    assert of.has_waiting


def test_after_close_what_was_not_taken_is_left_to_the_broker() -> None:
    of = inbound(1, 2, 3)
    of.take(1)
    of.close()
    of.put(publish(4))
    assert (len(of), of.has_waiting) == (1, False)
    of.acknowledge(1)
    assert (of.pubacks(), len(of), of.size_bytes) == ([1], 0, 0)
    of.disconnected()
    of.connected(is_session_present=True)
    of.put(publish(2, is_dup=True))
    assert of.pubacks() == []


class BrokerAndService(RuleBasedStateMachine):
    """A broker that keeps its Session, a connection that breaks, a service that is done sooner or later."""

    def __init__(self) -> None:
        super().__init__()
        self.inbound = Inbound()
        self.unacknowledged: dict[int, Publish] = {}
        self.sent = 0
        self.taken: list[bytes] = []
        self.held = 0
        self.is_connected = True

    @precondition(lambda self: self.is_connected)
    @rule(count=st.integers(1, 5))
    def broker_sends(self, count: int) -> None:
        for _ in range(count):
            packet_id = next(number for number in range(1, 1000) if number not in self.unacknowledged)
            self.unacknowledged[packet_id] = message = publish(packet_id, b"%d" % self.sent)
            self.sent += 1
            self.inbound.put(message)

    @rule(limit=st.integers(1, 8))
    def service_takes(self, limit: int) -> None:
        taken = self.inbound.take(limit)
        self.taken += [each.payload for each in taken]
        self.held += len(taken)

    @rule(data=st.data())
    def service_is_done(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(0, self.held))
        self.held -= count
        self.inbound.acknowledge(count)

    @precondition(lambda self: self.is_connected)
    @rule()
    def pubacks_arrive(self) -> None:
        for packet_id in self.inbound.pubacks():
            # KeyError: a PUBACK that nobody waits for.
            done = self.unacknowledged.pop(packet_id)
            assert done.payload in self.taken

    @precondition(lambda self: self.is_connected)
    @rule()
    def connection_breaks(self) -> None:
        self.inbound.disconnected()
        self.is_connected = False

    @precondition(lambda self: not self.is_connected)
    @rule()
    def connection_stands_again(self) -> None:
        self.inbound.connected(is_session_present=True)
        self.is_connected = True
        for packet_id, message in self.unacknowledged.items():
            self.inbound.put(publish(packet_id, message.payload, is_dup=True))

    @invariant()
    def each_message_is_given_once_and_in_order(self) -> None:
        assert self.taken == [b"%d" % number for number in range(len(self.taken))]


BrokerAndService.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBrokerAndService = BrokerAndService.TestCase
