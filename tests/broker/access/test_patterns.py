"""A set of patterns answers as its patterns would one by one."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.access.patterns import PatternSet
from broker.protocol.packets import TopicFilter, TopicName
from broker.protocol.topics import covers, matches

LEVELS = st.sampled_from(["a", "", "$x", "root"])


def _filter(levels: list[str], *, is_multi: bool) -> TopicFilter:
    return TopicFilter("/".join([*levels, "#"] if is_multi else levels).encode() or b"a")


FILTERS = st.builds(_filter, st.lists(LEVELS | st.just("+"), max_size=3), is_multi=st.booleans())
NAMES = st.lists(LEVELS, min_size=1, max_size=4).map(
    lambda levels: TopicName("/".join(levels).encode() or b"/")
)


def _reaches(pattern: bytes, topic: bytes) -> bool:
    return topic.split(b"/")[0] != b"root" or pattern.split(b"/")[0] not in (b"+", b"#")


@settings(max_examples=500)
@given(st.lists(FILTERS, max_size=6), NAMES)
@example([TopicFilter(b"a/#")], TopicName(b"a"))
@example([TopicFilter(b"a/#")], TopicName(b"ab"))
@example([TopicFilter(b"/#")], TopicName(b"/a"))
@example([TopicFilter(b"a//#")], TopicName(b"a//b"))
def test_matches_is_what_some_pattern_matches(patterns: list[TopicFilter], topic: TopicName) -> None:
    expected = any(matches(pattern, topic) and _reaches(pattern, topic) for pattern in patterns)
    assert PatternSet(patterns, hidden_root=b"root").matches(topic) == expected


@settings(max_examples=500)
@given(st.lists(FILTERS, max_size=6), FILTERS)
@example([TopicFilter(b"a/#")], TopicFilter(b"a"))
@example([TopicFilter(b"a/#"), TopicFilter(b"a")], TopicFilter(b"a/#"))
@example([TopicFilter(b"a/#")], TopicFilter(b"+/a"))
def test_covers_is_what_some_pattern_covers(patterns: list[TopicFilter], topic_filter: TopicFilter) -> None:
    expected = any(covers(pattern, topic_filter) and _reaches(pattern, topic_filter) for pattern in patterns)
    assert PatternSet(patterns, hidden_root=b"root").covers(topic_filter) == expected


def test_leading_wildcards_do_not_reach_a_hidden_root_without_dollar() -> None:
    everything = PatternSet([TopicFilter(b"#"), TopicFilter(b"+/things")], hidden_root=b"aws")
    assert everything.matches(TopicName(b"awsome/things"))
    assert not everything.matches(TopicName(b"aws/things"))
    assert not everything.covers(TopicFilter(b"aws/#"))


def test_a_topic_of_very_many_levels_costs_no_more_than_the_longest_prefix() -> None:
    patterns = PatternSet([TopicFilter(b"a/b/#")], hidden_root=b"$aws")
    assert patterns.matches(TopicName(b"a/b" + b"/" * 60_000))
    assert not patterns.matches(TopicName(b"b" + b"/" * 60_000))
