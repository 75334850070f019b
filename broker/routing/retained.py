"""Retained messages by Topic Name, found by Topic Filter.

Knows: which topic has a retained message, and the tree of their levels.
Does not know: what a message is, when it expires, how many or how deep they may be (the caller
    limits that: a topic costs one node per level that it shares with no other).
Spec: v5 §3.3.1.3, §4.7; v3.1.1 §3.3.1.3, §4.7.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

from ..protocol.packets import TopicFilter, TopicName
from ..protocol.topics import MULTI_LEVEL, SEPARATOR, SINGLE_LEVEL, has_wildcard

MessageT = TypeVar("MessageT")


class RetainedIndex(Generic[MessageT]):
    """At most one retained message per Topic Name."""

    __slots__ = ("_messages", "_root")

    def __init__(self) -> None:
        """Start empty."""
        self._messages: dict[TopicName, MessageT] = {}
        self._root = _Node()

    def __len__(self) -> int:
        """Count the retained messages."""
        return len(self._messages)

    def get(self, topic: TopicName) -> MessageT | None:
        """Return the retained message of this very topic, or None."""
        return self._messages.get(topic)

    def set(self, topic: TopicName, message: MessageT) -> None:
        """Keep `message` for a valid Topic Name in place of any earlier one (v5 [MQTT-3.3.1-5])."""
        if topic not in self._messages:
            node = self._root
            for level in topic.split(SEPARATOR):
                child = node.children.get(level)
                if child is None:
                    child = node.children[level] = _Node()
                node = child
            node.topic = topic
        self._messages[topic] = message

    def remove(self, topic: TopicName) -> MessageT | None:
        """Forget the topic's message and return it, or None if there was none (v5 [MQTT-3.3.1-6])."""
        message = self._messages.pop(topic, None)
        if message is None:
            return None
        node = self._root
        path: list[tuple[_Node, bytes]] = []
        for level in topic.split(SEPARATOR):
            path.append((node, level))
            node = node.children[level]
        node.topic = None
        while path and not node.children and node.topic is None:
            node, level = path.pop()
            del node.children[level]
        return message

    def match(self, topic_filter: TopicFilter) -> Iterator[tuple[TopicName, MessageT]]:
        """Yield topic and message for every match of a valid filter without `$share/...`.

        The iterator works as it is asked, however slowly, in memory that grows with the depth of
        the topics only. The index must not change before the iterator is done: take `list(...)`
        where that could happen.

        Spec: v5 §4.7.1, [MQTT-4.7.2-1]; v3.1.1 §4.7.1, [MQTT-4.7.2-1].
        """
        if has_wildcard(topic_filter):
            return self._match_wildcards(topic_filter)
        topic = TopicName(topic_filter)
        message = self._messages.get(topic)
        return iter(()) if message is None else iter(((topic, message),))

    def _match_wildcards(self, topic_filter: TopicFilter) -> Iterator[tuple[TopicName, MessageT]]:
        levels = topic_filter.split(SEPARATOR)
        # Each entry: nodes still to visit, and how many levels of the filter lie behind them.
        ways: list[tuple[Iterator[_Node], int]] = [(iter((self._root,)), 0)]
        while ways:
            nodes, depth = ways[-1]
            node = next(nodes, None)
            if node is None:
                ways.pop()
                continue
            level = levels[depth] if depth < len(levels) else None
            if node.topic is not None and level in (None, MULTI_LEVEL):
                yield node.topic, self._messages[node.topic]
            if level == MULTI_LEVEL:  # It stays the next level all the way down.
                ways.append((self._children(node), depth))
            elif level == SINGLE_LEVEL:
                ways.append((self._children(node), depth + 1))
            elif level is not None and level in node.children:
                ways.append((iter((node.children[level],)), depth + 1))

    def _children(self, node: "_Node") -> "Iterator[_Node]":
        """Return the nodes that a wildcard after `node` stands for."""
        if node is not self._root:
            return iter(node.children.values())
        return (child for level, child in node.children.items() if not level.startswith(b"$"))


class _Node:
    """One level of Topic Names; `topic` is set where a message is retained."""

    __slots__ = ("children", "topic")

    def __init__(self) -> None:
        self.children: dict[bytes, _Node] = {}
        self.topic: TopicName | None = None
