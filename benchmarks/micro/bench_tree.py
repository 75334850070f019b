"""Topics and routing: `python benchmarks/micro/bench_tree.py --fast` (any option of pyperf).

A tree holds 100,000 Subscriptions to exact topics and a few with wildcards; an index holds
100,000 retained messages on topics of the same form.
"""

import sys
from collections import deque
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from time import perf_counter

import pyperf

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from broker.protocol.packets import TopicFilter, TopicName
from broker.protocol.topics import check_topic_filter, check_topic_name, covers, matches
from broker.routing import RetainedIndex, Subscription, SubscriptionTree

_COUNT = 100_000
_WILDCARDS = (
    b"#",
    b"+/+/state",
    b"devices/+/state",
    b"devices/7/#",
    b"other/#",
    b"$SYS/#",
    b"$share/g/devices/+/#",
)
_TOPIC = TopicName(b"devices/50000/state")


_Call = Callable[[], object]


@cache
def _tree(per_device: bytes, wildcards: tuple[bytes, ...] = _WILDCARDS) -> SubscriptionTree[int]:
    tree: SubscriptionTree[int] = SubscriptionTree()
    filters = [per_device % number for number in range(_COUNT)] + list(wildcards)
    for subscriber, topic_filter in enumerate(filters):
        tree.add(Subscription(TopicFilter(topic_filter)), subscriber)
    return tree


def _match(topic: bytes, per_device: bytes, wildcards: tuple[bytes, ...] = _WILDCARDS) -> _Call:
    return partial(_tree(per_device, wildcards).match, TopicName(topic))


def _next_member() -> _Call:
    tree: SubscriptionTree[int] = SubscriptionTree()
    for subscriber in range(_COUNT):
        tree.add(Subscription(TopicFilter(b"$share/g/all")), subscriber)
    return partial(tree.match(TopicName(b"all")).shared[0].next_member, lambda _: True)


def _add_and_remove(topic_filter: bytes) -> _Call:
    tree = _tree(b"devices/%d/state")
    subscription = Subscription(TopicFilter(topic_filter))

    def call() -> None:
        tree.add(subscription, -1)
        tree.remove(subscription.topic_filter, -1)

    return call


@cache
def _retained() -> RetainedIndex[int]:
    index: RetainedIndex[int] = RetainedIndex()
    for number in range(_COUNT):
        index.set(TopicName(b"devices/%d/state" % number), number)
    return index


def _retained_match(topic_filter: bytes) -> _Call:
    index = _retained()
    return lambda: deque(index.match(TopicFilter(topic_filter)), maxlen=0)


_STATE = b"devices/%d/state"
#: Each case is prepared only in the process that runs it.
_CASES: dict[str, Callable[[], _Call]] = {
    "match: exact and wildcards": partial(_match, _TOPIC, _STATE),
    "match: topic that only # matches": partial(_match, b"nobody/is/here", _STATE),
    "match: exact only": partial(_match, _TOPIC, _STATE, ()),
    "match: 100,000 times devices/N/#": partial(_match, _TOPIC, b"devices/%d/#"),
    "next_member of 100,000": _next_member,
    "add and remove devices/x/state": partial(_add_and_remove, b"devices/x/state"),
    "add and remove devices/x/+": partial(_add_and_remove, b"devices/x/+"),
    "retained devices/50000/state": partial(_retained_match, b"devices/50000/state"),
    "retained devices/50000/+": partial(_retained_match, b"devices/50000/+"),
    "retained devices/+/state (100,000 found)": partial(_retained_match, b"devices/+/state"),
    "check_topic_name": lambda: partial(check_topic_name, _TOPIC),
    "check_topic_filter with wildcards": lambda: partial(check_topic_filter, b"devices/+/#"),
    "matches": lambda: partial(matches, b"devices/+/#", _TOPIC),
    "covers": lambda: partial(covers, b"devices/#", b"devices/+/state"),
}


def _time(loops: int, prepare: Callable[[], _Call]) -> float:
    call = prepare()
    started = perf_counter()
    for _ in range(loops):
        call()
    return perf_counter() - started


def main() -> None:
    """Run every case."""
    runner = pyperf.Runner()
    for name, prepare in _CASES.items():
        runner.bench_time_func(name, _time, prepare)


if __name__ == "__main__":
    main()
