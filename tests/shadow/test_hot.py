from shadow.document import Tombstone
from shadow.hot import UNKNOWN, HotDocuments
from shadow.topics import ShadowKey

A, B, C = (ShadowKey(name) for name in "abc")


def use(hot: HotDocuments, key: ShadowKey, version: int | None = None) -> object:
    """Borrow once and return what was known; with a version, leave that behind."""
    slot = hot.borrow(key)
    known = slot.stored
    if version is not None:
        slot.stored = Tombstone(version, 0)
    hot.give_back(slot)
    return known


def test_an_unused_row_is_unknown_until_somebody_fills_it() -> None:
    hot = HotDocuments(2)
    assert use(hot, A) is UNKNOWN
    assert use(hot, A, 1) is UNKNOWN
    assert use(hot, A) == Tombstone(1, 0)


def test_the_longest_idle_row_is_forgotten() -> None:
    hot = HotDocuments(2)
    use(hot, A, 1)
    use(hot, B, 1)
    use(hot, A)
    use(hot, C, 1)
    assert use(hot, B) is UNKNOWN
    assert use(hot, A) == Tombstone(1, 0)


def test_a_row_in_use_is_one_slot_and_is_never_forgotten() -> None:
    hot = HotDocuments(0)
    first, second = hot.borrow(A), hot.borrow(A)
    assert first is second
    first.stored = Tombstone(1, 0)
    hot.give_back(first)
    assert hot.borrow(A).stored == Tombstone(1, 0)


def test_known_absence_is_kept() -> None:
    hot = HotDocuments(1)
    slot = hot.borrow(A)
    slot.stored = None
    hot.give_back(slot)
    assert use(hot, A) is None
