from hypothesis import given
from hypothesis import strategies as st

from shadow.rates import Rates


def test_so_many_a_second_are_admitted_for_each_thing() -> None:
    rates = Rates(per_thing=2, in_all=0)
    assert [rates.admit(thing, 5.1) for thing in "aababb"] == [True, True, True, False, True, False]
    assert rates.admit("a", 6.0)


def test_so_many_a_second_are_admitted_in_all() -> None:
    rates = Rates(per_thing=0, in_all=2)
    assert [rates.admit(thing, 5.1) for thing in "abc"] == [True, True, False]
    assert rates.admit("c", 6.0)


def test_the_flood_of_one_thing_leaves_the_others_theirs() -> None:
    rates = Rates(per_thing=2, in_all=4)
    for _ in range(100):
        rates.admit("flood", 5.0)
    assert [rates.admit("b", 5.5), rates.admit("c", 5.5), rates.admit("d", 5.5)] == [True, True, False]


@given(st.lists(st.floats(0, 100)))
def test_without_limits_everything_is_admitted(times: list[float]) -> None:
    rates = Rates(per_thing=0, in_all=0)
    assert all(rates.admit("a", now) for now in times)
