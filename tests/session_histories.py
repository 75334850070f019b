"""Random histories of stored Sessions: rows come, move and go, as a journal tells them to a store.

Knows: which changes are possible after which.
Does not know: any engine, any store.
"""

from dataclasses import dataclass, field
from typing import Final

from hypothesis import strategies as st

from broker.protocol.packets import ClientId, Publish, TopicFilter
from broker.protocol.subscription import Subscription
from broker.session.flow import Flow
from broker.session.journal import Journal
from broker.session.message import ApplicationMessage, Delivery
from broker.session.records import SessionRow, Will
from strategies import properties_for, topic_filters, topic_names

_TIMES: Final = st.none() | st.floats(1, 4_000_000_000) | st.sampled_from([5.0, 1_800_000_000.25])
_FLOWS: Final = [Flow.AWAIT_PUBACK, Flow.AWAIT_PUBREC, Flow.AWAIT_PUBCOMP]
_NUMBERS: Final = st.integers(0, 0xFFFF)

messages: Final = st.builds(
    ApplicationMessage,
    topic_names(),
    st.binary(max_size=40),
    st.integers(0, 2),
    st.booleans(),
    properties_for(Publish),
    _TIMES,
    supersede_key=st.none() | st.binary(max_size=4),
)


@dataclass(frozen=True, slots=True)
class Share:
    """A Shared Subscription that a delivery came from."""

    shared_filter: TopicFilter


deliveries: Final = st.builds(
    Delivery,
    messages,
    st.integers(0, 2),
    st.booleans(),
    st.lists(st.integers(1, 268_435_455), max_size=3).map(tuple),
    st.none() | st.just(Share(TopicFilter("$share/g/é/#".encode()))),
)

subscriptions: Final = st.builds(
    Subscription,
    topic_filters(),
    st.integers(0, 2),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2),
    st.none() | st.integers(1, 268_435_455),
)


@dataclass(frozen=True, slots=True)
class Step:
    """One change; numbers choose among what there is."""

    act: str
    first: int
    second: int
    delivery: Delivery
    subscription: Subscription
    time: float | None


ACTS: Final = (
    *("begin", "begin", "change", "end", "subscribe", "subscribe", "unsubscribe"),
    *("put", "put", "put", "fan_out", "fan_out", "replace", "move", "move", "drop", "drop"),
    *("accept", "release", "will", "forget_will", "retain", "clear"),
)


def steps(*more: str) -> st.SearchStrategy[list[Step]]:
    """Histories with `more` acts, which the test performs itself."""
    step = st.builds(
        Step, st.sampled_from(ACTS + more), _NUMBERS, _NUMBERS, deliveries, subscriptions, _TIMES
    )
    return st.lists(step, max_size=40)


@dataclass(slots=True)
class History:
    """What there is so far, and the journal that heard of it."""

    journal: Journal = field(default_factory=Journal)
    sessions: dict[int, SessionRow] = field(default_factory=dict)
    #: By row: whose it is.
    rows: dict[int, int] = field(default_factory=dict)

    def perform(self, step: Step) -> None:
        """Make the change if it is possible now."""
        act = step.act
        if act in {"will", "forget_will"}:
            self._change_will(step)
        elif act == "retain":
            self.journal.put_retained(_tenant(step), step.delivery.message)
        elif act == "clear":
            self.journal.drop_retained(_tenant(step), step.delivery.message.topic)
        elif act == "begin":
            self._put_session(self.journal.session_number(), step)
        elif act in {"replace", "move", "drop"}:
            if self.rows:
                self._change_row(list(self.rows)[step.first % len(self.rows)], step)
        elif self.sessions:
            self._change_session(list(self.sessions)[step.first % len(self.sessions)], step)

    def forget(self, row: int) -> None:
        """The store has swept a row."""
        del self.rows[row]

    def _put_session(self, number: int, step: Step) -> None:
        identity = f"CN={step.first}" if step.second % 2 else None
        row = SessionRow(number, _tenant(step), _client(step), step.second, step.time, identity, step.first)
        self.sessions[number] = row
        self.journal.put_session(row)

    def _change_session(self, number: int, step: Step) -> None:
        journal = self.journal
        match step.act:
            case "change":
                self._put_session(number, step)
            case "end":
                del self.sessions[number]
                self.rows = {row: value for row, value in self.rows.items() if value != number}
                journal.drop_session(number)
            case "subscribe":
                journal.put_subscription(number, step.subscription)
            case "unsubscribe":
                journal.drop_subscription(number, step.subscription.topic_filter)
            case "put":
                self._put(number, step.delivery, step.second)
            case "fan_out":
                for receiver in self.sessions:
                    self._put(receiver, step.delivery, 0)
            case "accept":
                journal.put_inbound(number, step.second)
            case "release":
                journal.drop_inbound(number, step.second)

    def _put(self, number: int, delivery: Delivery, packet_id: int, row: int = 0) -> None:
        packet_id &= 0xFFF0  # Often none.
        flow = _FLOWS[packet_id % 3] if packet_id else None
        row = self.journal.put_delivery(number, delivery, row, packet_id, flow)
        self.rows[row] = number

    def _change_row(self, row: int, step: Step) -> None:
        if step.act == "replace":
            self._put(self.rows[row], step.delivery, step.second, row)
        elif step.act == "move":
            self.journal.move_delivery(row, step.second or 1, _FLOWS[step.first % 3])
        else:
            self.journal.drop_delivery(row)
            del self.rows[row]

    def _change_will(self, step: Step) -> None:
        key = _tenant(step), _client(step)
        if step.act == "will":
            self.journal.put_will(*key, Will(step.delivery.message, step.first))
        else:
            self.journal.drop_will(*key)


def _tenant(step: Step) -> str:
    return ("red", "bläu")[step.second % 2]


def _client(step: Step) -> ClientId:
    return ClientId(("a", "b", "\U0001f600", "")[step.second % 4])
