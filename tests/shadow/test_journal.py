from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadow.commands import Delete, Update
from shadow.document import Document, Stored, Tombstone
from shadow.engine import Decision, decide
from shadow.errors import ShadowNotFoundError
from shadow.journal import (
    BASE_S,
    BASE_VERSIONS,
    entry_of,
    next_row,
    oldest_kept,
    replay,
    stored_of,
    told,
)
from shadow.records import Author, JournalEntry, Row
from shadow.settings import ShadowSettings
from shadow.topics import ShadowKey
from shadow_strategies import states

SETTINGS = ShadowSettings(tombstone_hours=48)
ADA = Author("ada-1", "ada", "f" * 64)
NOW = 1_700_000_000.5


class History:
    """One shadow: each change is decided, and its row, document and entry are kept."""

    def __init__(self) -> None:
        self.now = NOW
        self.row: Row | None = None
        self.rows: list[Row] = []
        self.entries: list[JournalEntry] = []
        self.kept: list[Stored] = []

    def change(self, command: Update | Delete, after_s: float = 1.0) -> Decision:
        self.now += after_s
        stored = None if self.row is None else stored_of(self.row)
        decision = decide(ShadowKey("t"), stored, command, now=int(self.now), settings=SETTINGS)
        assert decision.change is not None
        self.row = next_row(self.row, decision, now=self.now)
        self.rows.append(self.row)
        self.kept.append(decision.change)
        entry = entry_of(self.row, decision, author=ADA, topic="topic", client_token="token")
        self.entries.append(entry)
        return decision

    def update(self, state: Any, after_s: float = 1.0) -> Decision:
        return self.change(Update(state), after_s)

    def page(self, end: int) -> list[JournalEntry]:
        """What a store returns: of the latest numbering, newest first, some."""
        latest = self.entries[end].numbering
        entries = [entry for entry in self.entries[: end + 1] if entry.numbering == latest]
        return entries[::-1][:BASE_VERSIONS]


pauses = st.sampled_from([0.0, 0.25, 1.0, 3600.0, BASE_S / 2, BASE_S, 49 * 3600.0, -10.0])
commands = st.builds(Update, states(nulls=True)) | st.just(Delete())


@given(st.lists(st.tuples(commands, pauses), max_size=60))
def test_replaying_the_journal_gives_every_version_byte_for_byte(
    steps: list[tuple[Update | Delete, float]],
) -> None:
    history = History()
    for command, pause in steps:
        try:
            history.change(command, pause)
        except ShadowNotFoundError:
            continue
        assert replay(history.page(len(history.entries) - 1)) == history.kept[-1]
        assert stored_of(history.rows[-1]) == history.kept[-1]
    numbers = [(row.numbering, row.version) for row in history.rows]
    assert numbers == sorted(set(numbers))
    for end, kept in enumerate(history.kept):
        assert replay(history.page(end)) == kept


def long_history(length: int) -> History:
    history = History()
    for number in range(length):
        history.update({"desired": {"n": number}})
    return history


def test_a_base_comes_every_so_many_versions() -> None:
    history = long_history(BASE_VERSIONS * 2 + 2)
    bases = [entry.version for entry in history.entries if entry.document is not None]
    assert bases == [1 + BASE_VERSIONS, 1 + 2 * BASE_VERSIONS]


def test_a_base_comes_after_so_much_time_and_after_a_clock_that_went_back() -> None:
    history = History()
    for pause in (1.0, 1.0, BASE_S, 1.0, -2 * BASE_S, 1.0):
        history.update({}, pause)
    assert [entry.document is not None for entry in history.entries] == [
        False,  # Version 1 needs none.
        False,
        True,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("versions", [1, 5, 100])
def test_what_the_journal_keeps_reaches_back_as_far_as_it_says(versions: int) -> None:
    for length in range(1, 3 * BASE_VERSIONS):
        history = long_history(length)
        assert history.row is not None
        kept = [
            entry for entry in history.entries if entry.version >= oldest_kept(history.row, versions=versions)
        ]
        assert len(kept) <= versions + BASE_VERSIONS
        for back in range(min(versions, length)):
            page = kept[: len(kept) - back][::-1][:BASE_VERSIONS]
            assert replay(page) == history.kept[-1 - back]


def test_a_gap_is_no_replay() -> None:
    history = long_history(BASE_VERSIONS)
    page = history.page(BASE_VERSIONS - 1)
    assert replay(page) == history.kept[-1]
    assert replay(page[:-1]) is None
    assert replay(page[:3] + page[4:]) is None
    assert replay([]) is None


def test_a_deleted_shadow_replays_to_its_tombstone() -> None:
    history = History()
    history.update({"desired": {"a": 1}})
    history.change(Delete())
    assert replay(history.page(1)) == Tombstone(2, int(history.now))
    history.update({"reported": {"b": 2}})
    replayed = replay(history.page(2))
    assert isinstance(replayed, Document)
    assert (replayed.version, replayed.state) == (3, {"reported": {"b": 2}})


def test_a_forgotten_counter_begins_a_new_numbering() -> None:
    history = History()
    history.update({})
    history.change(Delete())
    history.update({}, 48 * 3600)
    first, second, third = history.rows
    assert first.numbering == second.numbering < third.numbering
    assert (second.version, third.version) == (2, 1)


def test_numberings_differ_even_when_the_clock_went_back() -> None:
    history = History()
    history.update({})
    history.change(Delete(), 0.0)
    row = history.row
    assert row is not None
    decision = decide(ShadowKey("t"), None, Update({}), now=5, settings=SETTINGS)
    assert next_row(row, decision, now=5.0).numbering == row.numbering + 1


def test_an_entry_tells_who_asked_where_and_with_which_token() -> None:
    history = History()
    history.update({"desired": {"a": None, "b": [1]}})
    (entry,) = history.entries
    assert entry == JournalEntry(
        version=1,
        numbering=int(history.now),
        at=history.now,
        author=ADA,
        topic="topic",
        client_token="token",
        patch=b'{"desired":{"a":null,"b":[1]}}',
        document=entry.document,
    )


def test_drift_begins_with_the_first_delta_and_ends_with_the_last() -> None:
    history = History()
    history.update({"desired": {"a": 1, "b": 2}})
    began = history.now
    history.update({"reported": {"a": 1}})
    history.update({"reported": {"b": 2}})
    history.update({"desired": {"b": 3}})
    drifts = [row.drift for row in history.rows]
    assert [drift and (drift.since, drift.told_at, drift.tellings, drift.keys) for drift in drifts] == [
        (began, began, 1, 2),
        (began, began + 1, 1, 1),
        None,
        (began + 3, began + 3, 1, 1),
    ]


def test_a_delete_ends_the_drift() -> None:
    history = History()
    history.update({"desired": {"a": 1}})
    history.change(Delete())
    assert history.rows[-1].drift is None


def test_telling_again_counts_and_changes_nothing_else() -> None:
    history = History()
    history.update({"desired": {"a": 1}})
    row = told(history.rows[0], now=NOW + 60)
    assert row.drift is not None
    assert (row.drift.told_at, row.drift.tellings) == (NOW + 60, 2)
    assert row.drift.since == NOW + 1
    assert (row.version, row.document, row.changed_at) == (1, history.rows[0].document, NOW + 1)


@pytest.mark.parametrize(
    ("patch", "document"), [(b"[]", None), (b'{"desired":1}', None), (b"{", None), (b"{}", b"{}")]
)
def test_a_damaged_entry_is_an_error(patch: bytes, document: bytes | None) -> None:
    entry = JournalEntry(
        version=1, numbering=1, at=1.0, author=ADA, topic="t", patch=patch, document=document
    )
    with pytest.raises(msgspec.MsgspecError):
        replay([entry])
