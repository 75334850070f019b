"""The group committer: one thread, one connection, one transaction for everything that waits.

Knows: what a batch is, what is repeated, who is told when.
Does not know: SQL of anybody, tables.
Spec: none.

Requests queue up while a commit runs; the next commit takes them all, within bounds. A future is resolved on
the event loop after COMMIT has returned. While the disk fails, the batch is kept and repeated, together with
what has come in since (it may hold the deletions that make room), and nobody is told anything.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import structlog
from msgspec import Struct

from .errors import StorageClosedError, StorageError, is_damage, is_transient, reason, storage_error
from .housekeeping import Housekeeping
from .settings import StorageSettings
from .stats import StorageHealth, StorageStats

_log = structlog.get_logger("storage")

_RETRY_FIRST_S: Final = 0.1
_RETRY_LAST_S: Final = 5.0


class Request(Struct, eq=False, gc=False):
    """One work or item, and who waits for it."""

    future: asyncio.Future[Any]
    rows: int
    size_bytes: int
    #: Called with the connection; where it is a batch work, with all items of the batch, too.
    work: Callable[..., Any]
    item: Any = None
    is_batch: bool = False


class Outcome(Struct, gc=False):
    """What to tell one who waits."""

    request: Request
    value: Any = None
    error: BaseException | None = None


class Committer:
    """Owns the writing connection. `start`, `submit` and `close` are called on the event loop."""

    def __init__(
        self,
        path: Path,
        open_connection: Callable[[], sqlite3.Connection],
        settings: StorageSettings,
        stats: StorageStats,
    ) -> None:
        self.health = StorageHealth()
        self._path = path
        self._open_connection = open_connection
        self._settings = settings
        self._stats = stats
        self._loop = asyncio.get_running_loop()
        #: Resolved with the error after which nothing is written any more.
        self.fatal: Final[asyncio.Future[StorageError]] = self._loop.create_future()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._queue: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"storage:{path.name}", daemon=True)
        self._is_closed = threading.Event()
        self._giving_up_at = float("inf")
        # Of the thread alone.
        self._connection: sqlite3.Connection
        self._housekeeping: Housekeeping
        self._batch: list[Request] = []
        self._left_over: Request | None = None
        self._is_ending = False

    async def start(self) -> None:
        """Open the connection, on the thread that will use it.

        Raises:
            StorageError: it cannot be opened, or what `open_connection` raises.
        """
        self._thread.start()
        try:
            await asyncio.shield(self._opened)
        except asyncio.CancelledError:
            self._queue.put(None)
            raise

    def submit(self, request: Request) -> None:
        """Take a request.

        Raises:
            StorageError: the database is closed, or failed for good.
        """
        if self.fatal.done():
            raise self.fatal.result()
        if self._is_closed.is_set():
            raise StorageClosedError(f"{self._path}: the database is closed")
        self._stats.works_waiting += 1
        self._stats.bytes_waiting += request.size_bytes
        self._queue.put(request)

    def fail(self, error: StorageError) -> None:
        """Take nothing more: the content cannot be trusted."""
        if not self.fatal.done():
            _log.critical("storage.failed", path=str(self._path), reason=str(error))
            self.health = StorageHealth(self.health.failing_since or time.time(), str(error))
            self.fatal.set_result(error)

    async def close(self, *, timeout_s: float) -> None:
        """Commit what waits, then close; what the disk does not take in time ends in StorageClosedError."""
        if not self._is_closed.is_set():
            self._giving_up_at = time.monotonic() + timeout_s
            self._is_closed.set()
            self._queue.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()

    # ------------------------------------------------------------------------------------------ on the thread

    def _run(self) -> None:
        try:
            self._connection = self._open_connection()
        except BaseException as error:  # noqa: BLE001  (told to who opens)
            self._call(self._opened.set_exception, storage_error(self._path, error))
            self._call(self._ended.set_result, None)
            return
        self._housekeeping = Housekeeping(self._connection, self._path, self._stats)
        self._call(self._opened.set_result, None)
        try:
            self._serve()
        except Exception as error:  # noqa: BLE001  (nobody may wait for ever)
            self._call(self._lose, storage_error(self._path, error))
        finally:
            self._close_connection()
            self._call(self._ended.set_result, None)

    def _serve(self) -> None:
        while batch := self._wait():
            self._call(self._tell, self._until_durable(batch))

    def _wait(self) -> list[Request]:
        """Return the next batch; empty at the end. Keeps house while nothing waits."""
        while not (
            batch := self._take(self._settings.commit_rows_maximum, self._settings.commit_bytes_maximum)
        ):
            if self._is_ending:
                break
            try:
                self._left_over = self._queue.get(timeout=self._housekeeping.pause_s)
                self._is_ending = self._left_over is None
            except queue.Empty:
                self._keep_house()
        return batch

    def _take(self, rows_maximum: float, bytes_maximum: float) -> list[Request]:
        """Return what waits, within bounds; at least one request if any waits."""
        batch: list[Request] = []
        self._batch = batch
        rows = size_bytes = 0
        while (request := self._next()) is not None:
            rows += request.rows
            size_bytes += request.size_bytes
            if batch and (rows > rows_maximum or size_bytes > bytes_maximum):
                self._left_over = request
                break
            batch.append(request)
        return batch

    def _next(self) -> Request | None:
        """Return what waits; None if nothing does."""
        request, self._left_over = self._left_over, None
        while request is None and not self._queue.empty():
            request = self._queue.get_nowait()
            self._is_ending = self._is_ending or request is None
        return request

    def _until_durable(self, batch: list[Request]) -> list[Outcome]:
        """Commit the batch, however often that takes.

        Raises:
            StorageClosedError: the disk fails, and the end does not wait any longer.
            sqlite3.Error: the content is broken.
        """
        pause_s = _RETRY_FIRST_S
        while True:
            began = time.monotonic()
            try:
                outcomes = self._attempt(batch)
            except (sqlite3.Error, MemoryError) as error:
                if not is_transient(error):
                    raise
                self._failing(error)
            else:
                self._succeeded(len(batch), time.monotonic() - began)
                return outcomes
            if time.monotonic() >= self._giving_up_at:
                raise StorageClosedError(f"{self._path}: closed before it was stored: {self.health.reason}")
            if self._is_closed.wait(pause_s):
                time.sleep(_RETRY_FIRST_S)  # There is little time left.
            pause_s = min(2 * pause_s, _RETRY_LAST_S)
            while (request := self._next()) is not None:
                batch.append(request)

    def _attempt(self, batch: list[Request]) -> list[Outcome]:
        """Commit the batch once; where a work is at fault, the others are committed and it is told.

        Raises:
            sqlite3.Error, MemoryError: the disk fails or the content is broken; nothing was committed.
        """
        try:
            return self._transaction(batch, self._together)
        except Exception as error:  # The boundary of the works.
            if is_transient(error) or is_damage(error):
                raise
        return self._transaction(batch, self._one_by_one)

    def _transaction(
        self, batch: list[Request], run: Callable[[list[Request]], list[Outcome]]
    ) -> list[Outcome]:
        connection = self._connection
        if connection.in_transaction:  # On a failing disk even a ROLLBACK may have failed.
            connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        try:
            outcomes = run(batch)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            raise
        return outcomes

    def _together(self, batch: list[Request]) -> list[Outcome]:
        """Run each work, then each batch work once with all its items."""
        groups: dict[Any, list[Any]] = {}
        outcomes = []
        for request in batch:
            if request.is_batch:
                groups.setdefault(request.work, []).append(request.item)
                outcomes.append(Outcome(request))
            else:
                outcomes.append(Outcome(request, request.work(self._connection)))
        for work, items in groups.items():
            work(self._connection, items)
        return outcomes

    def _one_by_one(self, batch: list[Request]) -> list[Outcome]:
        """Run each work so that its failure undoes it alone."""
        connection = self._connection
        outcomes = []
        for request in batch:
            connection.execute("SAVEPOINT work")
            try:
                arguments = (connection, [request.item]) if request.is_batch else (connection,)
                outcomes.append(Outcome(request, request.work(*arguments)))
            except Exception as error:
                if is_transient(error) or is_damage(error):
                    raise
                connection.execute("ROLLBACK TO work")
                self._stats.works_refused += 1
                outcomes.append(Outcome(request, error=error))
            connection.execute("RELEASE work")
        return outcomes

    def _succeeded(self, works: int, seconds: float) -> None:
        stats = self._stats
        stats.commits += 1
        stats.works += works
        stats.commit_seconds += seconds
        stats.commit_seconds_maximum = max(stats.commit_seconds_maximum, seconds)
        self._housekeeping.committed()
        if self.health.failing_since is not None:
            _log.info(
                "storage.recovered",
                path=str(self._path),
                seconds=round(time.time() - self.health.failing_since),
            )
            self.health = StorageHealth()

    def _failing(self, error: BaseException) -> None:
        self._stats.retries += 1
        text = reason(error)
        if self.health.failing_since is None:
            self._stats.failures += 1
            self.health = StorageHealth(time.time(), text)
            _log.error("storage.failing", path=str(self._path), reason=text)
        elif text != self.health.reason:
            self.health = StorageHealth(self.health.failing_since, text)

    def _keep_house(self) -> None:
        """What fails here in passing fails at the next commit too, which tells."""
        try:
            self._housekeeping.run()
        except (sqlite3.Error, OSError) as error:
            if is_damage(error):
                raise

    def _close_connection(self) -> None:
        for step in (self._housekeeping.finish, self._connection.close):
            with contextlib.suppress(sqlite3.Error):
                step()

    def _call(self, callback: Callable[..., Any], *arguments: Any) -> None:  # noqa: ANN401
        """Call on the event loop, unless it has ended."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *arguments)

    # ------------------------------------------------------------------------------------------ on the loop

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

    def _lose(self, error: StorageError) -> None:
        """The thread writes no more: everybody who waits is told, and everybody who comes."""
        lost = self._batch
        while (request := self._next()) is not None:
            lost.append(request)
        if not isinstance(error, StorageClosedError):
            self.fail(error)
        self._tell([Outcome(request, error=error) for request in lost])
