"""Who may connect at all."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.engine import Stats
from broker.settings import LimitSettings
from broker.transport import Admission

START = 1_800_000_000.0


def admission(**limits: int) -> tuple[Admission, Stats]:
    stats = Stats()
    return Admission(LimitSettings.model_validate(limits), stats, now=START), stats


def test_connections_in_all_are_bounded_and_leaving_makes_room() -> None:
    door, stats = admission(connections_maximum=2)
    assert [door.enter(address, START) for address in ("a", "b", "c")] == [True, True, False]
    assert stats.connections_rejected == 1
    door.leave("a")
    assert door.enter("c", START)


def test_one_source_cannot_take_the_place_of_others() -> None:
    door, stats = admission(connections_per_source_maximum=2)
    assert [door.enter("192.0.2.1", START) for _ in range(3)] == [True, True, False]
    assert door.enter("192.0.2.2", START)
    assert stats.connections_rejected_by_source == 1
    door.leave("192.0.2.1")
    assert door.enter("192.0.2.1", START)


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_an_ipv6_network_is_one_source(one: str, other: str, are_one: bool) -> None:
    door, _ = admission(connections_per_source_maximum=1)
    assert door.enter(one, START)
    assert door.enter(other, START) is not are_one


def test_clients_of_a_unix_socket_have_no_source() -> None:
    door, _ = admission(connections_per_source_maximum=1)
    assert all(door.enter("", START) for _ in range(5))


def test_the_rate_lets_a_second_s_worth_in_at_once_and_then_one_by_one() -> None:
    door, stats = admission(connects_per_second_maximum=4)
    assert [door.enter("a", START) for _ in range(6)] == [True] * 4 + [False] * 2
    assert stats.connects_rejected_by_rate == 2
    assert not door.enter("a", START + 0.2)
    assert door.enter("a", START + 0.25)
    assert not door.enter("a", START + 0.25)
    assert [door.enter("a", START + 3600) for _ in range(5)] == [True] * 4 + [False]


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1"]))))
def test_counts_are_those_of_a_naive_model(steps: list[tuple[bool, str]]) -> None:
    door, _ = admission(connections_maximum=5, connections_per_source_maximum=3)
    inside: Counter[str] = Counter()
    for is_arrival, address in steps:
        if is_arrival:
            has_room = inside.total() < 5 and inside[address] < 3
            assert door.enter(address, START) is has_room
            inside[address] += has_room
        elif inside[address]:
            door.leave(address)
            inside[address] -= 1
