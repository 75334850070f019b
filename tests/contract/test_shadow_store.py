"""Every store of shadows: what was committed is found, in the form and the order in which it was.

Knows: the port.
Does not know: the tables.
"""

import contextlib
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shadow import (
    MIGRATIONS,
    Author,
    Changes,
    Drifting,
    JournalEntry,
    MemoryShadowStore,
    PostgresqlShadowStore,
    Row,
    ShadowKey,
    ShadowStore,
    ShadowStoreError,
    SqliteShadowStore,
)
from storage import PostgresqlDatabase, SqliteDatabase, StorageSettings

A, B, FW = ShadowKey("a"), ShadowKey("b"), ShadowKey("a", "fw")
DRIFT = Drifting(since=1000.25, told_at=1001.5, tellings=2, keys=3)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def stores(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[dict[str, ShadowStore]]:
    """The stores of two tenants; all but those in memory share a database."""
    async with AsyncExitStack() as stack:
        if kind == "memory":
            yield {tenant: MemoryShadowStore() for tenant in ("one", "two")}
        elif kind == "sqlite":
            sqlite = await SqliteDatabase.open(
                tmp_path / "test.db", StorageSettings(), migrations=[MIGRATIONS]
            )
            stack.push_async_callback(sqlite.close)
            yield {tenant: SqliteShadowStore(sqlite, tenant=tenant) for tenant in ("one", "two")}
        else:
            postgresql = await PostgresqlDatabase.open(
                request.getfixturevalue("postgresql_url"), StorageSettings(), migrations=[MIGRATIONS]
            )
            stack.push_async_callback(postgresql.close)
            yield {tenant: PostgresqlShadowStore(postgresql, tenant=tenant) for tenant in ("one", "two")}


@pytest.fixture
def store(stores: dict[str, ShadowStore]) -> ShadowStore:
    return stores["one"]


def row(version: int = 1, document: bytes | None = b"{}", **fields: Any) -> Row:
    return Row(**({"version": version, "numbering": 7, "changed_at": 8.5, "document": document} | fields))


def entry(version: int, **fields: Any) -> JournalEntry:
    given: dict[str, Any] = {
        "numbering": 7,
        "at": 10.0 * version,
        "author": Author("c"),
        "topic": "t",
        "patch": b"{}",
    }
    return JournalEntry(version=version, **(given | fields))


async def put(
    store: ShadowStore, rows: dict[ShadowKey, Row], *entries: tuple[ShadowKey, JournalEntry], **obsolete: int
) -> None:
    forget = {ShadowKey(name): version for name, version in obsolete.items()}
    await store.commit(Changes(rows, list(entries), forget))


async def versions(store: ShadowStore, key: ShadowKey, **page: int) -> list[int]:
    return [each.version for each in await store.history(key, **({"limit": 100} | page))]


async def test_rows_are_found_under_their_keys_and_replaced(store: ShadowStore) -> None:
    await put(store, {A: row(1), FW: row(2, None)})
    await put(store, {A: row(3, b'{"x":1}')})
    assert await store.load([A, B, FW]) == {A: row(3, b'{"x":1}'), FW: row(2, None)}


async def test_nothing_is_nothing(store: ShadowStore) -> None:
    assert await store.load([]) == {}
    assert await store.load([A]) == {}
    await put(store, {})
    assert await store.history(A, limit=5) == []
    assert await store.names("a", limit=5) == []
    assert await store.things(limit=5) == []
    assert await store.drifting(limit=5) == []
    assert await store.sweep(deleted_before=1e12, journal_before=1e12, limit=5) == 0


numbers = st.integers(0, 2**63 - 1)
times = st.floats(0, 1e12)
texts = st.none() | st.text(max_size=20)
documents = st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20).map(str.encode)
drifts = st.builds(
    Drifting, since=times, told_at=times, tellings=st.integers(1, 1000), keys=st.integers(1, 1000)
)
rows = st.builds(
    Row,
    version=numbers,
    numbering=numbers,
    changed_at=times,
    document=documents,
    base_version=numbers,
    base_at=times,
    drift=st.none() | drifts,
)
entries = st.builds(
    JournalEntry,
    version=st.integers(0, 2**63 - 2),
    numbering=numbers,
    at=times,
    author=st.builds(Author, texts, texts, texts),
    topic=st.text(max_size=20),
    client_token=texts,
    patch=documents,
    document=documents,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=rows, entry=entries, number=st.integers(0, 10**12))
async def test_whatever_is_kept_comes_back_unchanged(
    store: ShadowStore, row: Row, entry: JournalEntry, number: int
) -> None:
    key = ShadowKey(f"t{number}", "$shadow:1")
    await store.sweep(deleted_before=1e13, journal_before=1e13, limit=100)
    await store.commit(Changes({key: row}, [(key, entry)], {}))
    assert await store.load([key]) == {key: row}
    assert await store.history(key, limit=1) == [entry]


async def test_more_rows_than_one_statement_takes(store: ShadowStore) -> None:
    keys = [ShadowKey(f"t{number:05}") for number in range(10_000)]
    changes = Changes(
        {key: row(number + 1) for number, key in enumerate(keys)},
        [(key, entry(number + 1)) for number, key in enumerate(keys)],
        {},
    )
    await store.commit(changes)
    assert await store.load(keys) == changes.rows
    assert await versions(store, keys[-1]) == [10_000]


async def test_history_is_newest_first_and_comes_in_pages(store: ShadowStore) -> None:
    await put(store, {A: row(6)}, *((A, entry(number)) for number in range(1, 7)), (FW, entry(9)))
    assert await versions(store, A, limit=2) == [6, 5]
    assert await versions(store, A, limit=3, before_version=5) == [4, 3, 2]
    assert await versions(store, A, before_version=1) == []
    assert await versions(store, A, before_version=2**70) == [6, 5, 4, 3, 2, 1]
    assert await versions(store, B) == []


async def test_history_is_that_of_the_latest_numbering(store: ShadowStore) -> None:
    await put(store, {A: row(2)}, (A, entry(1)), (A, entry(2, patch=None)))
    await put(store, {A: row(1, numbering=9)}, (A, entry(1, numbering=9)))
    (found,) = await store.history(A, limit=5)
    assert (found.version, found.numbering) == (1, 9)


async def test_the_journal_forgets_below_a_version_of_the_same_numbering(store: ShadowStore) -> None:
    await put(store, {B: row(2)}, (B, entry(1)), (B, entry(2)))
    await put(store, {A: row(4)}, *((A, entry(number)) for number in range(1, 5)))
    await put(store, {A: row(5)}, (A, entry(5)), a=4)
    assert await versions(store, A) == [5, 4]
    assert await versions(store, B) == [2, 1]


async def test_names_are_those_of_living_named_shadows_in_order(store: ShadowStore) -> None:
    names = ["b", "B", "$b", "a-1", "a", "_", "9"]
    await put(store, {ShadowKey("t", name): row() for name in names} | {ShadowKey("t"): row(), FW: row()})
    await put(store, {ShadowKey("t", "gone"): row(2, None)})
    assert await store.names("t", limit=100) == sorted(names)
    assert await store.names("t", limit=2) == sorted(names)[:2]
    assert await store.names("t", after="B", limit=3) == ["_", "a", "a-1"]


async def test_things_are_those_with_a_living_shadow_in_order(store: ShadowStore) -> None:
    await put(store, {ShadowKey("b"): row(), FW: row(), A: row(2, None), ShadowKey("B", "x"): row()})
    await put(store, {ShadowKey("gone"): row(2, None)})
    assert await store.things(limit=5) == ["B", "a", "b"]
    assert await store.things(after="B", limit=1) == ["a"]


async def test_drifting_shadows_come_by_age_in_pages(store: ShadowStore) -> None:
    def drifting(since: float) -> Row:
        return row(drift=Drifting(since=since, told_at=since, tellings=1, keys=1))

    await put(store, {A: drifting(3.0), B: drifting(1.0), FW: drifting(3.0), ShadowKey("c"): row()})
    page = await store.drifting(limit=2)
    assert [key for key, _ in page] == [B, A]
    key, drift = page[-1]
    assert await store.drifting(after=(drift.since, key), limit=2) == [
        (FW, Drifting(since=3.0, told_at=3.0, tellings=1, keys=1))
    ]
    await put(store, {B: row(2)})
    assert [key for key, _ in await store.drifting(limit=9)] == [A, FW]


async def test_a_sweep_removes_what_is_too_old_and_no_more_than_it_may(store: ShadowStore) -> None:
    dead = {ShadowKey(f"dead{number}"): row(2, None, changed_at=float(number)) for number in range(5)}
    await put(store, dead | {A: row(changed_at=0.0)}, *((A, entry(number)) for number in range(1, 6)))
    sweep = {"deleted_before": 4.0, "journal_before": 30.0}
    assert await store.sweep(**sweep, limit=3) == 3
    assert await store.sweep(**sweep, limit=3) == 1
    assert await store.sweep(**sweep, limit=3) == 0
    assert list(await store.load([*dead, A])) == [ShadowKey("dead4"), A]
    assert await versions(store, A) == [5, 4, 3]


async def test_tenants_do_not_see_each_other(stores: dict[str, ShadowStore]) -> None:
    one, two = stores["one"], stores["two"]
    await put(one, {A: row(4, drift=DRIFT), FW: row()}, *((A, entry(number)) for number in range(1, 5)))
    await put(two, {A: row(2)}, (A, entry(1)), (A, entry(2)))
    await put(two, {A: row(2)}, a=2)
    assert await two.load([A, FW]) == {A: row(2)}
    assert await versions(one, A) == [4, 3, 2, 1]
    assert await versions(two, A) == [2]
    assert await two.names("a", limit=5) == []
    assert await two.drifting(limit=5) == []
    assert await one.load([A]) == {A: row(4, drift=DRIFT)}


async def test_names_that_look_like_sql_are_names(store: ShadowStore) -> None:
    keys = [ShadowKey("x'; DROP TABLE shadow; --"), ShadowKey("%", '"')]
    await put(store, {key: row() for key in keys})
    assert (await store.load(keys)).keys() == set(keys)


async def test_a_full_store_refuses_new_rows_as_a_whole_and_still_replaces() -> None:
    store = MemoryShadowStore(rows_maximum=1)
    await put(store, {A: row(1)})
    with pytest.raises(ShadowStoreError):
        await put(store, {A: row(2), B: row(1)}, (A, entry(2)))
    assert await store.load([A, B]) == {A: row(1)}
    assert await versions(store, A) == []
    await put(store, {A: row(2)})


async def test_a_journal_in_memory_forgets_the_oldest_entries_of_all() -> None:
    store = MemoryShadowStore(entries_maximum=4)
    for version in range(1, 4):
        await put(store, {A: row(version), B: row(version)}, (A, entry(version)), (B, entry(version)))
    assert await versions(store, A) == await versions(store, B) == [3, 2]
    await put(store, {A: row(3)}, a=3)
    await put(store, {B: row(6)}, *((B, entry(version)) for version in range(4, 7)))
    assert await versions(store, A) == []
    assert await versions(store, B) == [6, 5, 4, 3]


class TestClosed:
    """A store whose database was closed says so, whatever it is asked."""

    @pytest.fixture
    async def closed(self, tmp_path: Path, request: pytest.FixtureRequest) -> Collection[ShadowStore]:
        sqlite = await SqliteDatabase.open(tmp_path / "x.db", StorageSettings(), migrations=[MIGRATIONS])
        await sqlite.close()
        postgresql = await PostgresqlDatabase.open(
            request.getfixturevalue("postgresql_url"), StorageSettings(), migrations=[MIGRATIONS]
        )
        await postgresql.close()
        return SqliteShadowStore(sqlite), PostgresqlShadowStore(postgresql)

    async def test_every_question_and_commit_is_refused(self, closed: Collection[ShadowStore]) -> None:
        for store in closed:
            for asked in (
                store.load([A]),
                store.commit(Changes({A: row()}, [], {})),
                store.history(A, limit=1),
                store.names("a", limit=1),
                store.things(limit=1),
                store.drifting(limit=1),
                store.sweep(deleted_before=0, journal_before=0, limit=1),
            ):
                with contextlib.closing(asked), pytest.raises(ShadowStoreError):
                    await asked


async def test_what_was_committed_is_there_after_a_restart(tmp_path: Path) -> None:
    for version in (1, 2):
        database = await SqliteDatabase.open(tmp_path / "x.db", StorageSettings(), migrations=[MIGRATIONS])
        store = SqliteShadowStore(database)
        assert await store.load([A]) == ({A: row(version - 1, drift=DRIFT)} if version > 1 else {})
        await put(store, {A: row(version, drift=DRIFT)}, (A, entry(version)))
        await database.close()


async def test_a_damaged_journal_is_no_journal(tmp_path: Path) -> None:
    database = await SqliteDatabase.open(tmp_path / "x.db", StorageSettings(), migrations=[MIGRATIONS])
    store = SqliteShadowStore(database)
    await put(store, {A: row()}, (A, entry(1)))
    await database.commit(lambda connection: connection.execute("UPDATE shadow_journal SET origin = '{'"))
    with pytest.raises(ShadowStoreError, match="damaged"):
        await store.history(A, limit=1)
    await database.close()
