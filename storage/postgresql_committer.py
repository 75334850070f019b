"""The group committer for PostgreSQL: one session, one transaction for everything that waits.

Knows: when a batch is taken and repeated, who is told when.
Does not know: SQL of anybody, tables.
Spec: none.

Requests queue up while a commit runs; the next commit takes them all, within bounds. A future is resolved
after COMMIT has succeeded. While the server fails, or cannot be reached, the batch is kept and repeated on a
new session, and nobody is told anything. A COMMIT without an answer may have succeeded; its batch is repeated
all the same, which is harmless because works are idempotent: they put and delete by key.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from .errors import DatabaseDamagedError, DatabaseInUseError, StorageClosedError, StorageError
from .postgresql_batch import Outcome, Request, commit_batch
from .postgresql_connection import CONNECT_ERRORS, Connection, Server, is_conflict
from .settings import StorageSettings
from .stats import StorageHealth, StorageStats

_log = structlog.get_logger("storage")

_RETRY_FIRST_S: Final = 0.1
_RETRY_LAST_S: Final = 5.0
_END_TIMEOUT_S: Final = 1.0


class Committer:
    """Owns the session that writes."""

    def __init__(
        self,
        server: Server,
        open_connection: Callable[[], Awaitable[Connection]],
        settings: StorageSettings,
        stats: StorageStats,
    ) -> None:
        self._server = server
        self._open_connection = open_connection
        self._settings = settings
        self._stats = stats
        self._waiting: deque[Request] = deque()
        self._batch: list[Request] = []
        self._is_closed = False
        self._woken = asyncio.Event()
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        #: Resolved with the error after which nothing is written any more.
        self.fatal: Final[asyncio.Future[StorageError]] = asyncio.get_running_loop().create_future()
        self.health = StorageHealth()

    async def start(self, prepare: Callable[[Connection], Awaitable[None]]) -> None:
        """Open the session, run `prepare` on it, and serve.

        Raises:
            StorageError: it cannot be opened, or what `prepare` raises.
        """
        connection = await self._connect()
        try:
            await prepare(connection)
        except BaseException:
            connection.terminate()
            raise
        # No task group: this task lives from `open` to `close`, like the thread of the committer for SQLite.
        self._task = asyncio.get_running_loop().create_task(self._serve(), name="storage:committer")

    def submit(self, request: Request) -> None:
        """Take a request.

        Raises:
            StorageError: the database is closed or failed for good.
        """
        if self.fatal.done():
            raise self.fatal.result()
        if self._is_closed:
            raise StorageClosedError(f"{self._server.place}: the database is closed")
        self._stats.works_waiting += 1
        self._stats.bytes_waiting += request.size_bytes
        self._waiting.append(request)
        self._woken.set()

    def fail(self, error: StorageError) -> None:
        """Nothing is written any more: everybody who waits is told, and everybody who comes."""
        if not self.fatal.done():
            _log.critical("storage.failed", place=self._server.place, reason=str(error))
            self.health = StorageHealth(self.health.failing_since or time.time(), str(error))
            self.fatal.set_result(error)
        if self._task is not None:
            self._task.cancel()

    async def close(self, *, timeout_s: float) -> None:
        """Commit what waits, then end; what is not taken in time fails with StorageClosedError."""
        self._is_closed = True
        self._woken.set()
        if self._task is not None:
            _, unfinished = await asyncio.wait((self._task,), timeout=timeout_s)
            for task in unfinished:
                task.cancel()
                await asyncio.wait((task,))

    # ------------------------------------------------------------------------------------------ in the task

    async def _serve(self) -> None:
        try:
            while await self._take():
                await self._until_durable()
            if self._connection is not None:
                with contextlib.suppress(*CONNECT_ERRORS):  # Everything is committed already.
                    await self._connection.close(timeout=_END_TIMEOUT_S)
        except StorageError as error:
            self.fail(error)
        except Exception as error:  # noqa: BLE001  (a defect of ours must not leave anybody waiting)
            _log.critical("storage.defect", exc_info=True)
            self.fail(StorageError(f"{self._server.place}: the committer ended: {error!r}"))
        finally:
            self._lose()

    async def _take(self) -> bool:
        """Wait for the next batch (empty where only the session must be renewed); False at the end."""
        self._batch = []
        while not self._waiting:
            if self._is_closed:
                return False
            if self._connection is None or self._connection.is_closed():
                return True
            self._woken.clear()
            await self._woken.wait()
        rows = size_bytes = 0
        while self._waiting:
            rows += self._waiting[0].rows
            size_bytes += self._waiting[0].size_bytes
            is_full = (
                rows > self._settings.commit_rows_maximum or size_bytes > self._settings.commit_bytes_maximum
            )
            if self._batch and is_full:
                break
            self._batch.append(self._waiting.popleft())
        return True

    async def _until_durable(self) -> None:
        """Commit the batch, however often that takes.

        Raises:
            DatabaseInUseError: another server took over.
            DatabaseDamagedError: the content is broken.
        """
        pause_s = 0.0  # A server that was only started anew is back at once.
        while True:
            began = time.monotonic()
            try:
                connection = self._connection
                if connection is None or connection.is_closed():
                    connection = await self._connect()
                outcomes = await commit_batch(connection, self._batch) if self._batch else []
            except Exception as error:  # noqa: BLE001  (server and network; `commit_batch` lets no others out)
                self._stats.retries += 1
                if is_conflict(error):
                    continue
                self._failing(self._server.error(error))
            else:
                self._succeeded(outcomes, time.monotonic() - began)
                return
            await asyncio.sleep(pause_s)
            pause_s = min(max(2 * pause_s, _RETRY_FIRST_S), _RETRY_LAST_S)

    async def _connect(self) -> Connection:
        connection = await self._open_connection()
        # A session that ends while nothing is written is renewed at once: the lock goes with it.
        connection.add_termination_listener(lambda _: self._woken.set())
        self._connection = connection
        return connection

    # ---------------------------------------------------------------------------------------------- telling

    def _succeeded(self, outcomes: list[Outcome], seconds: float) -> None:
        stats = self._stats
        if outcomes:
            stats.commits += 1
            stats.works += len(outcomes)
            stats.works_refused += sum(outcome.error is not None for outcome in outcomes)
            stats.rows += sum(outcome.request.rows for outcome in outcomes)
            stats.commit_seconds += seconds
            stats.commit_seconds_maximum = max(stats.commit_seconds_maximum, seconds)
        if self.health.failing_since is not None:
            lasted = round(time.time() - self.health.failing_since)
            _log.info("storage.recovered", place=self._server.place, seconds=lasted)
            self.health = StorageHealth()
        self._tell(outcomes)

    def _failing(self, error: StorageError) -> None:
        if isinstance(error, DatabaseInUseError | DatabaseDamagedError):
            raise error
        text = str(error)
        if self.health.failing_since is None:
            self._stats.failures += 1
            self.health = StorageHealth(time.time(), text)
            _log.error("storage.failing", reason=text)
        elif text != self.health.reason:
            self.health = StorageHealth(self.health.failing_since, text)

    def _tell(self, outcomes: Sequence[Outcome]) -> None:
        stats = self._stats
        for outcome in outcomes:
            request = outcome.request
            stats.works_waiting -= 1
            stats.bytes_waiting -= request.size_bytes
            if request.future.done():  # Who waited was cancelled.
                continue
            if outcome.error is None:
                request.future.set_result(outcome.value)
            else:
                request.future.set_exception(outcome.error)

    def _lose(self) -> None:
        """At the end: tell everybody who still waits."""
        if self._connection is not None:
            self._connection.terminate()
        if self.fatal.done():
            error = self.fatal.result()
        else:
            error = StorageClosedError(
                f"{self._server.place}: closed before it was stored: {self.health.reason}"
            )
        lost = (*self._batch, *self._waiting)
        self._batch = []
        self._waiting.clear()
        self._tell([Outcome(request, error=error) for request in lost])
