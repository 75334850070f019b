"""Topic Names and Topic Filters: grammar, matching, covering.

Knows: wildcards, the `$` rule, the form of Shared Subscriptions.
Does not know: who subscribed, which roots are reserved, our own limits on depth.
Spec: v5 §4.7, §4.8.2; v3.1.1 §4.7.
"""

from typing import Final

from .errors import ProtocolError, TopicFilterInvalidError, TopicNameInvalidError
from .packets import TopicFilter

#: v5 [MQTT-4.7.3-3]; v3.1.1 [MQTT-4.7.3-3].
MAXIMUM_TOPIC_BYTES: Final = 65_535

SEPARATOR: Final = b"/"
SINGLE_LEVEL: Final = b"+"
MULTI_LEVEL: Final = b"#"

_SHARE_PREFIX: Final = b"$share/"
# Whether a byte is in a topic is asked with a number: four times as fast as with `bytes`.
_PLUS: Final = ord("+")
_HASH: Final = ord("#")


def check_topic_name(topic: bytes) -> None:
    """Accept exactly what the specification calls a Topic Name.

    Raises:
        TopicNameInvalidError: empty, too long, not UTF-8, or with U+0000, `+` or `#`.

    Spec: v5 [MQTT-4.7.0-1], [MQTT-4.7.3-1..3], [MQTT-1.5.4-1]; v3.1.1 [MQTT-4.7.1-1],
    [MQTT-4.7.3-1..3], [MQTT-1.5.3-1].
    """
    _check_text(topic, TopicNameInvalidError)
    if has_wildcard(topic):
        raise TopicNameInvalidError("a Topic Name holds a wildcard", spec="v5 [MQTT-4.7.0-1]")


def check_topic_filter(topic_filter: bytes) -> None:
    """Accept exactly what the specification calls a Topic Filter, `$share/...` included.

    `$share` without a separator after it is an ordinary level. In 3.1.1 `$share/...` has the
    same meaning as in 5.

    Raises:
        TopicFilterInvalidError: empty, too long, not UTF-8, with U+0000 or a misplaced wildcard.
        ProtocolError: `$share/` is not followed by a plain Share Name and a Topic Filter.

    Spec: v5 [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.3-1..3], [MQTT-4.8.2-1], [MQTT-4.8.2-2];
    v3.1.1 [MQTT-4.7.1-2], [MQTT-4.7.1-3], [MQTT-4.7.3-1..3].
    """
    _check_text(topic_filter, TopicFilterInvalidError)
    shared = split_shared(topic_filter)
    if shared is not None:
        share_name, topic_filter = shared
        if not share_name:
            raise ProtocolError("a Share Name is empty", spec="v5 [MQTT-4.8.2-1]")
        if has_wildcard(share_name):
            raise ProtocolError("a Share Name holds a wildcard", spec="v5 [MQTT-4.8.2-2]")
        if not topic_filter:
            raise ProtocolError("no Topic Filter follows the Share Name", spec="v5 [MQTT-4.8.2-2]")
    if _HASH in topic_filter:
        before = topic_filter[:-1]
        if _HASH in before or not topic_filter.endswith(MULTI_LEVEL):
            raise TopicFilterInvalidError("`#` is not the last character", spec="v5 [MQTT-4.7.1-1]")
        if before and not before.endswith(SEPARATOR):
            raise TopicFilterInvalidError("`#` shares its level", spec="v5 [MQTT-4.7.1-1]")
    if _PLUS in topic_filter and any(
        _PLUS in level and level != SINGLE_LEVEL for level in topic_filter.split(SEPARATOR)
    ):
        raise TopicFilterInvalidError("`+` shares its level", spec="v5 [MQTT-4.7.1-2]")


def split_shared(topic_filter: bytes) -> tuple[bytes, TopicFilter] | None:
    """Take a Shared Subscription's filter apart: (Share Name, Topic Filter), or None for others.

    For a filter that `check_topic_filter` accepts both parts are valid and not empty.

    Spec: v5 §4.8.2.
    """
    if not topic_filter.startswith(_SHARE_PREFIX):
        return None
    share_name, _, inner = topic_filter[len(_SHARE_PREFIX) :].partition(SEPARATOR)
    return share_name, TopicFilter(inner)


def has_wildcard(topic_filter: bytes) -> bool:
    """Tell whether a wildcard character is in it: a valid filter without one matches one topic."""
    return _PLUS in topic_filter or _HASH in topic_filter


def levels(topic: bytes) -> int:
    """Count the levels of a Topic Name or Topic Filter; empty ones count too (v5 §4.7.1.1)."""
    return topic.count(SEPARATOR) + 1


def matches(topic_filter: bytes, topic_name: bytes) -> bool:
    """Tell whether a valid Topic Filter (without `$share/...`) matches a valid Topic Name.

    This is the plain reading of the specification; the subscription tree is tested against it.

    Spec: v5 §4.7.1, [MQTT-4.7.2-1]; v3.1.1 §4.7.1, [MQTT-4.7.2-1].
    """
    if _is_hidden(topic_filter, topic_name):
        return False
    wanted = topic_filter.split(SEPARATOR)
    given = topic_name.split(SEPARATOR)
    if wanted[-1] == MULTI_LEVEL:
        wanted.pop()  # `#` stands for the parent and any number of levels below it.
        given = given[: len(wanted)]
    return len(wanted) == len(given) and all(
        want in (SINGLE_LEVEL, level) for want, level in zip(wanted, given, strict=True)
    )


def covers(pattern: bytes, topic_filter: bytes) -> bool:
    """Tell whether `pattern` matches every Topic Name that `topic_filter` can match.

    Both are valid Topic Filters without `$share/...`. A Topic Name is a filter that matches
    itself alone, so `covers(pattern, name)` is `matches(pattern, name)`.

    Spec: v5 §4.7.1, [MQTT-4.7.2-1].
    """
    if _is_hidden(pattern, topic_filter):
        return False
    if topic_filter in (b"#", b"/#"):
        # The parent that `#` also stands for would be the empty topic, which is no Topic Name.
        topic_filter = topic_filter[:-1] + b"+/#"
    wide = pattern.split(SEPARATOR)
    narrow = topic_filter.split(SEPARATOR)
    if wide[-1] == MULTI_LEVEL:
        wide.pop()
        narrow = narrow[: len(wide)]
    return len(wide) == len(narrow) and all(
        # Where `wide` wants one level, `#` in `narrow` may stand for none or many.
        inner != MULTI_LEVEL and outer in (SINGLE_LEVEL, inner)
        for outer, inner in zip(wide, narrow, strict=True)
    )


def _is_hidden(topic_filter: bytes, topic: bytes) -> bool:
    # v5 and v3.1.1 [MQTT-4.7.2-1]: a leading wildcard never matches a topic that begins with `$`.
    return topic.startswith(b"$") and topic_filter.startswith((SINGLE_LEVEL, MULTI_LEVEL))


def _check_text(topic: bytes, error: type[TopicNameInvalidError | TopicFilterInvalidError]) -> None:
    if not topic:
        raise error("a topic is empty", spec="v5 [MQTT-4.7.3-1]")
    if len(topic) > MAXIMUM_TOPIC_BYTES:
        raise error("a topic is longer than 65,535 bytes", spec="v5 [MQTT-4.7.3-3]")
    if 0 in topic:
        raise error("a topic holds U+0000", spec="v5 [MQTT-4.7.3-2]")
    if not topic.isascii():
        try:
            topic.decode()
        except UnicodeDecodeError:
            raise error("a topic is not UTF-8", spec="v5 [MQTT-1.5.4-1]") from None
