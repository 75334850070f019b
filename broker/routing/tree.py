"""Subscription tree: which Subscriptions match a Topic Name.

Knows: who subscribed to which Topic Filter, the turn of each Shared Subscription's members.
Does not know: what a subscriber is, whether it may receive or is connected, how deep a filter
    may be (the caller limits that: a filter with wildcards costs one node per level).
Spec: v5 §4.7, §4.8.2; v3.1.1 §4.7.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from msgspec import Struct

from ..protocol.packets import TopicFilter, TopicName
from ..protocol.subscription import Subscription
from ..protocol.topics import MULTI_LEVEL, SEPARATOR, SINGLE_LEVEL, has_wildcard, split_shared

SubscriberT = TypeVar("SubscriberT")


class SharedGroup(Generic[SubscriberT]):
    """The members of one Shared Subscription, who take turns (v5 §4.8.2).

    `members` maps each subscriber to its Subscription, next in turn first. Only the tree adds
    and removes; a group that lost its last member is out of the tree for good.
    """

    __slots__ = ("members", "share_name", "shared_filter", "topic_filter")

    def __init__(self, share_name: bytes, topic_filter: TopicFilter) -> None:
        """Start a group without members; `topic_filter` is the one without `$share/...`."""
        self.share_name = share_name
        self.topic_filter = topic_filter
        self.shared_filter = TopicFilter(b"$share/%b/%b" % (share_name, topic_filter))
        self.members: OrderedDict[SubscriberT, Subscription] = OrderedDict()

    def next_member(
        self, acceptable: Callable[[SubscriberT], bool]
    ) -> tuple[SubscriberT, Subscription] | None:
        """Choose the next member in turn that is acceptable, or None if nobody is.

        Asks about each member at most once. Acceptable members are chosen round robin.
        `acceptable` must not change the tree.
        """
        members = self.members
        for _ in range(len(members)):
            subscriber = next(iter(members))
            members.move_to_end(subscriber)
            if acceptable(subscriber):
                return subscriber, members[subscriber]
        return None


class Matches(Struct, Generic[SubscriberT], frozen=True):
    """What one Topic Name matches.

    `direct` has one entry per matching Subscription, so a subscriber with overlapping filters
    comes more than once (v5 §3.3.4). Each group of `shared` gets the message once.
    """

    direct: list[tuple[SubscriberT, Subscription]]
    shared: list[SharedGroup[SubscriberT]]


class SubscriptionTree(Generic[SubscriberT]):
    """Subscriptions by Topic Filter. Subscribers are told apart by hash and equality.

    All filters are found in one mapping; those with wildcards also hang in a tree of levels.
    So a Topic Name finds its exact filter in one look-up and walks past wildcards alone.
    """

    __slots__ = ("_count", "_leaves", "_root")

    def __init__(self) -> None:
        """Start empty."""
        self._leaves: dict[TopicFilter, _Leaf[SubscriberT]] = {}
        self._root: _Node[SubscriberT] = _Node()
        self._count = 0

    def __len__(self) -> int:
        """Count the Subscriptions, shared ones once per member."""
        return self._count

    def add(self, subscription: Subscription, subscriber: SubscriberT) -> Subscription | None:
        """Put a Subscription with a valid filter in; return the one that it replaces, if any.

        Spec: v5 [MQTT-3.8.4-3]; v3.1.1 [MQTT-3.8.4-3].
        """
        share_name, topic_filter = _split(subscription.topic_filter)
        leaf = self._leaves.get(topic_filter)
        if leaf is None:
            leaf = self._leaves[topic_filter] = _Leaf()
            if has_wildcard(topic_filter):
                self._set_leaf(topic_filter, leaf)
        holders: dict[SubscriberT, Subscription]
        if share_name is None:
            holders = leaf.direct
        else:
            group = leaf.groups.get(share_name)
            if group is None:
                group = leaf.groups[share_name] = SharedGroup(share_name, topic_filter)
            holders = group.members
        replaced = holders.get(subscriber)
        holders[subscriber] = subscription
        if replaced is None:
            self._count += 1
        return replaced

    def remove(self, topic_filter: TopicFilter, subscriber: SubscriberT) -> Subscription | None:
        """Take the subscriber's Subscription to this filter (as sent) out and return it.

        Returns:
            The Subscription, or None if there was none.
        """
        share_name, inner = _split(topic_filter)
        leaf = self._leaves.get(inner)
        if leaf is None:
            return None
        if share_name is None:
            removed = leaf.direct.pop(subscriber, None)
        else:
            group = leaf.groups.get(share_name)
            if group is None:
                return None
            removed = group.members.pop(subscriber, None)
            if not group.members:
                del leaf.groups[share_name]
        if removed is not None:
            self._count -= 1
            if not leaf.direct and not leaf.groups:
                del self._leaves[inner]
                if has_wildcard(inner):
                    self._set_leaf(inner, None)
        return removed

    def shared_group(self, shared_filter: TopicFilter) -> SharedGroup[SubscriberT] | None:
        """Return the group of a Shared Subscription (filter as sent), None where it has no member."""
        share_name, topic_filter = _split(shared_filter)
        leaf = self._leaves.get(topic_filter)
        return None if leaf is None or share_name is None else leaf.groups.get(share_name)

    def match(self, topic: TopicName) -> Matches[SubscriberT]:
        """Collect every Subscription that matches a valid Topic Name.

        Spec: v5 §4.7.1, [MQTT-4.7.2-1]; v3.1.1 §4.7.1, [MQTT-4.7.2-1].
        """
        direct: list[tuple[SubscriberT, Subscription]] = []
        shared: list[SharedGroup[SubscriberT]] = []
        found = self._match_wildcards(topic)
        exact = self._leaves.get(TopicFilter(topic))
        if exact is not None:
            found.append(exact)
        for leaf in found:
            direct += leaf.direct.items()
            if leaf.groups:
                shared += leaf.groups.values()
        return Matches(direct, shared)

    def _match_wildcards(self, topic: TopicName) -> "list[_Leaf[SubscriberT]]":
        root = self._root
        found: list[_Leaf[SubscriberT]] = []
        levels = topic.split(SEPARATOR)
        reached = [root]
        if topic.startswith(b"$"):
            # A leading wildcard never matches here, so the first level is taken literally.
            child = root.children.get(levels.pop(0))
            reached = [child] if child is not None else []
        for level in levels:
            if not reached:
                return found
            deeper = []
            for node in reached:
                if node.multi_level is not None:
                    found.append(node.multi_level)
                if node.single_level is not None:
                    deeper.append(node.single_level)
                child = node.children.get(level)
                if child is not None:
                    deeper.append(child)
            reached = deeper
        for node in reached:
            if node.multi_level is not None:  # `sport/#` matches `sport`.
                found.append(node.multi_level)
            if node.leaf is not None:
                found.append(node.leaf)
        return found

    def _set_leaf(self, topic_filter: TopicFilter, leaf: "_Leaf[SubscriberT] | None") -> None:
        """Hang the leaf of a filter with wildcards, or take it out with the nodes it alone kept."""
        levels = topic_filter.split(SEPARATOR)
        is_multi_level = levels[-1] == MULTI_LEVEL
        if is_multi_level:
            levels.pop()
        path = [self._root]
        for level in levels:
            path.append(path[-1].child(level))
        if is_multi_level:
            path[-1].multi_level = leaf
        else:
            path[-1].leaf = leaf
        while levels and path[-1].is_empty():
            path.pop()
            path[-1].drop(levels.pop())


class _Leaf(Generic[SubscriberT]):
    """Who subscribed to one Topic Filter."""

    __slots__ = ("direct", "groups")

    def __init__(self) -> None:
        self.direct: dict[SubscriberT, Subscription] = {}
        self.groups: dict[bytes, SharedGroup[SubscriberT]] = {}


class _Node(Generic[SubscriberT]):
    """One level of filters with wildcards: the leaf that ends here and the ways on."""

    __slots__ = ("children", "leaf", "multi_level", "single_level")

    def __init__(self) -> None:
        self.children: dict[bytes, _Node[SubscriberT]] = {}
        self.single_level: _Node[SubscriberT] | None = None
        self.multi_level: _Leaf[SubscriberT] | None = None
        self.leaf: _Leaf[SubscriberT] | None = None

    def child(self, level: bytes) -> "_Node[SubscriberT]":
        """Return the next node, made where there is none yet."""
        child = self.single_level if level == SINGLE_LEVEL else self.children.get(level)
        if child is None:
            child = _Node()
            if level == SINGLE_LEVEL:
                self.single_level = child
            else:
                self.children[level] = child
        return child

    def drop(self, level: bytes) -> None:
        if level == SINGLE_LEVEL:
            self.single_level = None
        else:
            del self.children[level]

    def is_empty(self) -> bool:
        return not (self.children or self.single_level or self.multi_level or self.leaf)


def _split(topic_filter: TopicFilter) -> tuple[bytes | None, TopicFilter]:
    shared = split_shared(topic_filter)
    return (None, topic_filter) if shared is None else shared
