"""Topic grammar and matching: the specification's own examples, then laws."""

import itertools
import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.protocol.errors import PeerError, ProtocolError, TopicFilterInvalidError, TopicNameInvalidError
from broker.protocol.topics import (
    check_topic_filter,
    check_topic_name,
    covers,
    has_wildcard,
    levels,
    matches,
    split_shared,
)

LEVELS = st.sampled_from([b"a", b"b", b"", b"$x"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=5).map(b"/".join).filter(bool)
FILTERS = (
    st.tuples(
        st.lists(LEVELS | st.just(b"+"), max_size=5),
        st.sampled_from([[], [b"#"]]),
    )
    .map(lambda parts: b"/".join(parts[0] + parts[1]))
    .filter(bool)
)


@pytest.mark.parametrize(
    "topic_filter",
    [
        # v5 and v3.1.1 §4.7.1.2, §4.7.1.3
        b"#", b"sport/tennis/#", b"sport/tennis/player1/#",
        b"+", b"+/tennis/#", b"sport/+/player1", b"/+", b"+/+",
        # §4.7.2, §4.7.3
        b"$SYS/#", b"$SYS/monitor/+", b"+/monitor/Clients", b"/", b"/finance", b"Accounts payable", b"a//b",
        # v5 §4.8.2, and what only looks like it
        b"$share/consumer1/sport/tennis/+", b"$share/consumer1//finance", b"$share/consumer1/#",
        b"$share/g//", b"$share", b"$shared/a", b"$shared", b"a/$share//", b"/$share/+",
        # v5 §1.5.4: text is UTF-8, U+FEFF and the last code point included
        "sport/größe/+".encode(), "\ufeff/\U0010ffff".encode(), b"\x01",
        b"a" * 65_535, b"/" * 65_535, b"+/" * 32_767 + b"#",
    ],
)  # fmt: skip
def test_valid_topic_filter_is_accepted(topic_filter: bytes) -> None:
    check_topic_filter(topic_filter)


@pytest.mark.parametrize(
    "topic_filter",
    [
        b"", b"sport/tennis#", b"sport/tennis/#/ranking", b"sport+",
        b"+sport", b"#/", b"##", b"#/#", b"a/+#", b"+#",
        b"#a", b"a/++", b"++/a", b"a\0b", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"a/\xe2\x82", b"a" * 65_536,
        b"$share/g/a#", b"$share/g/#/a", b"$share/g/a+", b"$share/\xff/a", b"$share/\0/a",
    ],
)  # fmt: skip
def test_invalid_topic_filter_is_refused(topic_filter: bytes) -> None:
    with pytest.raises(TopicFilterInvalidError):
        check_topic_filter(topic_filter)


@pytest.mark.parametrize(
    "topic_filter",
    [
        b"$share/",
        b"$share//",
        b"$share//a",
        b"$share/g",
        b"$share/g/",
        b"$share/#",
        b"$share/+/a",
        b"$share/a#/b",
    ],
)
def test_shared_filter_without_name_or_filter_is_a_protocol_error(topic_filter: bytes) -> None:
    with pytest.raises(ProtocolError):
        check_topic_filter(topic_filter)


@pytest.mark.parametrize(
    "topic",
    [
        b"a", b"/", b"//", b" ", b"sport/", b"/finance", b"$SYS/x", b"Accounts payable", "größe".encode(),
        b"a" * 65_535, "€".encode() * 21_845,
    ],
)  # fmt: skip
def test_valid_topic_name_is_accepted(topic: bytes) -> None:
    check_topic_name(topic)


@pytest.mark.parametrize(
    "topic",
    [
        b"", b"+", b"#", b"a/+", b"a#", b"+a/b",
        b"\0", b"a\0", b"\xff", b"a/\xc3", b"\xed\xbf\xbf", b"a" * 65_536,
        "€".encode() * 21_846,
    ],
)  # fmt: skip
def test_invalid_topic_name_is_refused(topic: bytes) -> None:
    with pytest.raises(TopicNameInvalidError):
        check_topic_name(topic)


@given(st.binary(max_size=12) | st.text(alphabet="$share/+#a\0é", max_size=12).map(str.encode))
def test_every_topic_name_is_a_filter_that_matches_itself(topic: bytes) -> None:
    try:
        check_topic_name(topic)
    except TopicNameInvalidError:
        return
    if not topic.startswith(b"$share/"):
        check_topic_filter(topic)
    assert matches(topic, topic)
    assert not has_wildcard(topic)


@pytest.mark.parametrize("check", [check_topic_name, check_topic_filter])
@pytest.mark.parametrize("flaw", [b"\0", b"\xff", b"#/", b"+", b"x" * 65_536])
def test_a_refusal_does_not_repeat_the_bytes_of_the_peer(check: Callable[[bytes], None], flaw: bytes) -> None:
    with pytest.raises(PeerError) as refusal:
        check(b"secret" + flaw)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("topic_filter", "parts"),
    [
        (b"$share/consumer1/sport/tennis/+", (b"consumer1", b"sport/tennis/+")),
        (b"$share/consumer1//finance", (b"consumer1", b"/finance")),
        (b"$share/g/$share/h/a", (b"g", b"$share/h/a")),
        (b"$share", None),
        (b"$shared/g/a", None),
        (b"sport/tennis/+", None),
    ],
)
def test_shared_filter_is_split_at_the_share_name(topic_filter: bytes, parts: object) -> None:
    assert split_shared(topic_filter) == parts


@pytest.mark.parametrize(
    ("topic", "count"), [(b"a", 1), (b"/", 2), (b"/finance", 2), (b"a/b/c", 3), (b"a//", 3), (b"#", 1)]
)
def test_empty_levels_count(topic: bytes, count: int) -> None:
    assert levels(topic) == count


@pytest.mark.parametrize(
    ("topic_filter", "topic"),
    [
        # v5 and v3.1.1 §4.7.1.2
        (b"sport/tennis/player1/#", b"sport/tennis/player1"),
        (b"sport/tennis/player1/#", b"sport/tennis/player1/ranking"),
        (b"sport/tennis/player1/#", b"sport/tennis/player1/score/wimbledon"),
        (b"sport/#", b"sport"),
        (b"#", b"a"), (b"#", b"/"), (b"#", b"a/$b"),
        # §4.7.1.3
        (b"sport/tennis/+", b"sport/tennis/player1"),
        (b"sport/tennis/+", b"sport/tennis/player2"),
        (b"sport/+", b"sport/"),
        (b"+/+", b"/finance"),
        (b"/+", b"/finance"),
        # §4.7.2
        (b"$SYS/#", b"$SYS/monitor/Clients"),
        (b"$SYS/#", b"$SYS"),
        (b"$SYS/monitor/+", b"$SYS/monitor/Clients"),
        (b"a/+", b"a/$SYS"),
        # §4.7.3
        (b"Accounts payable", b"Accounts payable"),
        (b"a//b", b"a//b"),
        (b"+/#", b"a"),
    ],
)  # fmt: skip
def test_filter_matches(topic_filter: bytes, topic: bytes) -> None:
    assert matches(topic_filter, topic)


@pytest.mark.parametrize(
    ("topic_filter", "topic"),
    [
        (b"sport/tennis/player1/#", b"sport/tennis/player2"),
        (b"sport/tennis/player1/#", b"sport/tennis/player10"),
        (b"sport/tennis/+", b"sport/tennis/player1/ranking"),
        (b"sport/+", b"sport"),
        (b"+", b"/finance"),
        (b"#", b"$SYS/monitor/Clients"), (b"#", b"$x"),
        (b"+/monitor/Clients", b"$SYS/monitor/Clients"),
        (b"+/#", b"$SYS/x"),
        (b"ACCOUNTS", b"Accounts"),
        (b"finance", b"/finance"),
        (b"/", b"//"),
        (b"a/+/#", b"a"),
    ],
)  # fmt: skip
def test_filter_does_not_match(topic_filter: bytes, topic: bytes) -> None:
    assert not matches(topic_filter, topic)


def _regex(topic_filter: bytes) -> bytes:
    """The same rules, told another way."""
    hidden = rb"(?!\$)" if topic_filter[:1] in (b"+", b"#") else b""
    body = re.escape(topic_filter).replace(rb"\+", rb"[^/]*")
    if body == rb"\#":
        return hidden + rb".*"
    return hidden + (body.removesuffix(rb"/\#") + rb"(/.*)?" if body.endswith(rb"/\#") else body)


@settings(max_examples=500)
@given(FILTERS, TOPICS)
def test_matching_agrees_with_a_regular_expression(topic_filter: bytes, topic: bytes) -> None:
    expected = re.fullmatch(_regex(topic_filter), topic, re.DOTALL) is not None
    assert matches(topic_filter, topic) is expected


def _all_topics(alphabet: list[bytes], depth: int) -> list[bytes]:
    rows = (itertools.product(alphabet, repeat=length) for length in range(1, depth + 1))
    return [topic for topic in map(b"/".join, itertools.chain.from_iterable(rows)) if topic]


def test_covers_is_exact_in_every_small_world() -> None:
    # `z` is in no filter and every topic may be one level deeper than any filter: if a filter
    # lets something through that the pattern does not, one of these topics shows it.
    topics = _all_topics([b"a", b"z", b"", b"$x"], 4)
    filters = [f for f in _all_topics([b"a", b"", b"$x", b"+", b"#"], 3) if b"#" not in f[:-1]]
    matched = {f: frozenset(topic for topic in topics if matches(f, topic)) for f in filters}
    assert all(matched.values())
    for pattern, topic_filter in itertools.product(filters, repeat=2):
        is_subset = matched[topic_filter] <= matched[pattern]
        assert covers(pattern, topic_filter) is is_subset, (pattern, topic_filter)


@settings(max_examples=300)
@given(FILTERS, FILTERS, TOPICS)
def test_a_covered_filter_lets_nothing_else_through(
    pattern: bytes, topic_filter: bytes, topic: bytes
) -> None:
    assert covers(pattern, topic) is matches(pattern, topic)
    if covers(pattern, topic_filter) and matches(topic_filter, topic):
        assert matches(pattern, topic)


def test_thirty_thousand_levels_are_no_trouble() -> None:
    topic = b"/".join([b"a"] * 30_000)
    topic_filter = b"/".join([b"+"] * 30_000)
    assert matches(topic_filter, topic)
    assert covers(topic_filter, topic)
    assert covers(b"a/#", topic)
    assert not covers(topic_filter, b"+/#")
