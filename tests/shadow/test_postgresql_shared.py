"""What processes that share shadows need of PostgreSQL: holding, checking, remembering what is done."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from shadow import (
    MIGRATIONS,
    Changes,
    Done,
    PostgresqlSharedStore,
    Row,
    ShadowKey,
    ShadowStoreError,
    SharedChanges,
)
from shadow.errors import ShadowConflictError
from storage import PostgresqlDatabase, StorageSettings

A, B = ShadowKey("a"), ShadowKey("b")


@pytest.fixture
async def stores(postgresql_url: str) -> AsyncIterator[tuple[PostgresqlSharedStore, PostgresqlSharedStore]]:
    """The stores of two processes."""
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(2):
            database = await PostgresqlDatabase.open(
                postgresql_url, StorageSettings(), migrations=[MIGRATIONS], exclusive=False
            )
            stack.push_async_callback(database.close)
            found.append(PostgresqlSharedStore(database))
        yield found[0], found[1]


def row(version: int, changed_at: float = 5.0) -> Row:
    return Row(version=version, numbering=7, changed_at=changed_at, document=b"{}")


def changes(version: int, before: int | None, **fields: float) -> SharedChanges:
    built_on = None if before is None else Done(7, before)
    return SharedChanges({A: row(version, **fields)}, [], {}, {A: built_on}, {}, [])


async def test_a_thing_is_held_by_one_process_at_a_time(
    stores: tuple[PostgresqlSharedStore, PostgresqlSharedStore],
) -> None:
    holders: list[str] = []
    entered, leave = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        holders.append("first in")
        entered.set()
        await leave.wait()
        holders.append("first out")

    async def second() -> None:
        holders.append("second in")

    async def other() -> None:
        holders.append("other in")
        leave.set()

    one, two = stores
    async with asyncio.TaskGroup() as group:
        group.create_task(one.hold(["a", "c"], first))
        await entered.wait()
        group.create_task(two.hold(["b", "a"], second))
        third = group.create_task(two.hold(["d"], other))
        await third
    assert holders == ["first in", "other in", "first out", "second in"]


async def test_two_processes_never_wait_for_each_other(
    stores: tuple[PostgresqlSharedStore, PostgresqlSharedStore],
) -> None:
    count = 0

    async def body() -> None:
        nonlocal count
        count += 1

    things = [str(number) for number in range(50)]
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for store, order in zip(stores, (things, things[::-1]), strict=True):

            async def work(store: PostgresqlSharedStore = store, order: list[str] = order) -> None:
                for _ in range(30):
                    await store.hold(order, body)

            group.create_task(work())
    assert count == 60


async def test_what_the_body_raises_comes_out_and_frees_the_things(
    stores: tuple[PostgresqlSharedStore, PostgresqlSharedStore],
) -> None:
    async def fails() -> None:
        raise LookupError("body")

    async def works() -> None:
        pass

    for store in stores:
        with pytest.raises(LookupError):
            await store.hold(["a"], fails)
        await store.hold(["a"], works)


async def test_rows_that_another_process_changed_are_not_overwritten(
    stores: tuple[PostgresqlSharedStore, PostgresqlSharedStore],
) -> None:
    one, two = stores
    await one.commit_shared(changes(1, None))
    for stale in (changes(1, None, changed_at=6.0), changes(3, 2), changes(2, 0)):
        with pytest.raises(ShadowConflictError):
            await two.commit_shared(stale)
    assert await two.load([A]) == {A: row(1)}
    await two.commit_shared(changes(3, 1))
    assert await one.load([A]) == {A: row(3)}


async def test_of_many_that_build_on_the_same_version_one_wins(
    stores: tuple[PostgresqlSharedStore, PostgresqlSharedStore],
) -> None:
    results = []

    async def attempt(store: PostgresqlSharedStore, number: int) -> None:
        try:
            await store.commit_shared(changes(1 + number % 2, None, changed_at=float(number)))
        except ShadowConflictError:
            results.append("conflict")
        else:
            results.append("won")

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(attempt(stores[number % 2], number))
    assert sorted(results) == ["conflict"] * 19 + ["won"]


async def test_a_commit_whose_answer_was_lost_may_run_again(
    stores: tuple[PostgresqlSharedStore, PostgresqlSharedStore],
) -> None:
    one, _ = stores
    for _ in range(2):
        await one.commit_shared(changes(1, None))
    assert await one.load([A]) == {A: row(1)}


async def test_what_one_process_has_done_the_others_know_until_it_is_acknowledged(
    stores: tuple[PostgresqlSharedStore, PostgresqlSharedStore],
) -> None:
    one, two = stores
    first = changes(1, None)
    first.done = {"x": Done(7, 1), "y": Done(7, 1)}
    await one.commit_shared(first)
    assert await two.done(["x", "y", "z"]) == {"x": Done(7, 1), "y": Done(7, 1)}
    assert await one.done(["x"]) == {}
    second = changes(2, 1)
    second.acknowledged = ["x"]
    await two.commit_shared(second)
    assert (await two.done(["x"])).keys() == {"x"}
    third = changes(3, 2)
    third.acknowledged = ["x"]
    await one.commit_shared(third)
    assert (await two.done(["x", "y"])).keys() == {"y"}


async def test_what_comes_again_is_known_for_longer_and_to_the_process_itself(
    stores: tuple[PostgresqlSharedStore, PostgresqlSharedStore], postgresql_url: str
) -> None:
    one, two = stores
    first = changes(1, None)
    first.done = {"x": Done(7, 1), "y": Done(7, 1)}
    await one.commit_shared(first)
    assert (await one.done(["x", "y"], again=["y"])).keys() == {"y"}
    connection = await asyncpg.connect(postgresql_url)
    await connection.execute("UPDATE shadow_done SET at = at - interval '11 minutes'")
    await two.sweep(deleted_before=0, journal_before=0, limit=10)
    assert (await two.done(["x", "y"], again=["y"])).keys() == {"y"}
    await connection.execute("UPDATE shadow_done SET at = at - interval '1 day'")
    await connection.close()
    await two.sweep(deleted_before=0, journal_before=0, limit=10)
    assert await two.done(["x", "y"], again=["x", "y"]) == {}


async def test_nothing_is_done_where_the_commit_failed(
    stores: tuple[PostgresqlSharedStore, PostgresqlSharedStore],
) -> None:
    one, two = stores
    stale = changes(5, 4)
    stale.done = {"x": Done(7, 5)}
    with pytest.raises(ShadowConflictError):
        await one.commit_shared(stale)
    assert await two.done(["x"]) == {}


async def test_a_closed_database_holds_nothing(postgresql_url: str) -> None:
    database = await PostgresqlDatabase.open(
        postgresql_url, StorageSettings(), migrations=[MIGRATIONS], exclusive=False
    )
    store = PostgresqlSharedStore(database)
    await store.commit(Changes({B: row(1)}, [], {}))
    await store.sweep(deleted_before=0, journal_before=0, limit=10)
    await database.close()
    ran = False

    async def body() -> None:
        nonlocal ran
        ran = True

    with pytest.raises(ShadowStoreError):
        await store.hold(["a"], body)
    with pytest.raises(ShadowStoreError):
        await store.done(["x"])
    assert not ran
