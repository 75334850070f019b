"""One PostgreSQL database: commits through the group committer, reads through a pool of sessions.

Knows: how a database is opened, migrated, read and closed.
Does not know: tables, who asks.
Spec: none.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, Self, TypeVar, cast

import asyncpg
import structlog

from .errors import DatabaseDamagedError, StorageClosedError, StorageError
from .migrations import Migrations
from .postgresql_batch import Request
from .postgresql_committer import Committer
from .postgresql_connection import CONNECT_ERRORS, Connection, Server, is_environment
from .postgresql_lock import lock_database
from .postgresql_schema import migrate
from .settings import StorageSettings
from .stats import StorageHealth, StorageStats

_T = TypeVar("_T")

_log = structlog.get_logger("storage")

#: How long the end waits for a failing server, and for readers.
_CLOSE_TIMEOUT_S: Final = 5.0
#: How long a read waits for a free session.
_ACQUIRE_TIMEOUT_S: Final = 30.0
#: How long a statement that was given up may take to end.
_RELEASE_TIMEOUT_S: Final = 2.0


class PostgresqlDatabase:
    """An open database: what `SqliteDatabase` is, with asyncpg's connections and statements."""

    def __init__(
        self, server: Server, committer: Committer, pool: "asyncpg.Pool[asyncpg.Record]", stats: StorageStats
    ) -> None:
        self.stats: Final = stats
        self._server = server
        self._committer = committer
        self._pool = pool
        self._is_closed = False

    @classmethod
    async def open(
        cls, url: str, settings: StorageSettings, *, migrations: Sequence[Migrations], exclusive: bool = True
    ) -> Self:
        """Connect to a database, and apply the migrations that it lacks.

        Args:
            url: postgresql://USER@HOST/DATABASE with asyncpg's parameters; passwords only in a passfile.
            settings: durability "fsync" waits for the disk (and for synchronous standbys), "os" does not.
            migrations: every component that this database has.
            exclusive: whether this is the one server of the database. False where several share it.

        Raises:
            DatabaseInUseError: `exclusive`, and another server works on it.
            DatabaseNewerError, MigrationError: its schema is not one of ours.
            StorageError: the URL is wrong, nobody answers, or we may not.
        """
        server = Server.parse(url, settings)
        stats = StorageStats()

        async def open_connection() -> Connection:
            connection = await server.connect()
            try:
                if exclusive:
                    await lock_database(connection, server)
            except BaseException as error:
                connection.terminate()
                if isinstance(error, CONNECT_ERRORS):
                    raise server.error(error) from error
                raise
            return connection

        async def prepare(connection: Connection) -> None:
            try:
                applied = await migrate(connection, server.place, migrations)
                is_fsync = await connection.fetchval("SHOW fsync") == "on"
            except CONNECT_ERRORS as error:
                raise server.error(error) from error
            if server.is_synchronous and not is_fsync:
                _log.warning("storage.server_without_fsync", place=server.place)
            _log.info("storage.opened", place=server.place, migrations=len(applied))

        committer = Committer(server, open_connection, settings, stats)
        await committer.start(prepare)
        # Opens its sessions when they are needed, and anew when they were lost.
        pool = asyncpg.create_pool(
            min_size=0, max_size=settings.readers, reset=_keep, **server.arguments(is_reader=True)
        )
        return cls(server, committer, await pool, stats)

    @property
    def health(self) -> StorageHealth:
        """Whether commits succeed."""
        return self._committer.health

    async def failed(self) -> StorageError:
        """Wait for the error after which nothing can be written any more; then the server ends."""
        return await asyncio.shield(self._committer.fatal)

    def commit(
        self, work: Callable[[Connection], Awaitable[_T]], *, rows: int = 1, size_bytes: int = 0
    ) -> asyncio.Future[_T]:
        """Run `work` in the next transaction.

        It runs inside a transaction that it neither commits nor rolls back, awaits nothing but the
        connection, and may run again after a failure, even one that came after its COMMIT: it must be
        idempotent, so put and delete by key. Works run in the order of the calls. Prefer `batch_writer` for
        whatever comes often.

        Args:
            work: its result, or the exception that it raises, is that of the future.
            rows: about how many rows it changes, for `commit_rows_maximum`.
            size_bytes: about how many bytes it writes, for `commit_bytes_maximum`.

        Returns:
            A future that is done when the change is durable. While the server fails it waits; cancelling
            it does not undo the commit.

        Raises:
            StorageError: the database is closed or failed for good. The future may end so too.
        """
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._committer.submit(Request(future, rows, size_bytes, work))
        return future

    def batch_writer(
        self, write: Callable[[Connection, Sequence[_T]], Awaitable[None]]
    ) -> "PostgresqlBatchWriter[_T]":
        """Return a writer whose items of one transaction are written together, by one call of `write`.

        `write` runs as a work does, after the works of `commit` of the same transaction. It gets the items in
        the order of the calls: so it can use one statement per table, and leave out what a later item undoes.
        If it raises, it is called again with one item at a time, and only the guilty one fails.
        """
        return PostgresqlBatchWriter(self._committer, write)

    async def read(self, query: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Run a query in a session of its own, all of it on one state of the database.

        Raises:
            StorageError: it could not be read, or the database is closed.
        """

        async def run(connection: Connection) -> _T:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                return await query(connection)

        return await self._read(run)

    async def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[asyncpg.Record]:
        """Return all rows of one SELECT: one way to the server and back, where `read` takes three and more.

        Raises:
            StorageError: it could not be read, or the database is closed.
        """
        return await self._read(lambda connection: connection.fetch(sql, *parameters))

    async def close(self) -> None:
        """Commit what waits, end the reads and all sessions; may be repeated.

        What a failing server does not take within 5 s fails with StorageClosedError.
        """
        if self._is_closed:
            return
        self._is_closed = True
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._pool.close()
        except CONNECT_ERRORS:
            self._pool.terminate()
        await self._committer.close(timeout_s=_CLOSE_TIMEOUT_S)

    async def _read(self, query: Callable[[Connection], Awaitable[_T]]) -> _T:
        if self._is_closed:
            raise StorageClosedError(f"{self._server.place}: the database is closed")
        try:
            lent = await self._pool.acquire(timeout=_ACQUIRE_TIMEOUT_S)
        except CONNECT_ERRORS as error:
            raise self._told(error) from error
        connection = cast(Connection, lent)  # It has all methods of one; only the types differ.
        try:
            result = await query(connection)
        except CONNECT_ERRORS as error:
            if is_environment(error, connection):
                raise self._told(error) from error
            raise  # The query is wrong.
        finally:
            with contextlib.suppress(*CONNECT_ERRORS):  # Then the pool has ended the session.
                await self._pool.release(lent, timeout=_RELEASE_TIMEOUT_S)
        self.stats.reads += 1
        return result

    def _told(self, error: Exception) -> StorageError:
        self.stats.reads_failed += 1
        told = self._server.error(error)
        if isinstance(told, DatabaseDamagedError):
            self._committer.fail(told)
        return told


class PostgresqlBatchWriter(Generic[_T]):
    """See `PostgresqlDatabase.batch_writer`."""

    def __init__(
        self, committer: Committer, write: Callable[[Connection, Sequence[_T]], Awaitable[None]]
    ) -> None:
        self._committer = committer
        self._write = write

    def commit(self, item: _T, *, rows: int = 1, size_bytes: int = 0) -> asyncio.Future[None]:
        """Write an item in the next transaction; all else as of the database's `commit`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._committer.submit(Request(future, rows, size_bytes, self._write, item, is_batch=True))
        return future


async def _keep(_connection: Connection) -> None:
    """Leave a session as it is when it returns to the pool: reads change none of its parameters."""
