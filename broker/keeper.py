"""The store's side of the runner: when to commit, pages to read, what expired to forget.

Knows: the pace of commits, who must be told.
Does not know: what changes mean, how they are stored, sockets.
Spec: design: persist, then acknowledge, then publish.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeAlias

import structlog
from msgspec import Struct

from storage import DatabaseDamagedError, StorageError

from .engine import Engine, ReadPending
from .session.journal import Commit
from .session.pending import PAGE_BYTES, PAGE_MESSAGES
from .session.records import Changes
from .storage.ports import Page, SessionStore

_log = structlog.get_logger("broker")

#: Changes that nobody waits for are committed after so many seconds at the latest.
_LAZY_S: Final = 0.05
#: A commit that takes so long is not waited for any more before the next: the disk may be full.
_STUCK_S: Final = 1.0
#: Pause between looks for what expired, and how much one look may forget.
_SWEEP_S: Final = 0.5
_SWEPT_MESSAGES: Final = 2_000
#: Pages that are read at one time, and the pause after one that could not be read.
_READERS: Final = 8
_RETRY_S: Final = 1.0

_Spawn: TypeAlias = Callable[..., asyncio.Task[None]]


class _Outstanding(Struct, eq=False):
    """A group of changes that the store has not taken yet."""

    changes: Changes
    commit: Commit


class Keeper:
    """Brings the engine's changes to the store, and what waits there back.

    `settle` is called whenever the engine has something new to be done.
    """

    def __init__(
        self,
        engine: Engine,
        store: SessionStore,
        *,
        interval_s: float,
        spawn: _Spawn,
        now: Callable[[], float],
        settle: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._store = store
        self._interval_s = interval_s
        self._spawn = spawn
        self._now = now
        self._settle = settle
        self._loop = asyncio.get_running_loop()
        self._readers = asyncio.Semaphore(_READERS)
        #: On their way to the store: more than one only where the disk takes nothing.
        self._outstanding: deque[_Outstanding] = deque()
        self._next_commit_at = 0.0
        self._timer: asyncio.Handle | None = None
        #: When the timer is due. It need not know: uvloop's has no `when` if that is less than a tick away.
        self._timer_due = 0.0
        self._is_ended = False
        #: Commits and reads on their way.
        self._tasks: set[asyncio.Task[None]] = set()
        self._has_moved = asyncio.Event()
        self._sweeping = spawn(self._sweep(), name="broker:sweep")

    def commit_when_due(self) -> None:
        """See to it that the changes there are will be committed: soon where somebody waits, else some time.

        Not before `interval_s` after the last one began: meanwhile receivers acknowledge, and what they have
        is never written (so a lone message does not wait, and under load a commit serves many). Where the
        disk takes nothing, what came since goes after it in time: it may drop what fills the disk.
        """
        journal = self._engine.state.journal
        if not journal or self._is_ended:
            return
        due = self._next_commit_at
        if self._outstanding:
            due += _STUCK_S
        elif not journal.is_urgent:
            due += _LAZY_S
        if due <= self._loop.time():
            self._commit()
        elif self._timer is None or due < self._timer_due:
            self._cancel_timer()
            self._timer = self._loop.call_at(due, self._commit)
            self._timer_due = due

    async def finish(self, *, timeout_s: float) -> None:
        """Commit what there is, and return when everything is durable or the time is over."""
        self._sweeping.cancel()
        try:
            async with asyncio.timeout(timeout_s):
                while self._outstanding or self._engine.state.journal:
                    if self._outstanding:
                        self._has_moved.clear()
                        await self._has_moved.wait()
                    else:
                        self._commit()
        except TimeoutError:
            _log.warning("store.changes_left", reason="the store takes nothing; nobody was told that it did")
        self._is_ended = True
        self._cancel_timer()
        for task in self._tasks:
            task.cancel()

    def read(self, effect: ReadPending) -> None:
        """Read a page for a Session."""
        self._start(self._read(effect, is_early=False), name="broker:page")

    def _start(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> None:
        task = self._spawn(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _commit(self) -> None:
        """Hand one group of changes to the store."""
        self._cancel_timer()
        group = self._engine.take_changes(self._now())
        if group is None:
            return
        changes, commit = group
        self._next_commit_at = self._loop.time() + self._interval_s
        waiting: Awaitable[None] | None = None
        try:
            if changes:
                waiting = self._store.commit(changes)
        except Exception as error:  # noqa: BLE001  (whatever it was, nobody may go on as if it were stored)
            waiting = _failed(error)
        if waiting is None and self._outstanding:
            waiting = self._store.commit(Changes())  # Nothing to store; but nobody goes before those.
        if waiting is None:
            self._committed(commit)
            return
        is_stuck = bool(self._outstanding)
        outstanding = _Outstanding(changes, commit)
        self._outstanding.append(outstanding)
        self._start(self._await_commit(waiting, outstanding), name="broker:commit")
        if is_stuck:
            self._read_early()

    async def _await_commit(self, waiting: Awaitable[None], outstanding: _Outstanding) -> None:
        await waiting
        self._outstanding.remove(outstanding)
        self._has_moved.set()
        self._committed(outstanding.commit)

    def _committed(self, commit: Commit) -> None:
        self._engine.committed(commit, self._now())
        self._settle()

    def _read_early(self) -> None:
        """Read for those who wait for a commit that may take hours: what they take makes room on the disk."""
        for each in self._outstanding:
            for effect in self._engine.reads(each.commit):
                self._start(self._read(effect, is_early=True), name="broker:page")

    def _certain(self, page: Page) -> Page:
        """Return what of a page is as it will be after the commits on their way; more may follow."""
        journal = self._engine.state.journal
        groups = [each.changes for each in self._outstanding]
        if journal is not None:
            groups.append(journal.changes)
        gone = {row for changes in groups for row in (*changes.dropped, *changes.moved)}
        certain = []
        for delivery in page.deliveries:
            if any(delivery.row in changes.put for changes in groups):
                break
            if delivery.row not in gone:
                certain.append(delivery)
        return Page(certain, is_last=False)

    async def _sweep(self) -> None:
        """Forget what expired, until cancelled."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            if self._outstanding:
                continue  # The disk has enough to do, or takes nothing.
            try:
                swept = await self._store.sweep(self._now(), messages=_SWEPT_MESSAGES)
            except DatabaseDamagedError:
                raise
            except StorageError as error:
                _log.warning("store.sweep_failed", reason=str(error))
            else:
                self._engine.take_swept(swept)

    async def _read(self, effect: ReadPending, *, is_early: bool) -> None:
        """Read until it works, or is not wanted any more.

        `is_early`: before the commit that it should see; where nothing is certain, the Session waits for that
        after all.
        """
        async with self._readers:
            while effect.session.page is effect.asked:
                try:
                    page = await self._store.read_pending(
                        effect.session.number,
                        after=effect.after,
                        messages=PAGE_MESSAGES,
                        size_bytes=PAGE_BYTES,
                    )
                except DatabaseDamagedError:
                    raise
                except StorageError as error:
                    _log.warning("store.read_failed", reason=str(error))
                    await asyncio.sleep(_RETRY_S)
                else:
                    if is_early:
                        page = self._certain(page)
                    if page.deliveries or not is_early:
                        self._engine.take_page(effect, page, self._now())
                    self._settle()
                    return


async def _failed(error: Exception) -> None:
    """Fail as a commit does that takes its time, so that both end the server in one way."""
    raise error
