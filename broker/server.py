"""The runner: performs the engine's effects, commits, writes at the end of each turn, keeps time.

Knows: the event loop, tasks, the store, the Authenticator, the order commit, acknowledge, write.
Does not know: what packets mean, how a listener is opened.
Spec: design: persist, then acknowledge, then publish.
"""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Final, TypeVar, assert_never

import structlog

from .access.asking import AskingPermissions, Question
from .access.ports import AccessRefusedError, Authenticator, ConnectRequest, EnhancedAuthenticator
from .access.principal import Principal
from .engine import (
    AskMethod,
    Authenticate,
    Authorize,
    Census,
    Close,
    Effect,
    Engine,
    PauseReading,
    Proceed,
    ReadPending,
    ResumeReading,
    ServedConnection,
)
from .keeper import Keeper
from .protocol.errors import LocalUsageError
from .protocol.packets import ClientId
from .protocol.reason_codes import ReasonCode
from .session.journal import Journal
from .settings import BrokerSettings
from .storage.ports import SessionStore
from .transport import (
    Admission,
    ConnectionShell,
    Listener,
    ListenerAddress,
    listen,
    watch_certificates,
)

_T = TypeVar("_T")

_log = structlog.get_logger("broker")

#: How often timers are looked at, in seconds; the wheel is no finer.
_TICK_S: Final = 0.25
#: Clients whom a change of rules concerns are asked about so many at a time.
_ASKED_PER_TURN: Final = 100
#: How long a peer that was told why may take to close by itself, in seconds.
_LINGER_S: Final = 1.0


class Server:
    """One engine on one event loop, its listeners and its store. Serves once."""

    def __init__(
        self,
        settings: BrokerSettings,
        *,
        authenticator: Authenticator,
        store: SessionStore | None,
        methods: Iterable[EnhancedAuthenticator] = (),
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
            methods=methods,
            reason_strings=settings.reason_strings,
            stores_every_will=settings.wills_outlive_crashes,
        )
        self._keeper: Keeper | None = None
        self.admission = Admission(settings.limits, self.engine.stats, now=self.now())
        self._listeners: list[Listener] = []
        self._asking_again: asyncio.Task[None] | None = None
        #: Questions to hooks; the server does not wait for their answers when it ends.
        self._asking: set[asyncio.Task[None]] = set()
        self._shells: set[ConnectionShell] = set()
        self._lingering: deque[tuple[float, ConnectionShell]] = deque()
        self._closing: deque[tuple[float, ConnectionShell]] = deque()
        self._is_flush_due = False
        self._stop = asyncio.Event()
        self._is_empty = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: asyncio.TaskGroup | None = None

    # The shells' host.

    def now(self) -> float:
        """Return seconds since the epoch on a clock that never goes back."""
        return time.monotonic() + self._epoch

    def admit(self, shell: ConnectionShell) -> bool:
        """Keep a new connection; False where we are about to end."""
        if self._stop.is_set():
            return False
        self._shells.add(shell)
        return True

    def dismiss(self, shell: ConnectionShell) -> None:
        """Forget a connection that is gone."""
        self._shells.discard(shell)
        if not self._shells:
            self._is_empty.set()

    def linger(self, shell: ConnectionShell) -> None:
        """Close a connection in `_LINGER_S`, unless its peer does: it was told the last thing."""
        self._lingering.append((self.now() + _LINGER_S, shell))

    def settle(self) -> None:
        """See to it that what the engine asks for is done at the end of this turn."""
        if not self._is_flush_due and self._loop is not None:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def spawn(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Start a task that ends with the server."""
        if self._tasks is None:
            raise LocalUsageError("the server is not serving")
        return self._tasks.create_task(coroutine, name=name)

    async def census(self) -> Census:
        """Count what there is at the moment, in slices between which others have their turn."""
        census = Census(connections=len(self._shells))
        for _ in self.engine.take_census(census):
            await asyncio.sleep(0)
        return census

    # Its life.

    async def serve(self, *, started: Callable[[Sequence[ListenerAddress]], None]) -> None:
        """Listen until `stop`, then tell everybody, drain and return.

        Raises:
            TLSFilesError, OSError: a listener cannot be opened.
            StorageError: the store cannot be read, or a commit failed; nothing was acknowledged for it.
        """
        self._loop = asyncio.get_running_loop()
        snapshot = None if self._store is None else await self._store.load()
        if snapshot is not None:
            # What was stored has happened already, whatever the machine's clock says now.
            self._epoch += max(0.0, snapshot.at - self.now())
            self.engine.restore(snapshot, self.now())
            del snapshot
        listeners = self._listeners
        try:
            async with asyncio.TaskGroup() as self._tasks:
                if self._store is not None:
                    self._keeper = self._new_keeper(self._store)
                await self._listen()
                ticking = self.spawn(self._tick(), name="broker:timers")
                watching = self.spawn(
                    watch_certificates(listeners, self._settings.certificate_check_s),
                    name="broker:certificates",
                )
                started([listener.address for listener in listeners])
                await self._stop.wait()
                await self._end()
                ticking.cancel()
                watching.cancel()
                if self._asking_again is not None:
                    self._asking_again.cancel()
                for asking in self._asking:
                    asking.cancel()
        finally:
            for listener in listeners:
                listener.close()
            for shell in tuple(self._shells):
                shell.abort()

    def stop(self) -> None:
        """Let `serve` come to its end."""
        self._stop.set()

    def reload_certificates(self) -> None:
        """Use the listeners' certificate files as they are now, for handshakes from now on.

        A listener whose files cannot be used keeps what it has; the log names the file.
        """
        for listener in self._listeners:
            listener.refresh_tls(is_forced=True)

    def authenticate_again(self) -> None:
        """Ask the Authenticator about every connected Client again, in the background.

        Who is refused, or has become somebody else, is closed with 0x87; the others go on with their
        new permissions. Clients of enhanced authentication cannot be asked again, and keep theirs.
        """
        if self._asking_again is not None:
            self._asking_again.cancel()
        self._asking_again = self.spawn(self._ask_again(), name="broker:authenticate-again")

    async def _ask_again(self) -> None:
        for number, shell in enumerate(tuple(self._shells), start=1):
            connection = shell.connection
            if connection is not None and connection.request is not None:
                answer = await self._identify(connection.request)
                self.engine.authenticated_again(connection, answer, self.now())
                self.settle()
            if number % _ASKED_PER_TURN == 0:
                await asyncio.sleep(0)

    async def _listen(self) -> None:
        for index, settings in enumerate(self._settings.listeners, start=1):
            name = settings.name or f"{settings.scheme}-{index}"
            limits = self._settings.limits
            self._listeners.append(await listen(settings, name=name, limits=limits, host=self))

    async def _end(self) -> None:
        """Accept nobody more, tell everybody, and wait a bounded time until they have taken it."""
        for listener in self._listeners:
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
        if self._keeper is not None:
            await self._keeper.finish(timeout_s=self._settings.limits.drain_s)

    async def _tick(self) -> None:
        """Look at the timers, and give up on peers that do not take their last bytes."""
        while True:
            await asyncio.sleep(_TICK_S)
            now = self.now()
            self.engine.handle_timer(now)
            lingering, closing = self._lingering, self._closing
            while lingering and lingering[0][0] <= now:
                lingering.popleft()[1].close()
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
        if self._keeper is not None:
            engine.release()
            self._keeper.commit_when_due()
        if state.filled:
            for mailbox in state.filled:
                mailbox.wake()
            state.filled.clear()
        dirty = state.dirty
        sent = 0
        for connection in dirty:
            if connection.outgoing and isinstance(connection, ServedConnection):
                data = connection.data_to_send()
                sent += len(data)
                if connection.tap is not None:
                    connection.tap.sent(data, connection.version)
                if isinstance(connection.shell, ConnectionShell):
                    connection.shell.write(data)
        dirty.clear()
        state.stats.bytes_sent += sent
        if state.effects:
            self.settle()

    def _perform(self, effect: Effect) -> None:
        if isinstance(effect, ReadPending):
            if self._keeper is not None:
                self._keeper.read(effect)
            return
        shell = effect.connection.shell
        if isinstance(effect, Authenticate):
            self._spawn_question(self._authenticate(effect), name="broker:authenticate")
        elif isinstance(effect, AskMethod):
            self._spawn_question(self._ask_method(effect), name="broker:authenticate")
        elif isinstance(effect, Authorize):
            self._spawn_question(self._authorize(effect), name="broker:authorize")
        elif not isinstance(shell, ConnectionShell):
            return  # The connection was lost meanwhile; there is nothing to do it to.
        elif isinstance(effect, Close):
            if last := effect.connection.data_to_send():
                self.engine.stats.bytes_sent += len(last)
                shell.finish(last)
                self.linger(shell)
            else:
                shell.close()
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
            # What is buffered first: it may be enough to stop again.
            self._proceed(effect.connection)
            if not effect.connection.hold:
                shell.resume_reading()
        elif isinstance(effect, Proceed):
            self._proceed_next_turn(effect.connection)
        else:
            assert_never(effect)

    def _new_keeper(self, store: SessionStore) -> Keeper:
        return Keeper(
            self.engine,
            store,
            interval_s=self._settings.commit_interval_s,
            spawn=self.spawn,
            now=self.now,
            settle=self.settle,
        )

    def _spawn_question(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> None:
        task = self.spawn(coroutine, name=name)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    def _proceed_next_turn(self, connection: ServedConnection) -> None:
        if self._loop is not None:
            self._loop.call_soon(self._proceed, connection)

    def _proceed(self, connection: ServedConnection) -> None:
        self.engine.proceed(connection, self.now())
        self.settle()

    # The hooks that may wait.

    async def _authenticate(self, effect: Authenticate) -> None:
        answer = await self._identify(effect.request)
        self.engine.authenticated(effect.connection, answer, self.now())
        self.settle()

    async def _ask_method(self, effect: AskMethod) -> None:
        answer = await self._ask(effect.question)
        self.engine.method_answered(effect.connection, answer, self.now())
        self.settle()

    async def _authorize(self, effect: Authorize) -> None:
        """Ask one question after the other, all in the time of one; what is not answered then never is."""
        principal = effect.principal
        answers: dict[Question, bool] = {}

        async def decide() -> None:
            if isinstance(principal.permissions, AskingPermissions):
                authorize = principal.permissions.decision.authorize
                for question in effect.questions:
                    answers[question] = await authorize(principal, question.action, question.topic.decode())

        await self._ask(decide)
        self.engine.decided(effect, answers, self.now())
        self.settle()

    async def _identify(self, request: ConnectRequest) -> Principal | AccessRefusedError:
        answer: object = await self._ask(partial(self._authenticator.authenticate, request))
        if isinstance(answer, Principal | AccessRefusedError):
            return answer
        _log.error("hook.failed", hook="authenticate", answer=type(answer).__name__)
        return AccessRefusedError(ReasonCode.SERVER_UNAVAILABLE, "the authenticator gave no principal")

    async def _ask(self, question: Callable[[], Awaitable[_T]]) -> _T | AccessRefusedError:
        """Return a hook's answer; whatever goes wrong is a refusal."""
        try:
            async with asyncio.timeout(self._settings.limits.authentication_timeout_s):
                return await question()
        except AccessRefusedError as error:
            return error
        except TimeoutError:
            self.engine.stats.authentication_timeouts += 1
            return AccessRefusedError(ReasonCode.SERVER_UNAVAILABLE, "no answer from a hook in time")
        except Exception:  # noqa: BLE001  (the per-hook boundary: whatever a hook raises is a refusal)
            _log.exception("hook.failed")
            return AccessRefusedError(ReasonCode.SERVER_UNAVAILABLE, "a hook failed")


def _new_client_id() -> ClientId:
    """Return an id that nobody can guess, so that nobody can take the Session over."""
    return ClientId("auto-" + secrets.token_hex(12))
