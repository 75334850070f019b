"""Compares what clients saw acknowledged with what was delivered; says what a broker may not do.

Knows: what QoS 1 and 2, sessions, subscriptions, retained messages, Wills, expiry and shadows promise.
Does not know: how the events came about, clocks.
Spec: v5 §3.1.2.5, §3.3.1.3, §3.3.2.3.3, §4.1, §4.3, §4.4, §4.6, §4.8.2; v3.1.1 §4.1, §4.3, §4.4, §4.6.

A message is in doubt from its PUBLISH to its acknowledgement, a subscription from SUBSCRIBE to SUBACK.
Where an event falls into doubt, both outcomes are right; everywhere else one is.
"""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from enum import Enum
from functools import cached_property
from itertools import pairwise
from typing import Final, NamedTuple

from broker.protocol.packets import TopicFilter, TopicName
from broker.protocol.topics import matches

from .deliveries import Delivery, Misused, deliveries
from .history import Connected, History, Key, Lost, Published, Received, ShadowSeen, Step
from .payloads import will_topic

#: Messages that live longer than this must outlive any test.
LONG_S: Final = 600
#: Seconds that a message may lie in sockets, beyond its expiry.
LATE_S: Final = 2.0
#: A Will may seem early by the time in which its client did not yet notice its own end.
EARLY_S: Final = 0.1

_NEVER: Final = 1 << 62


class Kind(Enum):
    """What was broken; the value says it."""

    LOST = "an acknowledged message did not come"
    DUPLICATE = "a QoS 2 message came twice"
    REPEATED = "a QoS 1 message came twice, and no acknowledgement was in doubt"
    PACKET_ID = "a packet id was used for two messages at a time"
    ORDER = "messages of one publisher and topic came in another order"
    FOREIGN = "a message came that nobody published so"
    SESSION = "a session was forgotten"
    SUBSCRIPTION = "a subscription was forgotten"
    UNASKED = "a message came without a subscription for it"
    RETAINED = "a retained message is older than an acknowledged one"
    WILL_LOST = "a Will did not come"
    WILL_EARLY = "a Will came before its time"
    EXPIRED = "a message came after its expiry"
    SHADOW_BACK = "a shadow's version went back"
    SHADOW_LOST = "an accepted update is not in the shadow"


class Violation(NamedTuple):
    """One finding, with who and what."""

    kind: Kind
    detail: str

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.detail}"


class Span(NamedTuple):
    """A subscription of a client, or of the group of a Shared Subscription.

    It exists for sure between `sure_from` and `sure_to`, and not outside `from_` and `to`.
    """

    client: str
    receiver: str
    topic_filter: bytes
    from_: int
    sure_from: float
    sure_to: float
    to: float


class Awaited(NamedTuple):
    """A delivery that must be."""

    receiver: str
    key: Key


def quick_violations(history: History) -> list[Violation]:
    """Return what can be told while messages are on their way: sessions, retained messages, shadows."""
    return list(_Checker(history).quick())


def violations(history: History) -> list[Violation]:
    """Return everything that is wrong with a run in which every client has taken what waited for it."""
    checker = _Checker(history)
    return [
        *checker.quick(),
        *checker.lost(),
        *checker.misused(),
        *checker.repetitions(),
        *checker.order(),
        *checker.unasked(),
        *checker.early_wills(),
        *checker.expired(),
    ]


def missing(history: History) -> frozenset[Awaited]:
    """Return which deliveries are still to come."""
    checker = _Checker(history)
    return frozenset([*checker.missing_messages(), *checker.missing_wills()])


class _Checker:
    """One look at a history."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._first: dict[Key, Published] = {}
        self._sent: dict[Key, list[Published]] = defaultdict(list)
        for published in history.published:
            self._first.setdefault(published.key, published)
            self._sent[published.key].append(published)
        self._acknowledged: dict[Key, int] = {}
        for acknowledged in history.acknowledged:
            self._acknowledged.setdefault(acknowledged.key, acknowledged.at)
        self._offered = {will.key: will for will in history.wills if not will.is_sure}
        self._wills = {will.key: will for will in history.wills if will.is_sure}
        self._losses: dict[str, list[Lost]] = defaultdict(list)
        for event in history.connections:
            if isinstance(event, Lost):
                self._losses[event.client].append(event)
        self._spans = _spans(history)
        self._receivers = {span.client: span.receiver for span in self._spans}
        self._members: dict[str, set[str]] = defaultdict(set)
        for client, receiver in self._receivers.items():
            self._members[receiver].add(client)
        self._by_topic: dict[str, list[Span]] = {}

    @cached_property
    def _events(self) -> list[Delivery | Misused]:
        return list(deliveries(self._history))

    @cached_property
    def _deliveries(self) -> dict[Awaited, list[Delivery]]:
        """By receiver and message, in order."""
        found: dict[Awaited, list[Delivery]] = defaultdict(list)
        for delivery in self._known():
            receiver = self._receivers.get(delivery.client, delivery.client)
            found[Awaited(receiver, delivery.key)].append(delivery)
        return found

    def _known(self) -> Iterator[Delivery]:
        for event in self._events:
            if isinstance(event, Delivery) and self._is_known(event.key):
                yield event

    def _is_known(self, key: Key | None) -> bool:
        return key in self._first or key in self._offered

    # Each rule.

    def quick(self) -> Iterator[Violation]:
        yield from self.sessions()
        yield from self.forgotten_subscriptions()
        yield from self.retained()
        yield from self.shadows()

    def sessions(self) -> Iterator[Violation]:
        established: set[str] = set()
        pending = [event for event in self._history.subscriptions if event.step is Step.SUBSCRIBED]
        pending.reverse()
        for event in self._history.connections:
            while pending and pending[-1].at < event.at:
                established.add(pending.pop().client)
            if not isinstance(event, Connected) or event.is_session_present:
                continue
            if event.client in established and not event.may_be_new:
                yield Violation(Kind.SESSION, f"{event.client} at {event.at}")
            established.discard(event.client)

    def forgotten_subscriptions(self) -> Iterator[Violation]:
        """UNSUBACK says that there was none (v5 §3.11.3), and SUBACK had said that there is."""
        state: dict[tuple[str, str], Step | None] = {}
        for event in self._history.subscriptions:
            subject = (event.client, event.topic_filter)
            before = state.get(subject)
            match event.step:
                case Step.UNSUBSCRIBE:  # Only the first attempt says something for sure.
                    state[subject] = Step.UNSUBSCRIBE if before is Step.SUBSCRIBED else None
                case Step.UNSUBSCRIBED if before is Step.UNSUBSCRIBE and not event.existed:
                    yield Violation(Kind.SUBSCRIPTION, f"{event.client} {event.topic_filter} at {event.at}")
                case step:
                    state[subject] = step

    def lost(self) -> Iterator[Violation]:
        for receiver, key in self.missing_messages():
            topic = self._first[key].topic
            yield Violation(Kind.LOST, f"{key} on {topic} to {receiver}, sent at {self._first[key].at}")
        for receiver, key in self.missing_wills():
            yield Violation(Kind.WILL_LOST, f"{key} to {receiver}")

    def missing_messages(self) -> Iterator[Awaited]:
        for key, acknowledged_at in self._acknowledged.items():
            first = self._first[key]
            if not first.qos or (first.expires_s is not None and first.expires_s < LONG_S):
                continue
            receivers = {
                span.receiver
                for span in self._matching(first.topic)
                if span.sure_from < first.at and acknowledged_at < span.sure_to
            }
            for receiver in receivers:
                if (receiver, key) not in self._deliveries:
                    yield Awaited(receiver, key)

    def missing_wills(self) -> Iterator[Awaited]:
        for will in self._wills.values():
            if (end := self._end_of(will.key)) is None:
                continue
            receivers = {
                span.receiver
                for span in self._matching(will_topic(will.client))
                if span.sure_from < end.at and span.sure_to == math.inf
            }
            for receiver in receivers:
                if (receiver, will.key) not in self._deliveries:
                    yield Awaited(receiver, will.key)

    def misused(self) -> Iterator[Violation]:
        for event in self._events:
            if isinstance(event, Misused):
                yield Violation(Kind.PACKET_ID, f"{event.packet_id} to {event.client} at {event.at}")

    def repetitions(self) -> Iterator[Violation]:
        for (receiver, key), found in self._deliveries.items():
            for before, again in pairwise(found):
                where = f"{key} to {receiver} at {before.at} and {again.at}"
                if again.qos == 2:
                    yield Violation(Kind.DUPLICATE, where)
                elif not self._is_in_doubt(receiver, key, before.at, again.at):
                    yield Violation(Kind.REPEATED, where)

    def order(self) -> Iterator[Violation]:
        """v5 §4.6: by the first delivery of each; members of a group share theirs in any order."""
        last: dict[tuple[str, str, str], Delivery] = {}
        seen: set[tuple[str, Key]] = set()
        for delivery in self._known():
            client, key = delivery.client, delivery.key
            if self._receivers.get(client, client) != client or (client, key) in seen:
                continue
            seen.add((client, key))
            flow = (client, key.publisher, delivery.topic)
            if (before := last.get(flow)) is not None and before.key.number > key.number:
                yield Violation(Kind.ORDER, f"{key} to {client} at {delivery.at} after {before.key}")
            last[flow] = delivery

    def unasked(self) -> Iterator[Violation]:
        for event in self._history.received:
            if isinstance(event, Received) and not self._is_known(event.key):
                yield Violation(Kind.FOREIGN, f"{event.topic} to {event.client} at {event.at}")
        for delivery in self._known():
            begun = self._begun(delivery.key)
            done = self._acknowledged.get(delivery.key, _NEVER)
            if delivery.is_retain or any(
                span.client == delivery.client and begun < span.to and span.from_ < min(done, delivery.at)
                for span in self._matching(delivery.topic)
            ):
                continue
            yield Violation(Kind.UNASKED, f"{delivery.key} to {delivery.client} at {delivery.at}")

    def retained(self) -> Iterator[Violation]:
        by_topic: dict[str, list[Published]] = defaultdict(list)
        for published in self._first.values():
            if published.is_retain:
                by_topic[published.topic].append(published)
        for read in self._history.retained:
            sent = [published for published in by_topic[read.topic] if published.at < read.at]
            settled = [
                place
                for place, published in enumerate(sent)
                if self._acknowledged.get(published.key, _NEVER) <= read.since
            ]
            allowed = {
                None if each.is_cleared else each.key for each in sent[settled[-1] if settled else 0 :]
            }
            if not settled:
                allowed.add(None)
            if read.key not in allowed:
                newest = sent[settled[-1]].key if settled else None
                detail = f"{read.topic} held {read.key} at {read.at}, acknowledged before: {newest}"
                yield Violation(Kind.RETAINED, detail)

    def early_wills(self) -> Iterator[Violation]:
        for (receiver, key), found in self._deliveries.items():
            if (will := self._wills.get(key)) is None:
                continue
            end = self._end_of(key)
            if end is None or found[0].time < end.time + will.delay_s - EARLY_S:
                yield Violation(Kind.WILL_EARLY, f"{key} to {receiver} at {found[0].at}")

    def expired(self) -> Iterator[Violation]:
        for (receiver, key), found in self._deliveries.items():
            sent = [each for each in self._sent[key] if each.at < found[0].at]
            if not sent or (expires_s := sent[0].expires_s) is None or found[0].is_dup:
                continue  # v5 §3.3.2.3.3 speaks of onward delivery that has not begun.
            if found[0].time > sent[-1].time + expires_s + LATE_S:
                late_s = found[0].time - sent[-1].time - expires_s
                yield Violation(Kind.EXPIRED, f"{key} to {receiver}, {late_s:.1f} s late")

    def shadows(self) -> Iterator[Violation]:
        by_thing: dict[str, list[ShadowSeen]] = defaultdict(list)
        for seen in self._history.shadows:
            by_thing[seen.thing].append(seen)
        for thing, all_seen in by_thing.items():
            highest = [ShadowSeen(thing, 0, 0)]  # At each event: the highest of all up to it.
            newest: dict[int, int] = {}  # The highest version at which each number was accepted.
            for seen in all_seen:
                if seen.is_read:
                    known = highest[bisect_right(all_seen, seen.since, key=lambda event: event.at)]
                    if seen.version < known.version:
                        detail = f"{thing} has version {seen.version}, {known.version} was seen"
                        yield Violation(Kind.SHADOW_BACK, detail)
                    if seen.number < known.number:
                        detail = f"{thing} holds {seen.number}, {known.number} was accepted"
                        yield Violation(Kind.SHADOW_LOST, detail)
                else:
                    if seen.version <= newest.get(seen.number - 1, 0):
                        detail = f"{thing} accepted {seen.number} as version {seen.version}"
                        yield Violation(Kind.SHADOW_BACK, detail)
                    newest[seen.number] = max(seen.version, newest.get(seen.number, 0))
                last = highest[-1]
                highest.append(
                    ShadowSeen(thing, max(last.version, seen.version), max(last.number, seen.number))
                )

    # What the rules ask.

    def _matching(self, topic: str) -> list[Span]:
        if (found := self._by_topic.get(topic)) is None:
            name = TopicName(topic.encode())
            found = [span for span in self._spans if matches(TopicFilter(span.topic_filter), name)]
            self._by_topic[topic] = found
        return found

    def _begun(self, key: Key) -> int:
        """When the message can have been published first."""
        return (self._first.get(key) or self._offered[key]).at

    def _end_of(self, key: Key) -> Lost | None:
        """The end of the connection with this Will."""
        will = self._wills[key]
        return next((lost for lost in self._losses[will.client] if lost.at > will.at), None)

    def _is_in_doubt(self, receiver: str, key: Key, before: int, again: int) -> bool:
        """Whether a PUBACK on either side may have been lost (v5 §4.3.2)."""
        if any(sent.is_dup and sent.qos == 1 and sent.at < again for sent in self._sent[key]):
            return True
        members = self._members.get(receiver, {receiver})
        return any(before < lost.at < again for member in members for lost in self._losses[member])


def _spans(history: History) -> list[Span]:
    open_: dict[tuple[str, str], Span] = {}
    closed: list[Span] = []
    for event in history.subscriptions:
        subject = (event.client, event.topic_filter)
        span = open_.get(subject)
        match event.step:
            case Step.SUBSCRIBE if span is None:
                open_[subject] = _new_span(event.client, event.topic_filter, event.at)
            case Step.SUBSCRIBED if span is not None:
                # Asked for again after UNSUBSCRIBE without an answer: it exists for sure from now on.
                if span.sure_to < math.inf:
                    closed.append(span)
                    span = span._replace(sure_from=math.inf, sure_to=math.inf)
                open_[subject] = span._replace(sure_from=min(span.sure_from, event.at))
            case Step.UNSUBSCRIBE if span is not None:
                open_[subject] = span._replace(sure_to=min(span.sure_to, event.at))
            case Step.UNSUBSCRIBED if span is not None:
                closed.append(span._replace(to=event.at))
                del open_[subject]
    return [*closed, *open_.values()]


def _new_span(client: str, topic_filter: str, at: int) -> Span:
    share, _, rest = topic_filter.removeprefix("$share/").partition("/")
    if topic_filter.startswith("$share/"):
        return Span(client, f"group {share}", rest.encode(), at, math.inf, math.inf, math.inf)
    return Span(client, client, topic_filter.encode(), at, math.inf, math.inf, math.inf)
