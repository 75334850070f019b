"""The shadow service: requests from the bus, through decision and commit, to replies on the bus.

Knows: the order of things, limits of what is under way, what a failing store means.
Does not know: what a request does to a document, how the store writes, sockets.
Spec: AWS IoT device shadow service, MQTT topics; order of messages as `engine.Decision` has it.

Requests are decided at once, in order of arrival, against hot documents that may be ahead of the store. While
one turn commits the next one fills up, and the replies of each follow its own commit. So the messages of a
shadow stay in order, and none tells of a change that a crash could undo. Requests are acknowledged to the bus
after their replies, so that a broker outside the process keeps what a crash interrupts.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final, TypeAlias

import structlog
from msgspec import Struct

from broker.api import Bus, BusClosedError, Message

from .commands import parse
from .document import Stored
from .engine import ShadowMessage, decide, reject
from .errors import InternalFailureError, RequestError, ThrottledError
from .hot import UNKNOWN, HotDocuments, Slot
from .settings import ShadowSettings
from .store import ShadowStore
from .topics import Operation, ShadowKey, ShadowTopics

_log = structlog.get_logger(__name__)

#: Requests in flight are counted per thing and client; beside a foreign broker the client is unknown.
_Flow: TypeAlias = tuple[str, str | None]


class ShadowStats(Struct):
    """What the service has done so far."""

    requests: int = 0
    refused: int = 0
    ignored: int = 0
    commits: int = 0
    store_failures: int = 0
    internal_failures: int = 0


class _Request(Struct):
    """A request on its way: what was asked, then what will be answered after the commit.

    Only an admitted one was decided against a document, and counts as in flight.
    """

    operation: Operation
    slot: Slot
    flow: _Flow
    payload: bytes
    client_token: str | None = None
    is_admitted: bool = False
    messages: tuple[ShadowMessage, ...] = ()

    def refuse(self, error: RequestError) -> None:
        self.messages = (reject(self.operation, error),)


class _Turn:
    """Requests that share one commit, in order of arrival.

    `messages` counts what of the bus they came from, ignored messages included.
    """

    def __init__(self) -> None:
        self.messages = 0
        self.requests: list[_Request] = []
        self.rows: dict[ShadowKey, Stored] = {}

    def fail(self, keys: Collection[ShadowKey]) -> None:
        """Refuse what was decided on shadows whose rows were lost: it may build on what is not stored."""
        for request in self.requests:
            if request.is_admitted and request.slot.key in keys:
                request.slot.stored = UNKNOWN
                request.refuse(InternalFailureError(client_token=request.client_token))
        for key in keys:
            self.rows.pop(key, None)


class ShadowService:
    """The shadows of one tenant, served over one bus.

    It subscribes when it is made, so that no request is missed between that and `run`.
    """

    def __init__(
        self,
        bus: Bus,
        store: ShadowStore,
        settings: ShadowSettings,
        *,
        clock: Callable[[], float] = time.time,
        root: str = "$aws",
    ) -> None:
        self.stats: Final = ShadowStats()
        self._bus = bus
        self._store = store
        self._settings = settings
        self._clock = clock
        self._topics = ShadowTopics(root)
        self._hot = HotDocuments(settings.hot_documents_maximum)
        self._in_flight: dict[_Flow, int] = {}
        self._open = _Turn()
        self._is_closed = False
        self._filled = asyncio.Event()
        self._taken = asyncio.Event()
        bus.subscribe(*self._topics.request_filters, qos=1)

    async def run(self) -> None:
        """Serve until the bus is closed; what was taken by then is still decided, committed and answered."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write_turns(), name="shadow:writer")
            await self._read_requests()
            self._is_closed = True
            self._filled.set()

    async def _read_requests(self) -> None:
        size = self._settings.turn_size_maximum
        while True:
            try:
                batch = await self._bus.receive()
            except BusClosedError:
                return
            for start in range(0, len(batch), size):
                while len(self._open.requests) >= size:
                    self._taken.clear()
                    await self._taken.wait()
                await self._take(batch[start : start + size])

    async def _take(self, messages: Sequence[Message]) -> None:
        requests = [request for message in messages if (request := self._accept(message)) is not None]
        if requests:
            await self._load([request.slot for request in requests])
        # From here to the end nothing else runs, so that the slots stay as they are.
        for request in requests:
            self._decide(request)
        self._open.requests += requests
        self._open.messages += len(messages)
        self._filled.set()

    def _accept(self, message: Message) -> _Request | None:
        origin = message.origin
        parsed = self._topics.parse(message.topic)
        if parsed is None or message.is_retain or (origin is not None and origin.is_will):
            self.stats.ignored += 1
            return None
        self.stats.requests += 1
        key, operation = parsed
        flow = (key.thing_name, None if origin is None else origin.client_id)
        return _Request(operation, self._hot.borrow(key), flow, message.payload)

    async def _load(self, slots: Sequence[Slot]) -> None:
        """Fill the unknown slots; a commit that fails meanwhile empties others, hence the loop."""
        while unknown := {slot.key: slot for slot in slots if slot.stored is UNKNOWN}:
            try:
                rows = await self._store.load(unknown.keys())
            except Exception:  # noqa: BLE001 - boundary of the store: whatever it raises, we answer
                self.stats.store_failures += 1
                _log.exception("shadow.load_failed", rows=len(unknown))
                return
            for key, slot in unknown.items():
                slot.stored = rows.get(key)

    def _decide(self, request: _Request) -> None:
        slot = request.slot
        try:
            command = parse(request.operation, request.payload, self._settings)
            request.client_token = command.client_token
            stored = self._admit(request)
            now = int(self._clock())
            decision = decide(slot.key, stored, command, now=now, settings=self._settings)
        except RequestError as error:
            self.stats.refused += 1
            request.refuse(error)
        except Exception:  # noqa: BLE001 - boundary of one message: a bug in its handling ends no other
            self.stats.internal_failures += 1
            _log.exception(
                "shadow.request_failed", operation=request.operation, thing_name=slot.key.thing_name
            )
            request.refuse(InternalFailureError(client_token=request.client_token))
        else:
            request.messages = decision.messages
            if decision.change is not None:
                slot.stored = self._open.rows[slot.key] = decision.change

    def _admit(self, request: _Request) -> Stored | None:
        """Let the request in, and return what it is decided against."""
        count = self._in_flight.get(request.flow, 0)
        if count >= self._settings.in_flight_maximum:
            raise ThrottledError(client_token=request.client_token)
        if request.slot.stored is UNKNOWN:
            raise InternalFailureError(client_token=request.client_token)
        self._in_flight[request.flow] = count + 1
        request.is_admitted = True
        return request.slot.stored

    async def _write_turns(self) -> None:
        while self._open.messages or not self._is_closed:
            await self._filled.wait()
            self._filled.clear()
            turn, self._open = self._open, _Turn()
            self._taken.set()
            if turn.rows:
                await self._commit(turn)
            for request in turn.requests:
                self._answer(request)
            self._bus.acknowledge(turn.messages)

    async def _commit(self, turn: _Turn) -> None:
        try:
            await self._store.commit(turn.rows)
        except Exception:  # noqa: BLE001 - boundary of the store: nobody hears of what is not durable
            self.stats.store_failures += 1
            _log.exception("shadow.commit_failed", rows=len(turn.rows))
            lost = frozenset(turn.rows)
            turn.fail(lost)
            self._open.fail(lost)
        else:
            self.stats.commits += 1

    def _answer(self, request: _Request) -> None:
        key = request.slot.key
        try:
            for message in request.messages:
                self._bus.publish(self._topics.reply(key, message.reply), message.payload, qos=1)
        except BusClosedError:
            pass  # Nobody is left to hear it; the document is durable.
        except Exception:  # noqa: BLE001 - boundary of one message, as in _decide
            self.stats.internal_failures += 1
            _log.exception("shadow.publish_failed", operation=request.operation, thing_name=key.thing_name)
        self._hot.give_back(request.slot)
        if request.is_admitted:
            self._in_flight[request.flow] -= 1
            if not self._in_flight[request.flow]:
                del self._in_flight[request.flow]
