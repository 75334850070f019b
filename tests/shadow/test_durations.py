import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadow.durations import Durations, quantile

BUCKET = 2**0.25


@given(st.lists(st.floats(0.001, 1e5), min_size=1), st.sampled_from([0.5, 0.99, 1.0]))
def test_a_quantile_is_right_to_a_bucket(values: list[float], part: float) -> None:
    durations = Durations()
    for value in values:
        durations.add(value, now=1.0)
    exact = sorted(values)[max(0, -int(-len(values) * part // 1) - 1)]
    found = quantile(durations.counts(now=1.0), part)
    assert exact / 1.0001 <= found <= exact * BUCKET * 1.0001


@pytest.mark.parametrize("value", [0.0, -5.0, 1e-9])
def test_what_takes_no_time_takes_a_millisecond(value: float) -> None:
    durations = Durations()
    durations.add(value, now=0)
    assert quantile(durations.counts(now=0), 0.5) == 0.001


def test_what_takes_for_ever_is_in_the_last_bucket() -> None:
    durations = Durations()
    durations.add(1e30, now=0)
    assert quantile(durations.counts(now=0), 0.5) > 86_400 * 7


def test_nothing_has_no_duration() -> None:
    assert quantile(Durations().counts(now=0), 0.99) == 0


def test_old_durations_are_forgotten() -> None:
    durations = Durations()
    durations.add(1.0, now=10)
    durations.add(2.0, now=310)
    assert sum(durations.counts(now=599)) == 2
    assert sum(durations.counts(now=600)) == 1
    assert sum(durations.counts(now=5000)) == 0


def test_counts_add_up_over_services() -> None:
    one, other = Durations(), Durations()
    one.add(1.0, now=0)
    other.add(100.0, now=0)
    counts = [sum(pair) for pair in zip(one.counts(now=0), other.counts(now=0), strict=True)]
    assert 1 <= quantile(counts, 0.5) < 1.2
    assert 100 <= quantile(counts, 0.99) < 119
