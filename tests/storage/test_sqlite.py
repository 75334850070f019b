"""Opening, checking, reading and keeping house."""

import asyncio
import os
import sqlite3
import stat
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

import aiosqlite
import pytest

from storage import (
    DatabaseDamagedError,
    DatabaseForeignError,
    SqliteDatabase,
    StorageError,
    StorageSettings,
)
from storage_site import insert, migrations, opened, stored

_PAGE = 4096


async def _filled(path: Path) -> None:
    """Make a database of some hundred pages."""
    async with opened(path) as database:
        await database.commit(lambda connection: insert(connection, range(100_000)))


async def _refusal(path: Path, kind: type[StorageError]) -> str:
    with pytest.raises(kind) as caught:
        await SqliteDatabase.open(path, StorageSettings(), migrations=[migrations(path.parent)])
    return str(caught.value)


async def test_what_was_committed_is_there_after_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "test ä?#.db"
    for value in range(3):
        async with opened(path, known=[migrations(tmp_path)]) as database:
            await database.commit(partial(insert, values=[value]))
    assert stored(path) == [0, 1, 2]


async def test_others_cannot_read_the_files(tmp_path: Path) -> None:
    async with opened(tmp_path / "test.db") as database:
        await database.commit(lambda connection: insert(connection, [1]))
        files = list(tmp_path.glob("test.db*"))  # noqa: ASYNC240
        assert len(files) == 3
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


@pytest.mark.parametrize(("durability", "synchronous"), [("fsync", 2), ("os", 1)])
async def test_durability_decides_what_is_synced(tmp_path: Path, durability: str, synchronous: int) -> None:
    settings = StorageSettings.model_validate({"durability": durability})
    async with opened(tmp_path / "test.db", settings=settings) as database:
        pragmas = await database.commit(
            lambda connection: [
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("synchronous", "journal_mode", "auto_vacuum", "application_id")
            ]
        )
    assert pragmas == [synchronous, "wal", 2, int.from_bytes(b"GNOM")]


async def test_an_opening_that_is_cancelled_lets_the_file_go(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    async with asyncio.TaskGroup() as group:
        known = [migrations(tmp_path)]
        task = group.create_task(SqliteDatabase.open(path, StorageSettings(), migrations=known))
        await asyncio.sleep(0)
        task.cancel()
    for thread in threading.enumerate():
        if thread.name == "storage:test.db":
            thread.join(10)
            assert not thread.is_alive()
    async with opened(path):
        pass


# ------------------------------------------------------------------------------------ files that are no good


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    content = b"Dear diary, today I was opened as a database. " * 100
    path.write_bytes(content)
    wal = tmp_path / "test.db-wal"
    wal.write_bytes(b"what may be needed to save it")
    told = await _refusal(path, DatabaseDamagedError)
    assert "gnomon restore FILE" in told
    assert ".recover" in told
    assert path.read_bytes() == content
    assert wal.exists()


async def test_an_empty_file_beside_a_wal_is_no_new_database(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    path.touch()
    wal = tmp_path / "test.db-wal"
    wal.write_bytes(b"what was committed")
    await _refusal(path, DatabaseDamagedError)
    assert wal.exists()


async def test_a_damaged_page_is_found_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    await _filled(path)
    content = bytearray(path.read_bytes())
    content[100 * _PAGE : 101 * _PAGE] = os.urandom(_PAGE)
    path.write_bytes(content)
    assert f"{path}: the database is damaged" in await _refusal(path, DatabaseDamagedError)


async def test_a_cut_file_is_found_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    await _filled(path)
    os.truncate(path, 50 * _PAGE)
    await _refusal(path, DatabaseDamagedError)


async def test_another_programs_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE other (id INTEGER)")
    before = path.read_bytes()
    assert "another program" in await _refusal(path, DatabaseForeignError)
    assert path.read_bytes() == before


async def test_a_start_that_was_killed_before_the_first_table_is_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
    async with opened(path) as database:
        assert await database.fetch("PRAGMA auto_vacuum") == [(2,)]
    assert stored(path) == []


async def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "test.db"
    path.parent.mkdir()
    known = [migrations(tmp_path)]
    path.parent.rmdir()
    with pytest.raises(StorageError, match=r"missing/test\.db: No such file or directory"):
        await SqliteDatabase.open(path, StorageSettings(), migrations=known)


async def test_a_folder_in_its_place_is_an_error_of_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    path.mkdir()
    assert "Is a directory" in await _refusal(path, StorageError)


async def test_damage_that_a_reader_meets_ends_the_database(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    await _filled(path)
    async with opened(path) as database:
        with path.open("r+b") as file:
            file.seek(100 * _PAGE)
            file.write(os.urandom(50 * _PAGE))
        with pytest.raises(DatabaseDamagedError):
            await database.fetch("SELECT sum(value), sum(length(text)) FROM number")
        assert isinstance(await database.failed(), DatabaseDamagedError)
        with pytest.raises(DatabaseDamagedError):
            database.commit(lambda connection: insert(connection, [-1]))
        assert "damaged" in database.health.reason


async def test_damage_that_the_committer_meets_fails_everybody_who_waits(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    await _filled(path)
    async with opened(path) as database:
        await database.commit(lambda connection: connection.execute("PRAGMA shrink_memory"))  # Of its cache.
        with path.open("r+b") as file:
            file.seek(20 * _PAGE)
            file.write(os.urandom(200 * _PAGE))
        waiting: list[asyncio.Future[object]] = [
            database.commit(lambda connection: connection.execute("UPDATE number SET text = 'x'")),
            database.commit(lambda connection: insert(connection, [-1])),
        ]
        for future in waiting:
            with pytest.raises(DatabaseDamagedError):
                await future
        assert isinstance(await database.failed(), DatabaseDamagedError)


# ------------------------------------------------------------------------------------ reading


async def test_a_read_sees_one_state_of_the_database(tmp_path: Path) -> None:
    async with opened(tmp_path / "test.db") as database:
        seen: list[int] = []

        async def count(connection: aiosqlite.Connection) -> int:
            async with connection.execute("SELECT count(*) FROM number") as cursor:
                row = await cursor.fetchone()
            assert row is not None
            return int(row[0])

        async def query(connection: aiosqlite.Connection) -> None:
            seen.append(await count(connection))
            await database.commit(lambda connection: insert(connection, [1]))
            seen.append(await count(connection))

        await database.read(query)
        assert seen == [0, 0]
        assert await database.read(count) == 1


async def test_a_reader_cannot_write(tmp_path: Path) -> None:
    async with opened(tmp_path / "test.db") as database:
        with pytest.raises(StorageError, match="read-only"):
            await database.fetch("INSERT INTO number VALUES (1, NULL)")


async def test_a_failed_or_cancelled_read_gives_its_connection_back(tmp_path: Path) -> None:
    settings = StorageSettings(readers=1)
    async with opened(tmp_path / "test.db", settings=settings) as database:
        begun = asyncio.Event()

        async def endless(_: aiosqlite.Connection) -> None:
            begun.set()
            await asyncio.Event().wait()

        async def wrong(connection: aiosqlite.Connection) -> None:
            await connection.execute("SELECT * FROM missing")

        with pytest.raises(StorageError, match="no such table"):
            await database.read(wrong)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(database.read(endless))
            await begun.wait()
            task.cancel()
        await database.commit(lambda connection: insert(connection, [1]))
        assert await database.fetch("SELECT value FROM number WHERE value = ?", [1]) == [(1,)]
        assert (database.stats.reads, database.stats.reads_failed) == (1, 1)


async def test_close_interrupts_a_read_that_takes_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.sqlite._CLOSE_TIMEOUT_S", 0.1)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    async with asyncio.TaskGroup() as group, opened(tmp_path / "test.db") as database:
        reading = group.create_task(_told(database, endless))
        await asyncio.sleep(0)
    assert "interrupted" in reading.result()


async def _told(database: SqliteDatabase, sql: str) -> str:
    with pytest.raises(StorageError) as caught:
        await database.fetch(sql)
    return str(caught.value)


# ------------------------------------------------------------------------------------ keeping house


async def test_deleted_pages_go_back_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.housekeeping._REST_S", 0.01)
    monkeypatch.setattr("storage.housekeeping._SLICE_REST_S", 0.001)
    monkeypatch.setattr("storage.housekeeping._FREE_PAGES_KEPT", 10)
    async with opened(tmp_path / "test.db") as database:
        await database.commit(lambda connection: insert(connection, range(500_000)))
        full = database.stats.database_bytes
        await database.commit(lambda connection: connection.execute("DELETE FROM number"))
        async with asyncio.timeout(20):
            while database.stats.database_bytes > 100 * _PAGE:  # noqa: ASYNC110  (a thread changes it)
                await asyncio.sleep(0.01)
        assert full > 1000 * _PAGE
        assert database.stats.vacuumed_pages > 0


async def test_the_size_limit_is_a_full_disk(tmp_path: Path) -> None:
    settings = StorageSettings(disk_bytes_maximum=1024 * 1024)
    async with opened(tmp_path / "test.db", settings=settings) as database:
        waiting = database.commit(lambda connection: insert(connection, range(200_000)))
        async with asyncio.timeout(10):
            while database.health.failing_since is None:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert "disk_bytes_maximum" in database.health.reason
        assert not waiting.done()
        connection = await _lift(database)
        connection.execute("PRAGMA max_page_count = 100000")
        await waiting


async def _lift(database: SqliteDatabase) -> sqlite3.Connection:
    """Return the writing connection, which waits between two attempts."""
    connection = database._committer._connection
    assert isinstance(connection, sqlite3.Connection)
    return connection
