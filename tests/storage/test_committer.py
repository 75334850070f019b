import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from storage import SqliteDatabase, StorageClosedError, StorageSettings
from storage_site import insert, migrations, opened, stored


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    async with opened(tmp_path / "test.db") as database:
        yield database


class Gate:
    """A work that holds the committer until it is opened."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._may_go = threading.Event()
        self.reached = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.connection: sqlite3.Connection
        self.done = database.commit(self._hold)

    def _hold(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._loop.call_soon_threadsafe(self.reached.set)
        assert self._may_go.wait(30)

    def open(self) -> None:
        self._may_go.set()


async def _connection(database: SqliteDatabase) -> sqlite3.Connection:
    """Return the connection that writes. To be used while nothing is committed."""
    return await database.commit(lambda connection: connection)


def _adding(*values: int) -> Callable[[sqlite3.Connection], None]:
    return lambda connection: insert(connection, values)


async def test_what_waits_while_a_commit_runs_goes_into_the_next_one(database: SqliteDatabase) -> None:
    gate = Gate(database)
    await gate.reached.wait()
    commits = database.stats.commits
    waiting = [database.commit(_adding(value)) for value in range(100)]
    assert database.stats.works_waiting == 101
    gate.open()
    for future in waiting:
        await future
    assert database.stats.commits - commits == 2
    assert database.stats.works_waiting == 0
    assert stored(database.path) == list(range(100))


@pytest.mark.parametrize(
    ("settings", "arguments", "commits"),
    [
        (StorageSettings(commit_rows_maximum=10), {"rows": 3}, 10),
        (StorageSettings(commit_bytes_maximum=1024), {"size_bytes": 500}, 15),
        (StorageSettings(commit_bytes_maximum=1024), {"size_bytes": 5000}, 30),
    ],
)
async def test_a_commit_takes_no_more_than_its_bounds(
    tmp_path: Path, settings: StorageSettings, arguments: dict[str, int], commits: int
) -> None:
    async with opened(tmp_path / "test.db", settings=settings) as database:
        gate = Gate(database)
        await gate.reached.wait()
        waiting = [database.commit(_adding(value), **arguments) for value in range(30)]
        gate.open()
        for future in waiting:
            await future
        assert database.stats.commits == commits + 1
        assert stored(database.path) == list(range(30))


async def test_works_run_in_order_and_give_back_what_they_return(database: SqliteDatabase) -> None:
    order: list[int] = []

    def work(number: int, _: sqlite3.Connection) -> int:
        order.append(number)
        return number * 2

    futures = [database.commit(partial(work, number)) for number in range(50)]
    assert [await future for future in futures] == [number * 2 for number in range(50)]
    assert order == list(range(50))


async def test_nobody_is_told_before_the_change_is_in_the_file(database: SqliteDatabase) -> None:
    told: list[list[int]] = []
    future = database.commit(_adding(1))
    future.add_done_callback(lambda _: told.append(stored(database.path)))
    await future
    await asyncio.sleep(0)
    assert told == [[1]]


async def test_only_the_work_with_a_bug_fails(database: SqliteDatabase) -> None:
    def buggy(connection: sqlite3.Connection) -> None:
        insert(connection, [2])
        raise ZeroDivisionError

    gate = Gate(database)
    await gate.reached.wait()
    first, second, twice, last = map(database.commit, (_adding(1), buggy, _adding(1), _adding(3)))
    gate.open()
    await first
    with pytest.raises(ZeroDivisionError):
        await second
    with pytest.raises(sqlite3.IntegrityError):
        await twice
    await last
    assert stored(database.path) == [1, 3]
    assert database.stats.works_refused == 2
    assert database.health.failing_since is None


async def test_a_work_that_ends_the_transaction_ends_the_database_and_not_in_silence(tmp_path: Path) -> None:
    async with opened(tmp_path / "test.db") as database:
        future = database.commit(lambda connection: connection.execute("COMMIT"))
        with pytest.raises(Exception, match=r"no transaction is active|no such savepoint"):
            await future
        assert "transaction" in str(await database.failed()) or "savepoint" in str(await database.failed())


async def test_a_batch_writer_gets_the_items_of_a_transaction_at_once(database: SqliteDatabase) -> None:
    seen: list[list[int]] = []

    def write(connection: sqlite3.Connection, items: Sequence[int]) -> None:
        seen.append(list(items))
        insert(connection, items)

    writer = database.batch_writer(write)
    gate = Gate(database)
    await gate.reached.wait()
    waiting = [writer.commit(value) for value in range(20)]
    gate.open()
    for future in waiting:
        await future
    assert seen == [list(range(20))]
    assert stored(database.path) == list(range(20))


async def test_only_the_guilty_item_of_a_batch_fails(database: SqliteDatabase) -> None:
    writer = database.batch_writer(insert)
    await writer.commit(5)
    gate = Gate(database)
    await gate.reached.wait()
    waiting = {value: writer.commit(value) for value in (4, 5, 6)}
    gate.open()
    await waiting[4]
    with pytest.raises(sqlite3.IntegrityError):
        await waiting[5]
    await waiting[6]
    assert stored(database.path) == [4, 5, 6]


async def test_cancelling_who_waits_does_not_undo(database: SqliteDatabase) -> None:
    gate = Gate(database)
    await gate.reached.wait()
    future = database.commit(_adding(1))
    future.cancel()
    gate.open()
    await database.commit(_adding(2))
    assert stored(database.path) == [1, 2]


async def test_close_commits_what_waits_and_takes_nothing_more(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    database = await SqliteDatabase.open(path, StorageSettings(), migrations=[migrations(tmp_path)])
    gate = Gate(database)
    await gate.reached.wait()
    waiting = [database.commit(_adding(value)) for value in range(10)]
    gate.open()
    await database.close()
    await database.close()
    for future in waiting:
        assert future.done()
        assert future.result() is None
    with pytest.raises(StorageClosedError, match="closed"):
        database.commit(_adding(11))
    with pytest.raises(StorageClosedError, match="closed"):
        await database.fetch("SELECT 1")
    assert stored(path) == list(range(10))
    assert sorted(path.parent.glob("test.db*")) == [path]


# ------------------------------------------------------------------------------------ a disk that fails


def _room(connection: sqlite3.Connection, pages: int) -> None:
    """The database as a small disk: no more than it has, and so many pages."""
    (used,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {used + pages}")


def _fill(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO number VALUES (1, printf('%.*c', 100000, 'x'))")


async def _failing(database: SqliteDatabase) -> None:
    """Wait until a commit has failed; the committer's thread tells nobody, so look."""
    async with asyncio.timeout(10):
        while database.health.failing_since is None:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_full_disk_stops_acknowledging_until_there_is_room(
    database: SqliteDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = await _connection(database)
    _room(connection, 2)
    large, small = database.commit(_fill), database.commit(_adding(2))
    await _failing(database)
    assert "no room is left on the disk" in database.health.reason
    later = database.commit(_adding(3))
    assert not any(future.done() for future in (large, small, later))
    assert stored(database.path) == []
    connection.execute("PRAGMA max_page_count = 100000")
    for future in (large, small, later):
        await future
    assert database.health.failing_since is None
    assert database.health.reason == ""
    assert (database.stats.failures, database.stats.works_refused) == (1, 0)
    assert database.stats.retries >= 1
    assert stored(database.path) == [1, 2, 3]
    log = capsys.readouterr().out
    assert log.count("storage.failing") == log.count("storage.recovered") == 1


async def test_deletions_that_come_in_later_free_a_full_disk(database: SqliteDatabase) -> None:
    """What waits joins the batch that fails, and a batch writer deletes before it inserts."""

    def write(connection: sqlite3.Connection, items: Sequence[Any]) -> None:
        for item in sorted(items, key=lambda item: item != "delete"):
            if item == "delete":
                connection.execute("DELETE FROM number")
            else:
                connection.execute("INSERT INTO number VALUES (?, printf('%.*c', 100000, 'x'))", [item])

    writer = database.batch_writer(write)
    await writer.commit(1)
    _room(await _connection(database), 2)
    waiting = writer.commit(2)
    await _failing(database)
    deleted = writer.commit("delete")
    await deleted
    await waiting
    assert stored(database.path) == [2]


async def test_a_disk_that_turns_read_only_is_waited_for(database: SqliteDatabase) -> None:
    connection = await _connection(database)
    connection.execute("PRAGMA query_only = ON")
    future = database.commit(_adding(1))
    await _failing(database)
    assert "read-only" in database.health.reason
    connection.execute("PRAGMA query_only = OFF")
    await future
    assert stored(database.path) == [1]


async def test_another_writer_is_waited_for(database: SqliteDatabase) -> None:
    intruder = sqlite3.connect(database.path, isolation_level=None)
    intruder.execute("BEGIN IMMEDIATE")
    future = database.commit(_adding(1))
    await _failing(database)
    assert "another program" in database.health.reason
    intruder.execute("ROLLBACK")
    intruder.close()
    await future
    assert stored(database.path) == [1]


async def test_close_does_not_wait_for_ever_for_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.sqlite._CLOSE_TIMEOUT_S", 0.2)
    async with opened(tmp_path / "test.db") as database:
        await database.commit(_adding(5))
        _room(await _connection(database), 2)
        waiting = [database.commit(_fill), database.commit(_adding(2))]
        await _failing(database)
    for future in waiting:
        with pytest.raises(StorageClosedError, match=r"closed before it was stored: .*no room"):
            await future
    assert stored(database.path) == [5]
