"""A set of topic patterns that answers quickly however many patterns it holds.

Knows: patterns without placeholders; which topics and filters they match and cover.
Does not know: rules, principals, what a pattern allows.
Spec: v5 §4.7.1, [MQTT-4.7.2-1]; v3.1.1 §4.7.1, [MQTT-4.7.2-1].
"""

from collections.abc import Iterable, Sequence
from typing import Final

from ..protocol.packets import TopicFilter, TopicName
from ..protocol.topics import covers, has_wildcard, levels, matches

_LEADING_WILDCARDS: Final = (b"+", b"#")

# Most principals have empty sets, and an empty frozenset of their own is 216 bytes.
_NONE: Final[frozenset[bytes]] = frozenset()


class PatternSet:
    """Valid Topic Filters, without `$share/...`, used as patterns.

    A pattern that begins with a wildcard reaches nothing below `hidden_root`, as it reaches nothing
    that begins with `$`: such topics are allowed by name only.

    Patterns `a/b` and `a/b/#`, the usual ones, are found by hash; others are tried one by one.
    """

    __slots__ = ("_exact", "_hidden_root", "_others", "_prefix_levels", "_prefixes", "_rooted")

    def __init__(self, patterns: Iterable[TopicFilter], *, hidden_root: bytes) -> None:
        exact: set[bytes] = set()
        prefixes: set[bytes] = set()
        others: set[bytes] = set()
        for pattern in patterns:
            if not has_wildcard(pattern):
                exact.add(pattern)
            elif pattern.endswith(b"/#") and not has_wildcard(pattern[:-2]):
                prefixes.add(pattern[:-2])
            else:
                others.add(pattern)
        self._hidden_root = hidden_root
        self._exact = frozenset(exact) or _NONE
        self._prefixes = frozenset(prefixes) or _NONE
        # However many levels a topic has, no more are looked at than the longest prefix has.
        self._prefix_levels = max(map(levels, prefixes), default=0)
        self._others = tuple(others)
        self._rooted = tuple(pattern for pattern in others if not pattern.startswith(_LEADING_WILDCARDS))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PatternSet) and (
            self._hidden_root,
            self._exact,
            self._prefixes,
            frozenset(self._others),
        ) == (other._hidden_root, other._exact, other._prefixes, frozenset(other._others))

    __hash__ = None  # type: ignore[assignment]

    def matches(self, topic: TopicName) -> bool:
        """Say whether some pattern matches `topic`."""
        return self._is_listed(topic) or any(matches(pattern, topic) for pattern in self._candidates(topic))

    def covers(self, topic_filter: TopicFilter) -> bool:
        """Say whether some single pattern matches everything that `topic_filter` can match.

        One exception: a filter that begins with a wildcard is covered although it may reach below a
        `hidden_root` without `$`. `matches` refuses those topics one by one.
        """
        return self._is_listed(topic_filter) or any(
            covers(pattern, topic_filter) for pattern in self._candidates(topic_filter)
        )

    def _is_listed(self, topic: bytes) -> bool:
        # Patterns here are literal but for the last `#`, so a filter's wildcards can meet only that.
        if topic in self._exact:
            return True
        end = -1
        for _ in range(self._prefix_levels):
            end = topic.find(b"/", end + 1)
            if end < 0:
                return topic in self._prefixes  # `a/b/#` matches `a/b` (v5 §4.7.1.2).
            if topic[:end] in self._prefixes:
                return True
        return False

    def _candidates(self, topic: bytes) -> Sequence[bytes]:
        return self._rooted if topic.partition(b"/")[0] == self._hidden_root else self._others
