"""The way of a request where several processes share the work: one turn at a time, while its things are held.

Knows: what is read, written and waited for while a turn holds its things.
Does not know: how things are held, how requests are shared out.
Spec: v5 §4.8.2, §4.3.2.

Nothing is remembered between turns: another process may have changed it. A request that was done before is
answered again from the journal, with the versions and times that it had.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import structlog

from broker.api import Bus, BusClosedError, Message

from .commands import parse, read_client_token
from .engine import decide
from .errors import InternalFailureError, ShadowStoreError
from .hot import UNKNOWN
from .journal import BASE_VERSIONS, replay
from .pipeline import Pipeline, log_store_failure
from .settings import ShadowSettings
from .sharing import Done, SharedChanges, Sharing, request_id
from .topics import Operation, ShadowKey
from .turns import Request, Telling, Turn

_log = structlog.get_logger(__name__)

#: What the broker sends again on a new connection has been read after so long.
_AGAIN_S: Final = 5.0
#: How long replies may take to reach the broker; others wait for the things meanwhile.
_SETTLE_S: Final = 5.0


class SharedPipeline(Pipeline):
    """A pipeline without memory; the order of things is in `_hold`."""

    def __init__(self, bus: Bus, sharing: Sharing, settings: ShadowSettings, **parts: Any) -> None:  # noqa: ANN401
        forgetful = settings.model_copy(update={"hot_documents_maximum": 0})
        super().__init__(bus, sharing.store, forgetful, **parts)
        self._sharing = sharing
        self._turns = asyncio.Lock()
        self._before: dict[ShadowKey, Done | None] = {}
        self._done: dict[str, Done] = {}
        #: Acknowledged requests that are still noted as done, and since when (monotonic seconds).
        self._acknowledged: deque[tuple[float, str]] = deque()
        #: What was acknowledged before this moment, the broker knows (monotonic seconds).
        self._known_until = 0.0

    async def take(self, messages: Sequence[Message]) -> None:
        """Serve a batch of the bus, a turn's worth at a time."""
        size = self._settings.turn_size_maximum
        for start in range(0, len(messages), size):
            part = messages[start : start + size]
            requests = [request for message in part if (request := self._accept(message)) is not None]
            async with self._turns:
                await self._hold(requests, lambda requests=requests: self._serve(requests))  # type: ignore[misc]
                self._bus.acknowledge(len(part))
                now = time.monotonic()
                self._acknowledged.extend((now, each) for each in self._done)
                self._measure()

    async def tell(self, keys: Sequence[ShadowKey]) -> None:
        """Publish the deltas of these shadows again, where that is still due."""
        size = self._settings.turn_size_maximum
        for start in range(0, len(keys), size):
            tellings = [Telling(self._hot.borrow(key)) for key in keys[start : start + size]]
            async with self._turns:
                await self._hold(tellings, lambda tellings=tellings: self._serve_tellings(tellings))  # type: ignore[misc]

    async def write_turns(self) -> None:
        """Wait until closed: turns are written where they are taken."""
        await self._filled.wait()

    async def _hold(
        self, requests: Sequence[Request] | Sequence[Telling], body: Callable[[], Awaitable[None]]
    ) -> None:
        """Hold the things, load, decide, commit, answer, and wait until the broker has the answers."""
        self._open = turn = Turn()
        turn.requests += requests
        self._before, self._done = {}, {}
        began = time.monotonic()

        async def held() -> None:
            await self._load([request.slot for request in requests])
            self._before = {
                request.slot.key: None
                if request.slot.row is None
                else Done(request.slot.row.numbering, request.slot.row.version)
                for request in requests
                if request.slot.row is not UNKNOWN
            }
            await body()
            if turn.changes.rows:
                await self._commit(turn)
            for request in requests:
                self._answer(request)
            try:
                async with asyncio.timeout(_SETTLE_S):
                    await self._sharing.settled()
            except BusClosedError:
                pass
            except TimeoutError:
                _log.warning("shadow.replies_unsettled", requests=len(requests))
            else:
                if any(request.messages for request in requests):  # The PUBACKs before them came too.
                    self._known_until = began

        try:
            await self._sharing.store.hold({request.slot.key.thing_name for request in requests}, held)
        except ShadowStoreError as error:
            self._stats.store_failures += 1
            log_store_failure("shadow.hold_failed", error, requests=len(requests))
            for request in requests:
                if isinstance(request, Request):
                    token = read_client_token(request.message.payload, self._settings)
                    request.refuse(InternalFailureError(client_token=token))
                self._answer(request)

    async def _serve(self, requests: Sequence[Request]) -> None:
        tokens = [read_client_token(each.message.payload, self._settings) for each in requests]
        ids = [
            request_id(request.message, has_token=token is not None)
            for request, token in zip(requests, tokens, strict=True)
        ]
        done = await self._seen(requests, ids, tokens)
        now = self._clock()
        for request, name in zip(requests, ids, strict=True):
            if name in done:
                await self._repeat(request, done[name])
                continue
            self._decide(request, now)
            row = request.slot.row
            if request.is_change and row is not UNKNOWN and row is not None:
                self._done[name] = Done(row.numbering, row.version)

    async def _serve_tellings(self, tellings: Sequence[Telling]) -> None:
        now = self._clock()
        for telling in tellings:
            self._tell(telling, now)

    async def _seen(
        self, requests: Sequence[Request], ids: Sequence[str], tokens: Sequence[str | None]
    ) -> Mapping[str, Done]:
        """Which requests were done before.

        One without a token may come twice because it was meant twice: so it is recognised only where the
        broker says that it sends it again. One with a token it may have given to another process before.
        """
        again = {name for name, request in zip(ids, requests, strict=True) if request.message.is_dup}
        found = await self._sharing.store.done(
            [
                name
                for name, request, token in zip(ids, requests, tokens, strict=True)
                if request.operation is not Operation.GET and (token is not None or name in again)
            ],
            again=again,
        )
        if found:
            self._stats.repeated += len(found)
            _log.info("shadow.requests_repeated", requests=len(found))
        return found

    async def _repeat(self, request: Request, done: Done) -> None:
        try:
            await self._answer_again(request, done)
        except ShadowStoreError:
            raise
        except Exception:  # noqa: BLE001 - boundary of one message: it would come again and again
            self._stats.internal_failures += 1
            _log.exception("shadow.repetition_failed", thing_name=request.slot.key.thing_name)

    async def _answer_again(self, request: Request, done: Done) -> None:
        """Give the answer that the request should have had; none where the journal has forgotten it."""
        key = request.slot.key
        entries = await self._sharing.store.history(
            key, limit=BASE_VERSIONS + 1, before_version=done.version + 1
        )
        if not entries or (entries[0].numbering, entries[0].version) != (done.numbering, done.version):
            return
        before = replay(entries[1:])
        if before is None and done.version > 1:
            return
        command = parse(request.operation, request.message.payload, self._settings)
        decision = decide(key, before, command, now=int(entries[0].at), settings=self._settings)
        request.messages = decision.messages

    async def _write(self, turn: Turn) -> None:
        changes, until = turn.changes, self._known_until - _AGAIN_S
        acknowledged: list[str] = []
        while self._acknowledged and self._acknowledged[0][0] <= until:
            acknowledged.append(self._acknowledged.popleft()[1])
        await self._sharing.store.commit_shared(
            SharedChanges(
                changes.rows, changes.entries, changes.obsolete, self._before, self._done, acknowledged
            )
        )
