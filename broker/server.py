"""The runner: performs the engine's effects, commits, writes at the end of each turn, keeps time.

Knows: the event loop, tasks, the store, the Authenticator, the order commit, acknowledge, write.
Does not know: what packets mean, how a listener is opened.
Spec: design: persist, then acknowledge, then publish.
"""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Final, assert_never

import structlog

from .access.ports import AccessRefusedError, Authenticator
from .access.principal import Principal
from .engine import (
    Authenticate,
    Close,
    Effect,
    Engine,
    PauseReading,
    Proceed,
    ResumeReading,
    ServedConnection,
)
from .protocol.errors import LocalUsageError
from .protocol.packets import ClientId
from .protocol.reason_codes import ReasonCode
from .session.records import Commit, Journal
from .settings import BrokerSettings
from .storage.ports import SessionStore
from .transport import ConnectionShell, ListenerAddress, listen

_log = structlog.get_logger("broker")

#: How often timers are looked at, in seconds; the wheel is no finer.
_TICK_S: Final = 0.25


class Server:
    """One engine on one event loop, its listeners and its store. Serves once."""

    def __init__(
        self, settings: BrokerSettings, *, authenticator: Authenticator, store: SessionStore | None
    ) -> None:
        self._settings = settings
        self._authenticator = authenticator
        self._store = store
        # Epoch seconds that never go back: stored times survive a restart, and no clock step harms.
        self._epoch = time.time() - time.monotonic()
        self.engine = Engine(
            settings.limits,
            journal=None if store is None else Journal(),
            new_client_id=_new_client_id,
            now=self.now(),
        )
        self._shells: set[ConnectionShell] = set()
        self._closing: deque[tuple[float, ConnectionShell]] = deque()
        self._is_flush_due = False
        self._is_committing = False
        self._stop = asyncio.Event()
        self._is_empty = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: asyncio.TaskGroup | None = None

    # The shells' host.

    def now(self) -> float:
        """Return seconds since the epoch on a clock that never goes back."""
        return time.monotonic() + self._epoch

    def admit(self, shell: ConnectionShell) -> bool:
        """Count a new connection; False where there are too many, or we are about to end."""
        if self._stop.is_set() or len(self._shells) >= self._settings.limits.connections_maximum:
            return False
        self._shells.add(shell)
        return True

    def dismiss(self, shell: ConnectionShell) -> None:
        """Forget a connection that is gone."""
        self._shells.discard(shell)
        if not self._shells:
            self._is_empty.set()

    def settle(self) -> None:
        """See to it that what the engine asks for is done at the end of this turn."""
        if not self._is_flush_due and self._loop is not None:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    # Its life.

    async def serve(self, *, started: Callable[[Sequence[ListenerAddress]], None]) -> None:
        """Listen until `stop`, then tell everybody, drain and return.

        Raises:
            TLSFilesError, OSError: a listener cannot be opened.
            StorageError: the store cannot be read, or a commit failed; nothing was acknowledged for it.
        """
        self._loop = asyncio.get_running_loop()
        if self._store is not None:
            self.engine.restore(await self._store.load(), self.now())
        listeners: list[asyncio.Server] = []
        try:
            async with asyncio.TaskGroup() as self._tasks:
                addresses = await self._listen(listeners)
                ticking = self._tasks.create_task(self._tick(), name="broker:timers")
                started(addresses)
                await self._stop.wait()
                await self._end(listeners)
                ticking.cancel()
        finally:
            for listener in listeners:
                listener.close()
            for shell in tuple(self._shells):
                shell.abort()

    def stop(self) -> None:
        """Let `serve` come to its end."""
        self._stop.set()

    async def _listen(self, listeners: list[asyncio.Server]) -> list[ListenerAddress]:
        addresses = []
        for index, settings in enumerate(self._settings.listeners, start=1):
            name = settings.name or f"{settings.scheme}-{index}"
            listener, address = await listen(settings, name=name, limits=self._settings.limits, host=self)
            listeners.append(listener)
            addresses.append(address)
        return addresses

    async def _end(self, listeners: list[asyncio.Server]) -> None:
        """Accept nobody more, tell everybody, and wait a bounded time until they have taken it."""
        for listener in listeners:
            listener.close()
        now = self.now()
        for shell in tuple(self._shells):
            shell.shut_down(now)
        self.settle()
        try:
            async with asyncio.timeout(self._settings.limits.drain_s):
                while self._shells:
                    self._is_empty.clear()
                    await self._is_empty.wait()
        except TimeoutError:
            _log.warning("broker.drain_incomplete", connections=len(self._shells))
        self._flush()

    async def _tick(self) -> None:
        """Look at the timers, and give up on peers that do not take their last bytes."""
        while True:
            await asyncio.sleep(_TICK_S)
            now = self.now()
            self.engine.handle_timer(now)
            closing = self._closing
            while closing and closing[0][0] <= now:
                closing.popleft()[1].abort()
            self.settle()

    # The end of a turn.

    def _flush(self) -> None:
        self._is_flush_due = False
        engine = self.engine
        state = engine.state
        if state.effects:
            for effect in engine.take_effects():
                self._perform(effect)
        if state.journal is not None and not self._is_committing:
            self._commit()
        if state.filled:
            for mailbox in state.filled:
                mailbox.wake()
            state.filled.clear()
        dirty = state.dirty
        for connection in dirty:
            if connection.outgoing and isinstance(connection, ServedConnection):
                data = connection.data_to_send()
                if isinstance(connection.shell, ConnectionShell):
                    connection.shell.write(data)
        dirty.clear()
        if state.effects:
            self.settle()

    def _commit(self) -> None:
        """Hand one group of changes to the store; the next group waits until this one is durable."""
        group = self.engine.take_operations()
        if group is None or self._store is None:
            return
        operations, commit = group
        waiting = self._store.commit(operations)
        if waiting is None:
            self.engine.committed(commit, self.now())
            return
        self._is_committing = True
        self._spawn(self._await_commit(waiting, commit), name="broker:commit")

    async def _await_commit(self, waiting: Awaitable[None], commit: Commit) -> None:
        await waiting
        self._is_committing = False
        self.engine.committed(commit, self.now())
        self.settle()

    def _perform(self, effect: Effect) -> None:
        shell = effect.connection.shell
        if isinstance(effect, Authenticate):
            self._spawn(self._authenticate(effect), name="broker:authenticate")
        elif not isinstance(shell, ConnectionShell):
            return  # The connection was lost meanwhile; there is nothing to do it to.
        elif isinstance(effect, Close):
            shell.close(effect.connection.data_to_send())
            self._closing.append((self.now() + self._settings.limits.drain_s, shell))
            _log.debug(
                "connection.closed",
                client_id=effect.connection.client_id,
                listener=effect.connection.listener,
                reason_code=effect.reason_code.name,
                detail=effect.detail,
            )
        elif isinstance(effect, PauseReading):
            shell.pause_reading()
        elif isinstance(effect, ResumeReading):
            shell.resume_reading()
            self._proceed(effect.connection)
        elif isinstance(effect, Proceed):
            self._proceed_next_turn(effect.connection)
        else:
            assert_never(effect)

    def _proceed_next_turn(self, connection: ServedConnection) -> None:
        if self._loop is not None:
            self._loop.call_soon(self._proceed, connection)

    def _proceed(self, connection: ServedConnection) -> None:
        self.engine.proceed(connection, self.now())
        self.settle()

    # The Authenticator.

    async def _authenticate(self, effect: Authenticate) -> None:
        answer = await self._ask(effect)
        self.engine.authenticated(effect.connection, answer, self.now())
        self.settle()

    async def _ask(self, effect: Authenticate) -> Principal | AccessRefusedError:
        """Return the Authenticator's answer; whatever goes wrong is a refusal."""
        try:
            async with asyncio.timeout(self._settings.limits.authentication_timeout_s):
                return await self._authenticator.authenticate(effect.request)
        except AccessRefusedError as error:
            return error
        except TimeoutError:
            return AccessRefusedError(
                ReasonCode.SERVER_UNAVAILABLE, "no answer from the authenticator in time"
            )
        except Exception:  # noqa: BLE001  (the per-hook boundary: whatever a hook raises is a refusal)
            _log.exception("authenticator.failed")
            return AccessRefusedError(ReasonCode.SERVER_UNAVAILABLE, "the authenticator failed")

    def _spawn(self, coroutine: Coroutine[None, None, None], *, name: str) -> None:
        if self._tasks is None:
            raise LocalUsageError("the server is not serving")
        self._tasks.create_task(coroutine, name=name)


def _new_client_id() -> ClientId:
    """Return an id that nobody can guess, so that nobody can take the Session over."""
    return ClientId("auto-" + secrets.token_hex(12))
