"""The histogram: how exact it is, and that merging loses nothing."""

from hypothesis import given
from hypothesis import strategies as st

from simulators.histogram import Histogram

values_ns = st.lists(st.integers(0, 10**12), min_size=1)


def filled(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(values_ns, st.floats(0.01, 1.0))
def test_a_quantile_is_at_most_one_part_in_thirty_two_too_high(values: list[int], share: float) -> None:
    quantile_us = filled(values).quantile_us(share)
    exact = next(value for rank, value in enumerate(sorted(values), 1) if rank >= share * len(values))
    assert quantile_us is not None
    assert exact <= quantile_us * 1000 + 0.001
    assert quantile_us * 1000 <= exact * (1 + 1 / 32) + 1


@given(st.lists(values_ns, min_size=1, max_size=4))
def test_merged_parts_are_the_histogram_of_the_whole(parts: list[list[int]]) -> None:
    merged = Histogram()
    for part in parts:
        merged.merge(Histogram(filled(part).counts))
    assert merged.counts == filled([value for part in parts for value in part]).counts


def test_a_negative_value_counts_as_nothing() -> None:
    assert filled([-5]).quantile_us(1.0) == 0


def test_no_values_have_no_quantile() -> None:
    assert Histogram().quantile_us(0.5) is None
