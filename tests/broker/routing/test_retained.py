"""The index of retained messages against a mapping and the naive matcher."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.protocol.packets import TopicFilter, TopicName
from broker.protocol.topics import matches
from broker.routing import RetainedIndex

LEVELS = st.sampled_from([b"a", b"b", b"", b"$x"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map(b"/".join).filter(bool).map(TopicName)
FILTERS = (
    st.tuples(st.lists(LEVELS | st.just(b"+"), max_size=4), st.sampled_from([[], [b"#"]]))
    .map(lambda parts: TopicFilter(b"/".join(parts[0] + parts[1])))
    .filter(bool)
)


def _node_count(index: RetainedIndex[int]) -> int:
    """How many nodes hang below the root."""
    nodes = [index._root]
    count = -1
    while nodes:
        nodes += nodes.pop().children.values()
        count += 1
    return count


class RetainedMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.index: RetainedIndex[int] = RetainedIndex()
        self.model: dict[TopicName, int] = {}

    @rule(topic=TOPICS, message=st.integers(0, 9))
    def set(self, topic: TopicName, message: int) -> None:
        self.index.set(topic, message)
        self.model[topic] = message

    @rule(topic=TOPICS)
    def remove_anything(self, topic: TopicName) -> None:
        assert self.index.remove(topic) == self.model.pop(topic, None)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove_known(self, data: st.DataObject) -> None:
        self.remove_anything(data.draw(st.sampled_from(sorted(self.model))))

    @rule(topic=TOPICS)
    def get(self, topic: TopicName) -> None:
        assert self.index.get(topic) == self.model.get(topic)

    @rule(topic_filter=FILTERS)
    def match(self, topic_filter: TopicFilter) -> None:
        found = list(self.index.match(topic_filter))
        assert sorted(found) == sorted(item for item in self.model.items() if matches(topic_filter, item[0]))

    @invariant()
    def every_message_is_counted(self) -> None:
        assert len(self.index) == len(self.model)

    @invariant()
    def no_node_is_kept_for_nothing(self) -> None:
        split = [topic.split(b"/") for topic in self.model]
        prefixes = {tuple(levels[:depth]) for levels in split for depth in range(1, len(levels) + 1)}
        assert _node_count(self.index) == len(prefixes)

    def teardown(self) -> None:
        for topic in self.model:
            self.index.remove(topic)
        assert len(self.index) == 0
        assert _node_count(self.index) == 0


RetainedMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestRetained = RetainedMachine.TestCase


def test_a_falsy_message_is_a_message() -> None:
    index: RetainedIndex[bytes] = RetainedIndex()
    topic = TopicName(b"a/b")
    index.set(topic, b"")
    assert index.get(topic) == b""
    assert list(index.match(TopicFilter(b"a/b"))) == list(index.match(TopicFilter(b"#"))) == [(topic, b"")]
    assert index.remove(topic) == b""
    assert list(index.match(TopicFilter(b"#"))) == []


def test_topic_with_thirty_thousand_levels_comes_and_goes() -> None:
    index: RetainedIndex[int] = RetainedIndex()
    deep = TopicName(b"/".join([b"a"] * 30_000))
    index.set(deep, 1)
    for topic_filter in (b"#", b"a/+/#", b"/".join([b"+"] * 30_000)):
        assert list(index.match(TopicFilter(topic_filter))) == [(deep, 1)]
    assert index.remove(deep) == 1
    assert _node_count(index) == 0


def test_match_finds_as_it_is_asked() -> None:
    index: RetainedIndex[int] = RetainedIndex()
    for number in range(100):
        index.set(TopicName(b"a/%d" % number), number)
    found = index.match(TopicFilter(b"a/+"))
    assert [next(found)[1] for _ in range(3)] == [0, 1, 2]
    assert sum(1 for _ in found) == 97
