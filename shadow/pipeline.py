"""The way of a request: decided, committed, answered.

Knows: the order of things, what is under way, what a failing store means.
Does not know: what a request does to a document, how the store writes, sockets.
Spec: AWS IoT device shadow service, MQTT topics; order of messages as `engine.Decision` has it.

Requests are decided at once, in order of arrival, against hot rows that may be ahead of the store. While one
turn commits the next one fills up, and the replies of each follow its own commit. So the messages of a shadow
stay in order, and none tells of a change that a crash could undo. Requests are acknowledged to the bus after
their replies, so that a broker outside the process keeps what a crash interrupts.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from broker.api import Bus, BusClosedError, Message
from storage import StorageError

from .commands import Command, parse, read_client_token
from .document import Document, Stored
from .durations import Durations
from .engine import Decision, decide, tell
from .errors import InternalFailureError, RequestError, ShadowStoreError, ThrottledError
from .hot import UNKNOWN, HotRows, Slot
from .journal import entry_of, next_row, oldest_kept, told
from .rates import Rates
from .reconciler import Reconciler
from .records import Author
from .settings import ShadowSettings
from .stats import ShadowStats
from .store import ShadowStore
from .topics import Reply, ShadowKey, ShadowTopics
from .turns import Flow, Request, Telling, Turn

_log = structlog.get_logger(__name__)

#: A newer delta of the same shadow may replace one that waits for a Session: its topic says the rest.
_DELTA: Final = b"delta"
_NOBODY: Final = Author()


class Pipeline:
    """Takes requests and tellings in; `write_turns` does the rest."""

    def __init__(
        self,
        bus: Bus,
        store: ShadowStore,
        settings: ShadowSettings,
        *,
        clock: Callable[[], float],
        topics: ShadowTopics,
        stats: ShadowStats,
        reconciler: Reconciler,
    ) -> None:
        self.converged: Final = Durations()
        self._bus = bus
        self._store = store
        self._settings = settings
        self._clock = clock
        self._topics = topics
        self._stats = stats
        self._reconciler = reconciler
        self._hot = HotRows(
            rows_maximum=settings.hot_documents_maximum, bytes_maximum=settings.hot_bytes_maximum
        )
        self._rates = Rates(
            per_thing=settings.requests_per_second_maximum,
            in_all=settings.tenant_requests_per_second_maximum,
        )
        self._in_flight: dict[Flow, int] = {}
        self._open = Turn()
        self._is_closed = False
        self._filled = asyncio.Event()
        self._taken = asyncio.Event()

    async def take(self, messages: Sequence[Message]) -> None:
        """Decide a batch of the bus, a turn's worth at a time; waits while too much waits for a commit."""
        size = self._settings.turn_size_maximum
        for start in range(0, len(messages), size):
            await self._room()
            part = messages[start : start + size]
            requests = [request for message in part if (request := self._accept(message)) is not None]
            await self._load([request.slot for request in requests if not request.is_over_rate])
            # From here to the end nothing else runs, so that the slots stay as they are.
            now = self._clock()
            for request in requests:
                self._decide(request, now)
            self._open.requests += requests
            self._open.messages += len(part)
            self._filled.set()

    async def tell(self, keys: Sequence[ShadowKey]) -> None:
        """Publish the deltas of these shadows again, where that is still due."""
        size = self._settings.turn_size_maximum
        for start in range(0, len(keys), size):
            await self._room()
            tellings = [Telling(self._hot.borrow(key)) for key in keys[start : start + size]]
            await self._load([telling.slot for telling in tellings])
            now = self._clock()
            for telling in tellings:
                self._tell(telling, now)
            self._open.requests += tellings
            self._filled.set()

    def close(self) -> None:
        """Nothing more will be taken in; `write_turns` returns after what was."""
        self._is_closed = True
        self._filled.set()

    async def write_turns(self) -> None:
        """Commit and answer, turn by turn, until closed."""
        while not (self._open.is_empty and self._is_closed):
            await self._filled.wait()
            self._filled.clear()
            turn, self._open = self._open, Turn()
            self._taken.set()
            if turn.changes.rows:
                await self._commit(turn)
            for request in turn.requests:
                self._answer(request)
            self._bus.acknowledge(turn.messages)
            self._measure()

    async def _room(self) -> None:
        while len(self._open.requests) >= self._settings.turn_size_maximum:
            self._taken.clear()
            await self._taken.wait()

    def _measure(self) -> None:
        stats, hot, reconciler = self._stats, self._hot, self._reconciler
        stats.hot_rows, stats.hot_bytes = len(hot), hot.size_bytes
        stats.drifting, stats.drifts_not_followed = len(reconciler), int(reconciler.is_partial)

    def _accept(self, message: Message) -> Request | None:
        origin = message.origin
        parsed = self._topics.parse(message.topic)
        if parsed is None or message.is_retain or (origin is not None and origin.is_will):
            self._stats.ignored += 1
            return None
        self._stats.requests += 1
        key, operation = parsed
        return Request(
            operation,
            self._hot.borrow(key),
            (key.thing_name, None if origin is None else origin.client_id),
            message,
            is_over_rate=not self._rates.admit(key.thing_name, self._clock()),
        )

    async def _load(self, slots: Sequence[Slot]) -> None:
        """Fill the unknown slots; a commit that fails meanwhile empties others, hence the loop."""
        while unknown := {slot.key: slot for slot in slots if slot.row is UNKNOWN}:
            try:
                rows = await self._store.load(unknown.keys())
            except Exception as error:  # noqa: BLE001 - boundary of the store: whatever it raises, we answer
                self._stats.store_failures += 1
                log_store_failure("shadow.load_failed", error, rows=len(unknown))
                return
            for key, slot in unknown.items():
                if slot.row is UNKNOWN:  # Else somebody who loaded it too has decided on it already.
                    slot.row = rows.get(key)

    def _decide(self, request: Request, now: float) -> None:
        slot = request.slot
        try:
            command = self._admit(request)
            decision = decide(slot.key, slot.stored(), command, now=int(now), settings=self._settings)
            if decision.change is not None:
                self._change(request, decision, decision.change, now)
            request.messages = decision.messages
        except RequestError as error:
            self._stats.refused += 1
            self._stats.throttled += isinstance(error, ThrottledError)
            request.refuse(error)
        except Exception:  # noqa: BLE001 - boundary of one message: a bug in its handling ends no other
            self._stats.internal_failures += 1
            _log.exception(
                "shadow.request_failed", operation=request.operation, thing_name=slot.key.thing_name
            )
            request.refuse(InternalFailureError(client_token=request.client_token))

    def _admit(self, request: Request) -> Command:
        """Read the request and let it in."""
        payload, settings = request.message.payload, self._settings
        if request.is_over_rate:
            raise ThrottledError(
                "Too many requests in one second", client_token=read_client_token(payload, settings)
            )
        command = parse(request.operation, payload, settings)
        request.client_token = command.client_token
        count = self._in_flight.get(request.flow, 0)
        if count >= settings.in_flight_maximum:
            raise ThrottledError(client_token=request.client_token)
        if request.slot.row is UNKNOWN:
            raise InternalFailureError(client_token=request.client_token)
        self._in_flight[request.flow] = count + 1
        request.is_admitted = True
        return command

    def _change(self, request: Request, decision: Decision, change: Stored, now: float) -> None:
        """Put what the decision changes into the turn, and where the next request sees it."""
        slot, versions = request.slot, self._settings.journal_versions
        before = None if slot.row is UNKNOWN else slot.row
        row = next_row(before, decision, now=now)
        turn = self._open
        if versions:
            author, message = _author(request.message), request.message
            entry = entry_of(
                row, decision, author=author, topic=message.topic, client_token=request.client_token
            )
            turn.changes.entries.append((slot.key, entry))
            oldest = oldest_kept(row, versions=versions)
            if row.base_version == row.version and oldest > 1:
                turn.changes.obsolete[slot.key] = oldest
        if before is not None and before.drift and not row.drift and row.document is not None:
            turn.converged.append(now - before.drift.since)
        turn.changes.rows[slot.key] = row
        slot.change(row, change)
        request.is_change = True

    def _tell(self, telling: Telling, now: float) -> None:
        slot = telling.slot
        row = slot.row
        if row is UNKNOWN:
            return
        drift = None if row is None else row.drift
        if row is None or drift is None or not self._reconciler.is_due(slot.key, drift, now):
            self._reconciler.note(slot.key, drift)  # It has changed since the reconciler heard of it.
            return
        try:
            stored = slot.stored()
            message = tell(stored, now=int(now)) if isinstance(stored, Document) else None
        except Exception:  # noqa: BLE001 - boundary of one document, as in _decide
            self._stats.internal_failures += 1
            _log.exception("shadow.telling_failed", thing_name=slot.key.thing_name)
            stored = message = None
        if message is None or stored is None:
            self._reconciler.note(slot.key, None)  # Nothing can be told, now or later.
            return
        telling.messages = (message,)
        row = told(row, now=now)
        self._open.changes.rows[slot.key] = row
        slot.change(row, stored)

    async def _commit(self, turn: Turn) -> None:
        try:
            await self._write(turn)
        except Exception as error:  # noqa: BLE001 - boundary of the store: nobody hears of what is not durable
            self._stats.store_failures += 1
            log_store_failure("shadow.commit_failed", error, rows=len(turn.changes.rows))
            lost = frozenset(turn.changes.rows)
            turn.fail(lost)
            self._open.fail(lost)
            return
        self._stats.commits += 1
        self._stats.converged += len(turn.converged)
        now = self._clock()
        for duration_s in turn.converged:
            self.converged.add(duration_s, now=now)
        for key, row in turn.changes.rows.items():
            self._reconciler.note(key, row.drift)

    async def _write(self, turn: Turn) -> None:
        await self._store.commit(turn.changes)

    def _answer(self, request: Request | Telling) -> None:
        key = request.slot.key
        try:
            for message in request.messages:
                may_supersede = message.reply is Reply.UPDATE_DELTA and self._settings.delta_supersedes
                self._bus.publish(
                    self._topics.reply(key, message.reply),
                    message.payload,
                    qos=1,
                    supersede_key=_DELTA if may_supersede else None,
                )
        except BusClosedError:
            pass  # Nobody is left to hear it; the document is durable.
        except Exception:  # noqa: BLE001 - boundary of one message, as in _decide
            self._stats.internal_failures += 1
            _log.exception("shadow.publish_failed", thing_name=key.thing_name)
        self._hot.give_back(request.slot)
        if isinstance(request, Telling):
            self._stats.retold += bool(request.messages)
            return
        self._stats.changes += request.is_change
        if request.is_admitted:
            self._in_flight[request.flow] -= 1
            if not self._in_flight[request.flow]:
                del self._in_flight[request.flow]


def log_store_failure(event: str, error: Exception, **fields: int) -> None:
    """Log the store's own sentence; a traceback only for what it does not explain."""
    is_explained = isinstance(error, ShadowStoreError) and isinstance(error.__cause__, StorageError | None)
    _log.error(event, reason=str(error), exc_info=None if is_explained else error, **fields)


def _author(message: Message) -> Author:
    if message.origin is None:
        return _NOBODY
    principal = message.origin.principal
    if principal is None:
        return Author(message.origin.client_id)
    certificate = principal.certificate
    return Author(
        message.origin.client_id,
        principal.identity,
        None if certificate is None else certificate.fingerprint_sha256,
    )
