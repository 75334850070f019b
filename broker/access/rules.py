"""Rules: from the attributes of a client to what it may do.

Knows: conditions, placeholders, that what is not allowed is denied and that deny beats allow.
Does not know: the file that rules are written in (rules_file), where attributes come from.
Spec: v5 §5.4.2; v3.1.1 §5.4.2.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from ..protocol.packets import TopicFilter, TopicName
from ..protocol.topics import MAXIMUM_TOPIC_BYTES
from .attributes import Attributes
from .patterns import PatternSet
from .reserved import ReservedTopics

# A value with one of these would be more than a part of one level.
_NOT_IN_A_LEVEL: Final = re.compile(r"[/+#\0]")


class Condition(Struct, frozen=True):
    """One entry of `when`: an attribute equals `value`, or begins with it where `is_prefix`."""

    attribute: str
    value: str
    is_prefix: bool = False

    def holds(self, attributes: Attributes) -> bool:
        """Say whether one of the attribute's values fits; an absent attribute fits nothing."""
        values = attributes.get(self.attribute, ())
        if self.is_prefix:
            return any(value.startswith(self.value) for value in values)
        return self.value in values


class TopicTemplate(Struct, frozen=True):
    """A pattern with placeholders: literal text and attribute names by turns, text first and last."""

    parts: tuple[str, ...]

    def fill(self, attributes: Attributes, *, hidden_root: str) -> TopicFilter | None:
        """Return the pattern with values in place of names, or None where it can match nothing.

        Values are literal. One that is absent, that would be a wildcard or add a level, or that would
        make the first level a reserved root, makes the whole pattern match nothing.
        """
        parts = list(self.parts)
        for index in range(1, len(parts), 2):
            values = attributes.get(parts[index])
            if values is None or _NOT_IN_A_LEVEL.search(values[0]):
                return None
            parts[index] = values[0]
        text = "".join(parts)
        is_first_level_filled = len(parts) > 1 and "/" not in self.parts[0]
        if is_first_level_filled and (text.startswith("$") or text.partition("/")[0] == hidden_root):
            return None
        pattern = text.encode()
        return TopicFilter(pattern) if len(pattern) <= MAXIMUM_TOPIC_BYTES else None


class Rule(Struct, frozen=True, kw_only=True):
    """One rule. It speaks of clients for which all of `when` holds.

    `is_retain_allowed` speaks of publishing under an allow rule.
    """

    is_allow: bool
    is_for_publish: bool
    is_for_subscribe: bool
    topics: tuple[TopicTemplate, ...]
    when: tuple[Condition, ...] = ()
    is_retain_allowed: bool = True


class RulePermissions:
    """The permissions of one principal, with all placeholders filled in.

    `is_open` adds everything that is not guarded: what clients may do where anonymous ones are let in.
    """

    __slots__ = (
        "_client_id",
        "_is_open",
        "_publish_allow",
        "_publish_deny",
        "_reserved",
        "_retain_allow",
        "_subscribe_allow",
        "_subscribe_deny",
    )

    def __init__(
        self, rules: Iterable[Rule], attributes: Attributes, *, reserved: ReservedTopics, is_open: bool
    ) -> None:
        spoken = [rule for rule in rules if all(condition.holds(attributes) for condition in rule.when)]
        allow = [rule for rule in spoken if rule.is_allow]
        deny = [rule for rule in spoken if not rule.is_allow]
        hidden_root = reserved.root.decode()

        def patterns(chosen: Iterable[Rule]) -> PatternSet:
            return PatternSet(_fill(chosen, attributes, hidden_root), hidden_root=reserved.root)

        publish = [rule for rule in allow if rule.is_for_publish]
        retain = [rule for rule in publish if rule.is_retain_allowed]
        self._reserved = reserved
        self._client_id = "".join(attributes.get("client_id", ())).encode()
        self._is_open = is_open
        self._publish_allow = patterns(publish)
        self._retain_allow = patterns(retain) if len(retain) < len(publish) else self._publish_allow
        self._publish_deny = patterns(rule for rule in deny if rule.is_for_publish)
        self._subscribe_allow = patterns(rule for rule in allow if rule.is_for_subscribe)
        self._subscribe_deny = patterns(rule for rule in deny if rule.is_for_subscribe)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, RulePermissions)
            and all(
                getattr(self, name) == getattr(other, name) for name in self.__slots__ if name != "_reserved"
            )
            and self._reserved.root == other._reserved.root
        )

    __hash__ = None  # type: ignore[assignment]

    def may_publish(self, topic: TopicName, *, is_retain: bool) -> bool:
        """Apply reserved topics first, then deny, then allow."""
        if not self._reserved.may_publish(topic, is_retain=is_retain) or self._publish_deny.matches(topic):
            return False
        allow = self._retain_allow if is_retain else self._publish_allow
        return self._is_open_to(topic) or allow.matches(topic)

    def may_subscribe(self, topic_filter: TopicFilter) -> bool:
        """Say whether one allow pattern covers the filter and no deny pattern does.

        A filter wider than a deny pattern is granted; what is denied inside it `may_receive` holds back.
        """
        if self._subscribe_deny.covers(topic_filter):
            return False
        return self._is_open_to(topic_filter) or self._subscribe_allow.covers(topic_filter)

    def may_receive(self, topic: TopicName) -> bool:
        """Apply reserved topics, then the rules for subscribing to one topic."""
        if not self._reserved.may_receive(topic, self._client_id) or self._subscribe_deny.matches(topic):
            return False
        return self._is_open_to(topic) or self._subscribe_allow.matches(topic)

    def maximum_qos(self, topic_filter: TopicFilter) -> int:
        """Return what reserved topics say; rules do not speak of QoS."""
        return self._reserved.maximum_qos(topic_filter)

    def _is_open_to(self, topic: TopicName | TopicFilter) -> bool:
        return self._is_open and not self._reserved.is_guarded(topic)


def _fill(rules: Iterable[Rule], attributes: Attributes, hidden_root: str) -> Iterator[TopicFilter]:
    for rule in rules:
        for template in rule.topics:
            pattern = template.fill(attributes, hidden_root=hidden_root)
            if pattern is not None:
                yield pattern
