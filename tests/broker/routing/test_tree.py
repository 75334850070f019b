"""The subscription tree against a list of Subscriptions and the naive matcher."""

from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.protocol.packets import TopicFilter, TopicName
from broker.protocol.topics import has_wildcard, matches, split_shared
from broker.routing import Matches, Subscription, SubscriptionTree

LEVELS = st.sampled_from([b"a", b"b", b"", b"$x"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map(b"/".join).filter(bool).map(TopicName)
PLAIN_FILTERS = (
    st.tuples(st.lists(LEVELS | st.just(b"+"), max_size=4), st.sampled_from([[], [b"#"]]))
    .map(lambda parts: b"/".join(parts[0] + parts[1]))
    .filter(bool)
)
FILTERS = st.builds(
    lambda prefix, plain: TopicFilter(prefix + plain),
    st.sampled_from([b"", b"", b"$share/g/", b"$share/h/"]),
    PLAIN_FILTERS,
)
SUBSCRIBERS = st.sampled_from(["p", "q", "r"])


def _inner(topic_filter: TopicFilter) -> TopicFilter:
    shared = split_shared(topic_filter)
    return topic_filter if shared is None else shared[1]


def _nodes(tree: SubscriptionTree[str]) -> Iterator[object]:
    """Every node below the root."""
    nodes = [tree._root]
    while nodes:
        node = nodes.pop()
        below = list(node.children.values()) + ([node.single_level] if node.single_level else [])
        nodes += below
        yield from below


class TreeMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.tree: SubscriptionTree[str] = SubscriptionTree()
        self.model: dict[tuple[TopicFilter, str], Subscription] = {}

    @rule(topic_filter=FILTERS, subscriber=SUBSCRIBERS, qos=st.integers(0, 2))
    def add(self, topic_filter: TopicFilter, subscriber: str, qos: int) -> None:
        subscription = Subscription(topic_filter, qos=qos)
        assert self.tree.add(subscription, subscriber) is self.model.get((topic_filter, subscriber))
        self.model[topic_filter, subscriber] = subscription

    @rule(topic_filter=FILTERS, subscriber=SUBSCRIBERS)
    def remove_anything(self, topic_filter: TopicFilter, subscriber: str) -> None:
        assert self.tree.remove(topic_filter, subscriber) is self.model.pop((topic_filter, subscriber), None)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def replace_known(self, data: st.DataObject) -> None:
        topic_filter, subscriber = data.draw(st.sampled_from(sorted(self.model)))
        self.add(topic_filter, subscriber, qos=1)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove_known(self, data: st.DataObject) -> None:
        self.remove_anything(*data.draw(st.sampled_from(sorted(self.model))))

    @rule(topic=TOPICS)
    def match(self, topic: TopicName) -> None:
        found = self.tree.match(topic)
        direct: list[tuple[str, Subscription]] = []
        shared: dict[tuple[bytes, TopicFilter], dict[str, Subscription]] = {}
        for (topic_filter, subscriber), subscription in self.model.items():
            if matches(_inner(topic_filter), topic):
                group = split_shared(topic_filter)
                if group is None:
                    direct.append((subscriber, subscription))
                else:
                    shared.setdefault(group, {})[subscriber] = subscription
        assert Counter(found.direct) == Counter(direct)
        assert len(found.shared) == len(shared)
        for group_found in found.shared:
            assert dict(group_found.members) == shared[group_found.share_name, group_found.topic_filter]

    @invariant()
    def every_subscription_is_counted(self) -> None:
        assert len(self.tree) == len(self.model)

    @invariant()
    def no_node_is_kept_for_nothing(self) -> None:
        filters = {_inner(topic_filter) for topic_filter, _ in self.model}
        assert set(self.tree._leaves) == filters
        prefixes = set()
        for topic_filter in filter(has_wildcard, filters):
            levels = topic_filter.split(b"/")
            levels = levels[:-1] if levels[-1] == b"#" else levels
            prefixes |= {tuple(levels[:depth]) for depth in range(1, len(levels) + 1)}
        assert len(list(_nodes(self.tree))) == len(prefixes)

    def teardown(self) -> None:
        for topic_filter, subscriber in self.model:
            self.tree.remove(topic_filter, subscriber)
        assert len(self.tree) == 0
        assert self.tree._root.is_empty()
        assert not self.tree._leaves


TreeMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestTree = TreeMachine.TestCase


def _tree(*subscriptions: tuple[str, bytes]) -> SubscriptionTree[str]:
    tree: SubscriptionTree[str] = SubscriptionTree()
    for subscriber, topic_filter in subscriptions:
        tree.add(Subscription(TopicFilter(topic_filter)), subscriber)
    return tree


def _match(tree: SubscriptionTree[str], topic: bytes) -> Matches[str]:
    return tree.match(TopicName(topic))


def _choices(tree: SubscriptionTree[str], count: int, acceptable: Callable[[str], bool]) -> list[str | None]:
    (group,) = _match(tree, b"a").shared
    chosen = [group.next_member(acceptable) for _ in range(count)]
    return [None if member is None else member[0] for member in chosen]


def test_overlapping_subscriptions_each_give_an_entry() -> None:
    tree = _tree(("p", b"a/+"), ("p", b"a/b"), ("p", b"#"), ("q", b"a/#"))
    assert Counter(subscriber for subscriber, _ in _match(tree, b"a/b").direct) == {"p": 3, "q": 1}


def test_replacing_keeps_one_subscription_with_the_new_options() -> None:
    tree = _tree(("p", b"a"))
    replacement = Subscription(TopicFilter(b"a"), qos=2, identifier=7)
    assert tree.add(replacement, "p") == Subscription(TopicFilter(b"a"))
    assert _match(tree, b"a").direct == [("p", replacement)]
    assert len(tree) == 1


def test_groups_differ_by_share_name_and_by_filter() -> None:
    tree = _tree(("p", b"$share/g/a"), ("q", b"$share/h/a"), ("r", b"$share/g/+"), ("s", b"a"))
    found = _match(tree, b"a")
    assert {(group.share_name, group.topic_filter, *group.members) for group in found.shared} == {
        (b"g", b"a", "p"),
        (b"h", b"a", "q"),
        (b"g", b"+", "r"),
    }
    assert [subscriber for subscriber, _ in found.direct] == ["s"]


@pytest.mark.parametrize("name", [b"$share/g/a", b"$share/g", b"$share"])
def test_a_topic_that_begins_with_share_does_not_reach_the_group(name: bytes) -> None:
    assert _match(_tree(("p", b"$share/g/a")), name).shared == []


def test_filter_with_thirty_thousand_levels_comes_and_goes() -> None:
    levels = [b"+", b"a"] * 15_000
    topic = TopicName(b"/".join(levels).replace(b"+", b"b"))
    tree = _tree(("p", b"/".join(levels)), ("p", b"/".join([*levels, b"#"])))
    assert len(tree.match(topic).direct) == 2
    assert tree.remove(TopicFilter(b"/".join(levels)), "p") is not None
    assert len(tree.match(topic).direct) == 1
    assert tree.remove(TopicFilter(b"/".join([*levels, b"#"])), "p") is not None
    assert list(_nodes(tree)) == []


def test_exact_filters_cost_no_nodes() -> None:
    assert list(_nodes(_tree(("p", b"/" * 30_000), ("q", b"a/b/c")))) == []


def test_shared_members_take_turns() -> None:
    tree = _tree(*((name, b"$share/g/a") for name in "pqr"))
    assert _choices(tree, 7, lambda _: True) == ["p", "q", "r", "p", "q", "r", "p"]


def test_unacceptable_members_are_skipped_and_the_others_still_take_turns() -> None:
    tree = _tree(*((name, b"$share/g/a") for name in "pqrst"))
    choices = _choices(tree, 300, lambda name: name not in "qr")
    assert Counter(choices) == {"p": 100, "s": 100, "t": 100}
    assert choices[:4] == ["p", "s", "t", "p"]


class _Census:
    """Answers the same for everybody and keeps who was asked."""

    def __init__(self, *, answer: bool) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def __call__(self, name: str) -> bool:
        self.asked.append(name)
        return self.answer


def test_nobody_acceptable_is_asked_once_each_and_nobody_is_chosen() -> None:
    census = _Census(answer=False)
    assert _choices(_tree(*((name, b"$share/g/a") for name in "pqr")), 1, census) == [None]
    assert sorted(census.asked) == ["p", "q", "r"]


def test_everybody_acceptable_means_one_question_per_choice() -> None:
    census = _Census(answer=True)
    assert _choices(_tree(*((name, b"$share/g/a") for name in "pqrst")), 20, census) == census.asked


def test_member_that_left_is_not_chosen_and_a_newcomer_waits_its_turn() -> None:
    tree = _tree(*((name, b"$share/g/a") for name in "pqr"))
    assert _choices(tree, 1, lambda _: True) == ["p"]
    tree.remove(TopicFilter(b"$share/g/a"), "q")
    tree.add(Subscription(TopicFilter(b"$share/g/a")), "s")
    assert _choices(tree, 4, lambda _: True) == ["r", "p", "s", "r"]


def test_member_that_subscribes_again_keeps_its_turn() -> None:
    tree = _tree(*((name, b"$share/g/a") for name in "pq"))
    assert _choices(tree, 1, lambda _: True) == ["p"]
    tree.add(Subscription(TopicFilter(b"$share/g/a"), qos=1), "p")
    assert _choices(tree, 2, lambda _: True) == ["q", "p"]
