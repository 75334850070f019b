import gc
from collections.abc import Iterator

import pytest

from gnomon.collector import settle_collector


@pytest.fixture(autouse=True)
def _collector_as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_what_the_start_made_is_never_looked_at_again() -> None:
    before = gc.get_freeze_count()
    settle_collector()
    assert gc.get_freeze_count() > before + 10_000


def test_cycles_that_die_young_are_still_collected() -> None:
    settle_collector()
    assert gc.isenabled()
    collections = gc.get_stats()[0]["collections"]
    kept = [[number] for number in range(gc.get_threshold()[0] + 1000)]
    assert gc.get_stats()[0]["collections"] > collections
    del kept


def test_a_full_collection_comes_after_millions_of_objects_and_not_before() -> None:
    settle_collector()
    young, middle, full = gc.get_threshold()
    assert 1_000_000 <= young * middle * full <= 100_000_000
