"""The store's side of the runner: when to commit, pages to read, what expired to forget.

Knows: the pace of commits, who must be told.
Does not know: what changes mean, how they are stored, sockets.
Spec: design: persist, then acknowledge, then publish.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import takewhile
from typing import Final, TypeAlias

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


class _Outstanding(Struct):
    """A group of changes that the store has not taken yet; `task` ends when it has."""

    task: asyncio.Task[None]
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
        self._timer: asyncio.TimerHandle | None = None
        self._sweeping = spawn(self._sweep(), name="broker:sweep")

    def commit_when_due(self) -> None:
        """See to it that the changes there are will be committed: soon where somebody waits, else some time.

        Not before `interval_s` after the last one began: meanwhile receivers acknowledge, and what they have
        is never written (so a lone message does not wait, and under load a commit serves many). Where the
        disk takes nothing, what came since goes after it in time: it may drop what fills the disk.
        """
        journal = self._engine.state.journal
        if not journal:
            return
        due = self._next_commit_at
        if self._outstanding:
            due += _STUCK_S
        elif not journal.is_urgent:
            due += _LAZY_S
        timer = self._timer
        if due <= self._loop.time():
            self._commit()
        elif timer is None or due < timer.when():
            self._cancel_timer()
            self._timer = self._loop.call_at(due, self._commit)

    async def finish(self, *, timeout_s: float) -> None:
        """Commit what there is, and return when everything is durable or the time is over."""
        self._sweeping.cancel()
        try:
            async with asyncio.timeout(timeout_s):
                while self._outstanding or self._engine.state.journal:
                    if self._outstanding:
                        await asyncio.wait((self._outstanding[0].task,))
                    else:
                        self._commit()
        except TimeoutError:
            _log.warning("store.changes_left", reason="the store takes nothing; nobody was told that it did")
        self._cancel_timer()
        for outstanding in self._outstanding:
            outstanding.task.cancel()

    def read(self, effect: ReadPending) -> None:
        """Read a page for a Session."""
        self._spawn(self._read(effect), name="broker:page")

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
            waiting = asyncio.shield(self._outstanding[-1].task)  # Nobody goes before those.
        if waiting is None:
            self._committed(commit)
            return
        is_stuck = bool(self._outstanding)
        task = self._spawn(self._await_commit(waiting), name="broker:commit")
        self._outstanding.append(_Outstanding(task, changes, commit))
        if is_stuck:
            self._read_early()

    async def _await_commit(self, waiting: Awaitable[None]) -> None:
        await waiting
        self._committed(self._outstanding.popleft().commit)

    def _committed(self, commit: Commit) -> None:
        self._engine.committed(commit, self._now())
        self._settle()

    def _read_early(self) -> None:
        """Read for those who wait for a commit that may take hours: what they take makes room on the disk."""
        uncommitted = frozenset(row for each in self._outstanding for row in each.changes.put)
        for each in self._outstanding:
            for effect in self._engine.reads(each.commit):
                self._spawn(self._read(effect, uncommitted), name="broker:page")

    async def _sweep(self) -> None:
        """Forget what expired, until cancelled."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            try:
                swept = await self._store.sweep(self._now(), messages=_SWEPT_MESSAGES)
            except DatabaseDamagedError:
                raise
            except StorageError as error:
                _log.warning("store.sweep_failed", reason=str(error))
            else:
                self._engine.take_swept(swept)

    async def _read(self, effect: ReadPending, uncommitted: frozenset[int] | None = None) -> None:
        """Read until it works, or is not wanted any more.

        With `uncommitted` before a commit is done: what that changes is not as it will be, nothing is taken
        from there on; where that leaves nothing, the Session waits for the commit after all.
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
                    if uncommitted is not None:
                        page = _before(page, uncommitted)
                    if uncommitted is None or page.deliveries:
                        self._engine.take_page(effect, page, self._now())
                    self._settle()
                    return


def _before(page: Page, uncommitted: frozenset[int]) -> Page:
    """Return what comes before the first of the rows; more may follow."""
    certain = takewhile(lambda delivery: delivery.row not in uncommitted, page.deliveries)
    return Page(list(certain), is_last=False)


async def _failed(error: Exception) -> None:
    """Fail as a commit does that takes its time, so that both end the server in one way."""
    raise error
