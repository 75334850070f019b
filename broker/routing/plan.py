"""Fan-out plan of one topic: receivers with equal needs stand together, so that they share a frame.

Knows: how overlapping Subscriptions of one receiver become one delivery, what "equal needs" means.
Does not know: what a receiver is beyond its version and its limit, messages, frames.
Spec: v5 §3.3.4, [MQTT-3.8.3-3]; v3.1.1 [MQTT-3.3.5-1].
"""

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from ..protocol.subscription import Subscription
from .tree import Matches, SharedGroup


class Receiver(Protocol):
    """Whoever can be delivered to: a Session, or a service inside the process."""

    @property
    def version(self) -> int:
        """Protocol version of its frames; 0 where it takes messages instead of frames."""

    @property
    def maximum_packet_size(self) -> int:
        """Largest packet in bytes that it accepts."""

    @property
    def has_aliases(self) -> bool:
        """Whether its frames may hold Topic Aliases, and so are nobody else's."""


ReceiverT = TypeVar("ReceiverT", bound=Receiver)


class Group(Generic[ReceiverT]):
    """Receivers whose frames are the same bytes at the same QoS, but for packet ids.

    `maximum_packet_size` is the smallest of the receivers': at or below it nobody need be asked.
    `has_aliases`: each makes frames of its own after all. `is_plain`: a frame that a publisher sent may
    be theirs as it is, where the versions agree.
    """

    __slots__ = (
        "has_aliases",
        "identifiers",
        "is_plain",
        "is_retain_as_published",
        "maximum_packet_size",
        "qos",
        "receivers",
        "version",
    )

    def __init__(
        self,
        version: int,
        qos: int,
        is_retain_as_published: bool,
        identifiers: tuple[int, ...],
        has_aliases: bool,
    ) -> None:
        self.version = version
        self.qos = qos
        self.is_retain_as_published = is_retain_as_published
        self.identifiers = identifiers
        self.has_aliases = has_aliases
        self.is_plain = not identifiers and not has_aliases
        self.maximum_packet_size = 0xFFFFFFFF
        self.receivers: list[ReceiverT] = []

    def add(self, receiver: ReceiverT) -> None:
        """Put a receiver in."""
        self.receivers.append(receiver)
        if receiver.maximum_packet_size < self.maximum_packet_size:
            self.maximum_packet_size = receiver.maximum_packet_size


class Plan(Generic[ReceiverT]):
    """Who gets the messages of one topic; holds while no Subscription changes.

    `no_local` are the receivers whose own messages need a plan of their own; for everybody else's
    messages this one holds.
    """

    __slots__ = ("groups", "no_local", "shared")

    def __init__(
        self,
        groups: Sequence[Group[ReceiverT]],
        shared: Sequence[SharedGroup[ReceiverT]],
        *,
        no_local: frozenset[ReceiverT],
    ) -> None:
        self.groups = groups
        self.shared = shared
        self.no_local = no_local


def group_of(receiver: ReceiverT, subscription: Subscription) -> Group[ReceiverT]:
    """Return a group of one, for the member of a Shared Subscription whose turn it is."""
    group: Group[ReceiverT] = Group(
        receiver.version,
        subscription.qos,
        subscription.is_retain_as_published,
        () if subscription.identifier is None else (subscription.identifier,),
        receiver.has_aliases,
    )
    group.add(receiver)
    return group


def plan(
    matches: Matches[ReceiverT], *, publisher: ReceiverT | None, may_receive: Callable[[ReceiverT], bool]
) -> Plan[ReceiverT]:
    """Turn the matches of a topic into a plan.

    A receiver with overlapping Subscriptions gets one copy, at the highest QoS granted, with all
    Subscription Identifiers (v5 [MQTT-3.3.4-2], [MQTT-3.3.4-4]). A Subscription with No Local is no
    Subscription for its own messages (v5 [MQTT-3.8.3-3]).
    """
    merged: dict[ReceiverT, tuple[int, bool, tuple[int, ...]]] = {}
    no_local = frozenset(receiver for receiver, subscription in matches.direct if subscription.is_no_local)
    for receiver, subscription in matches.direct:
        if subscription.is_no_local and receiver is publisher:
            continue
        identifiers: tuple[int, ...] = () if subscription.identifier is None else (subscription.identifier,)
        earlier = merged.get(receiver)
        if earlier is None:
            merged[receiver] = (subscription.qos, subscription.is_retain_as_published, identifiers)
        else:
            merged[receiver] = (
                max(earlier[0], subscription.qos),
                earlier[1] or subscription.is_retain_as_published,
                earlier[2] + identifiers,
            )
    groups: dict[tuple[int, int, bool, tuple[int, ...], bool], Group[ReceiverT]] = {}
    for receiver, (qos, is_retain_as_published, identifiers) in merged.items():
        if not may_receive(receiver):
            continue
        key = (receiver.version, qos, is_retain_as_published, identifiers, receiver.has_aliases)
        group = groups.get(key)
        if group is None:
            group = groups[key] = Group(*key)
        group.add(receiver)
    return Plan(tuple(groups.values()), tuple(matches.shared), no_local=no_local)
