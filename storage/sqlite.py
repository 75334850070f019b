"""One SQLite database: commits through the group committer, reads through connections of their own.

Knows: how a database is opened, checked, migrated, read and closed.
Does not know: tables, who asks.
Spec: none.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, Generic, Self, TypeVar

import aiosqlite
import structlog

from .committer import Committer, Request
from .errors import StorageClosedError, StorageError, is_damage, storage_error
from .migrations import Migrations
from .settings import StorageSettings
from .sqlite_schema import migrate
from .sqlite_setup import check_at_start, open_reader, open_writer
from .stats import StorageHealth, StorageStats

_T = TypeVar("_T")

_log = structlog.get_logger("storage")

#: How long the end waits for a failing disk, and for readers.
_CLOSE_TIMEOUT_S: Final = 5.0


class SqliteDatabase:
    """An open database. All methods are called on the event loop that opened it."""

    def __init__(self, path: Path, committer: Committer, stats: StorageStats) -> None:
        self.path: Final = path
        self.stats: Final = stats
        self._committer = committer
        #: All that are open; empty once the database is closed.
        self._readers: list[aiosqlite.Connection] = []
        self._idle_readers: asyncio.LifoQueue[aiosqlite.Connection] = asyncio.LifoQueue()

    @classmethod
    async def open(cls, path: Path, settings: StorageSettings, *, migrations: Sequence[Migrations]) -> Self:
        """Open a database file, which is made if missing; check it, and apply the migrations that it lacks.

        The caller holds the lock of the folder.

        Raises:
            DatabaseDamagedError: it is no database, or a broken one.
            DatabaseForeignError: another program's.
            DatabaseNewerError, MigrationError: its schema is not one of ours.
            StorageError: the file cannot be opened or written.
        """
        stats = StorageStats()

        def open_connection() -> sqlite3.Connection:
            return _open(path, settings, migrations)

        committer = Committer(path, open_connection, settings, stats)
        await committer.start()
        database = cls(path, committer, stats)
        try:
            for _ in range(settings.readers):
                reader = await _connect_reader(path)
                database._readers.append(reader)
                database._idle_readers.put_nowait(reader)
        except BaseException:
            await database.close()
            raise
        return database

    @property
    def health(self) -> StorageHealth:
        """Whether commits succeed."""
        return self._committer.health

    async def failed(self) -> StorageError:
        """Wait for the error (such as damage) after which nothing is written; the server then ends."""
        return await asyncio.shield(self._committer.fatal)

    def commit(
        self, work: Callable[[sqlite3.Connection], _T], *, rows: int = 1, size_bytes: int = 0
    ) -> asyncio.Future[_T]:
        """Run `work` in the next transaction.

        It runs on the committer's thread, inside a transaction that it neither commits nor rolls back, and
        may run again after a failure: it must read what it needs from its own values and the connection only.
        Works run in the order of the calls. Prefer `batch_writer` for whatever comes often.

        Args:
            work: its result, or the exception that it raises, is that of the future.
            rows: about how many rows it changes, for `commit_rows_maximum`.
            size_bytes: about how many bytes it writes, for `commit_bytes_maximum`.

        Returns:
            A future that is done when the change is durable. While the disk fails it waits; cancelling
            it does not undo the commit.

        Raises:
            StorageError: the database is closed or failed for good. The future may end so too.
        """
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._committer.submit(Request(future, rows, size_bytes, work))
        return future

    def batch_writer(self, write: Callable[[sqlite3.Connection, Sequence[_T]], None]) -> "BatchWriter[_T]":
        """Return a writer whose items of one transaction are written together, by one call of `write`.

        `write` runs as a work does, after the works of `commit` of the same transaction. It gets the items in
        the order of the calls: so it can use one statement per table, leave out what a later item undoes, and
        delete before it inserts (so that a full disk gets room). If it raises, it is called again with one
        item at a time, and only the guilty one fails.
        """
        return BatchWriter(self._committer, write)

    async def read(self, query: Callable[[aiosqlite.Connection], Awaitable[_T]]) -> _T:
        """Run a query on a connection of its own, all of it on one state of the database.

        Raises:
            StorageError: it could not be read, or the database is closed.
        """
        async with self._reader() as connection:
            try:
                await connection.execute("BEGIN")
                return await query(connection)
            finally:
                await asyncio.shield(_roll_back(connection))

    async def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Return all rows of one SELECT: one way to the thread and back, where `read` takes three and more.

        Raises:
            StorageError: it could not be read, or the database is closed.
        """
        async with self._reader() as connection:
            return list(await connection.execute_fetchall(sql, parameters))

    async def close(self) -> None:
        """Commit what waits, end the reads, close the file; may be repeated.

        What a failing disk does not take within 5 s fails with StorageClosedError.
        """
        readers, self._readers = self._readers, []
        while readers:
            try:
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    reader = await self._idle_readers.get()
            except TimeoutError:
                for reader in readers:
                    await reader.interrupt()
            else:
                readers.remove(reader)
                await reader.close()
        await self._committer.close(timeout_s=_CLOSE_TIMEOUT_S)

    @contextlib.asynccontextmanager
    async def _reader(self) -> AsyncIterator[aiosqlite.Connection]:
        """Lend a connection that reads.

        Raises:
            StorageError: the database is closed, or the body met an error of SQLite.
        """
        if not self._readers:
            raise StorageClosedError(f"{self.path}: the database is closed")
        connection = await self._idle_readers.get()
        try:
            yield connection
        except sqlite3.Error as error:
            self.stats.reads_failed += 1
            told = storage_error(self.path, error)
            if is_damage(error):
                self._committer.fail(told)
            raise told from error
        finally:
            self._idle_readers.put_nowait(connection)
        self.stats.reads += 1


class BatchWriter(Generic[_T]):
    """See `SqliteDatabase.batch_writer`."""

    def __init__(
        self, committer: Committer, write: Callable[[sqlite3.Connection, Sequence[_T]], None]
    ) -> None:
        self._committer = committer
        self._write = write

    def commit(self, item: _T, *, rows: int = 1, size_bytes: int = 0) -> asyncio.Future[None]:
        """Write an item in the next transaction; the rest is as with `SqliteDatabase.commit`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._committer.submit(Request(future, rows, size_bytes, self._write, item, is_batch=True))
        return future


def _open(path: Path, settings: StorageSettings, migrations: Sequence[Migrations]) -> sqlite3.Connection:
    """Open, check and migrate; on the committer's thread."""
    began = time.monotonic()
    connection = open_writer(path, settings)
    try:
        is_checked = check_at_start(connection, path)
        applied = migrate(connection, path, migrations)
    except BaseException:
        connection.close()
        raise
    _log.info(
        "storage.opened",
        path=str(path),
        checked=is_checked,
        migrations=len(applied),
        seconds=round(time.monotonic() - began, 3),
    )
    return connection


async def _roll_back(connection: aiosqlite.Connection) -> None:
    """End a reading transaction; it has changed nothing."""
    with contextlib.suppress(sqlite3.Error):
        await connection.rollback()


async def _connect_reader(path: Path) -> aiosqlite.Connection:
    try:
        return await aiosqlite.Connection(lambda: open_reader(path), iter_chunk_size=256)
    except sqlite3.Error as error:
        raise storage_error(path, error) from error
