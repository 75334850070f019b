from shadow.document import Document, encode, new_document
from shadow.hot import UNKNOWN, HotRows
from shadow.records import Row
from shadow.topics import ShadowKey

A, B, C = (ShadowKey(name) for name in "abc")
PLENTY = 10**9


def row(version: int, document: bytes | None = None) -> Row:
    return Row(version=version, numbering=0, changed_at=0, document=document)


def use(hot: HotRows, key: ShadowKey, left_behind: Row | None = None) -> object:
    """Borrow once and return what was known; with a row, leave that behind."""
    slot = hot.borrow(key)
    known = slot.row
    if left_behind is not None:
        slot.row = left_behind
    hot.give_back(slot)
    return known


def test_an_unused_row_is_unknown_until_somebody_fills_it() -> None:
    hot = HotRows(rows_maximum=2, bytes_maximum=PLENTY)
    assert use(hot, A) is UNKNOWN
    assert use(hot, A, row(1)) is UNKNOWN
    assert use(hot, A) == row(1)


def test_the_longest_idle_row_is_forgotten() -> None:
    hot = HotRows(rows_maximum=2, bytes_maximum=PLENTY)
    use(hot, A, row(1))
    use(hot, B, row(1))
    use(hot, A)
    use(hot, C, row(1))
    assert use(hot, B) is UNKNOWN
    assert use(hot, A) == row(1)


def test_rows_are_forgotten_by_their_size_too() -> None:
    hot = HotRows(rows_maximum=100, bytes_maximum=10_000)
    use(hot, A, row(1, b"x" * 4000))
    use(hot, B, row(1, b"x" * 4000))
    assert 8000 < hot.size_bytes <= 10_000
    use(hot, C, row(1, b"x" * 4000))
    assert len(hot) == 2
    assert use(hot, A) is UNKNOWN


def test_the_size_is_that_of_idle_rows() -> None:
    hot = HotRows(rows_maximum=100, bytes_maximum=10_000)
    use(hot, A, row(1, b"x" * 4000))
    before = hot.size_bytes
    slot = hot.borrow(A)
    assert hot.size_bytes == 0
    slot.row = row(2, b"x" * 5000)
    hot.give_back(slot)
    assert hot.size_bytes == before + 1000
    use(hot, B, row(1, b"x" * 20_000))
    assert (hot.size_bytes, len(hot)) == (0, 0)


def test_a_row_in_use_is_one_slot_and_is_never_forgotten() -> None:
    hot = HotRows(rows_maximum=0, bytes_maximum=0)
    first, second = hot.borrow(A), hot.borrow(A)
    assert first is second
    first.row = row(1)
    hot.give_back(first)
    assert hot.borrow(A).row == row(1)


def test_known_absence_is_kept() -> None:
    hot = HotRows(rows_maximum=1, bytes_maximum=PLENTY)
    slot = hot.borrow(A)
    slot.row = None
    hot.give_back(slot)
    assert use(hot, A) is None


def test_a_slot_holds_what_its_row_holds() -> None:
    slot = HotRows(rows_maximum=1, bytes_maximum=PLENTY).borrow(A)
    assert slot.stored() is None
    document = new_document({"desired": {"a": 1}}, {"desired": {"a": {}}}, 1, encoded_state=encode({}))
    slot.row = row(1, document.encoded)
    first = slot.stored()
    assert isinstance(first, Document)
    assert first is slot.stored()
    slot.change(row(2), document)
    assert slot.stored() is document
    slot.row = UNKNOWN
    assert slot.stored() is None
