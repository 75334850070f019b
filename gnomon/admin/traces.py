"""Traces: one client's packets, or the messages of one topic filter, told as they pass.

Knows: how long a trace lasts, how many events it tells, at which pace, when it is over.
Does not know: how packets are tapped, how events travel.
Spec: none.
"""

import asyncio
import contextlib
import secrets
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

import structlog
from msgspec import to_builtins

from broker.access import ADMIN_REPLIES
from broker.api import Bus, BusClosedError, Message, PacketNote, SessionInfo

from .requests import AdminError, Requester, StartTrace, StopTrace

TRACES_MAXIMUM: Final = 4
#: Events go out in batches: so many at most, so often (seconds).
_BATCH_MAXIMUM: Final = 50
_PACE_S: Final = 0.1
#: Events that wait for their batch; those beyond are counted only.
_WAITING_MAXIMUM: Final = 1_000

_log = structlog.get_logger("admin")


class Traced(Protocol):
    """What is traced: the broker."""

    def session(self, tenant: str, client_id: str) -> SessionInfo | None:
        """Return one session, None where there is none."""

    def follow(
        self, tenant: str, client_id: str, listener: Callable[[PacketNote], None]
    ) -> Callable[[], None]:
        """Tell `listener` of a client's packets; returns what ends it."""

    def count_receivers(self, tenant: str, topic: str, *, publisher: str | None = None) -> int:
        """Return how many sessions get a message on `topic`."""

    def in_process_client(self, name: str, *, tenant: str = "default") -> Bus:
        """Return a client without a socket."""


class Traces:
    """The traces of one tenant: the area `trace`. They run as tasks of `group`."""

    def __init__(self, broker: Traced, group: asyncio.TaskGroup) -> None:
        self._broker = broker
        self._group = group
        self._running: dict[str, _Trace] = {}

    async def start(self, requester: Requester, request: StartTrace) -> dict[str, Any]:
        """Begin a trace; its events follow where the answer goes, the last of them says why it is over.

        Raises:
            AdminError: LimitExceeded.
        """
        if len(self._running) >= TRACES_MAXIMUM:
            raise AdminError("LimitExceeded", f"{TRACES_MAXIMUM} traces are running; stop one of them")
        trace = _Trace(secrets.token_hex(8), requester, request)
        self._running[trace.name] = trace
        self._group.create_task(_guarded(self._run(trace)), name=f"trace:{trace.name}")
        return {"trace": trace.name, "seconds": request.seconds, "events_maximum": request.events}

    async def stop(self, requester: Requester, request: StopTrace) -> dict[str, Any]:
        """End one of the requester's traces.

        Raises:
            AdminError: NotFound.
        """
        trace = self._running.get(request.trace)
        if trace is None or trace.requester.client_id != requester.client_id:
            raise AdminError("NotFound", "you have no such trace")
        trace.end("stopped")
        return {"trace": trace.name}

    def close(self) -> None:
        """End all of them."""
        for trace in self._running.values():
            trace.end("the server ends")

    async def _run(self, trace: "_Trace") -> None:
        request, tenant = trace.request, trace.requester.tenant
        end: Callable[[], None]
        if request.client_id is not None:
            end = self._broker.follow(tenant, request.client_id, trace.add_packet)
        else:
            bus = self._broker.in_process_client("trace", tenant=tenant)
            end = bus.close
            bus.subscribe(request.topic_filter or "")
            self._group.create_task(_guarded(self._listen(trace, bus)), name=f"trace-bus:{trace.name}")
        deadline = time.monotonic() + request.seconds
        try:
            while trace.over is None:
                await asyncio.sleep(_PACE_S)
                trace.send_batch()
                if time.monotonic() >= deadline:
                    trace.end("time")
                elif not self._is_there(trace.requester):
                    trace.end("nobody listens")
        finally:
            end()
            del self._running[trace.name]
        trace.finish()

    async def _listen(self, trace: "_Trace", bus: Bus) -> None:
        tenant = trace.requester.tenant
        with contextlib.suppress(BusClosedError):
            while True:
                for message in await bus.receive():
                    publisher = None if message.origin is None else message.origin.client_id
                    # Looked up in what the broker remembers of the topic, and at most once per event.
                    count = self._broker.count_receivers(tenant, message.topic, publisher=publisher)
                    trace.add_message(message, count)

    def _is_there(self, requester: Requester) -> bool:
        session = self._broker.session(requester.tenant, requester.client_id)
        return session is not None and session.is_connected and session.identity == requester.identity


class _Trace:
    """One trace: the events that wait, and how many there were."""

    def __init__(self, name: str, requester: Requester, request: StartTrace) -> None:
        self.name: Final = name
        self.requester: Final = requester
        self.request: Final = request
        #: Why it is over, None while it is not.
        self.over: str | None = None
        self._waiting: deque[dict[str, Any]] = deque()
        self._seen = 0
        self._skipped = 0

    def end(self, why: str) -> None:
        """Let it be over, unless it is already."""
        self.over = self.over or why

    def add_packet(self, note: PacketNote) -> None:
        """The client sent a packet, or got one."""
        if note.topic is None or not note.topic.startswith(ADMIN_REPLIES):
            self._add(lambda: to_builtins(note))

    def add_message(self, message: Message, receivers: int) -> None:
        """Somebody published a message."""
        if not message.topic.startswith(ADMIN_REPLIES):  # Else a trace could tell of itself.
            self._add(lambda: _told(message, receivers))

    def send_batch(self, *, maximum: int = _BATCH_MAXIMUM) -> None:
        """Send what waits, up to `maximum` events."""
        count = min(maximum, len(self._waiting))
        if count:
            events = [self._waiting.popleft() for _ in range(count)]
            self.requester.send({"trace": self.name, "events": events}, 0)

    def finish(self) -> None:
        """Send all that still waits, and why it is over."""
        while self._waiting:
            self.send_batch()
        told = self._seen - self._skipped
        self.requester.send(
            {"trace": self.name, "over": self.over, "told": told, "skipped": self._skipped}, 1
        )

    def _add(self, tell: Callable[[], dict[str, Any]]) -> None:
        if self.over is not None:
            return
        self._seen += 1
        if len(self._waiting) < _WAITING_MAXIMUM:
            self._waiting.append({"at": round(time.time(), 6), "number": self._seen, **tell()})
        else:
            self._skipped += 1
        if self._seen >= self.request.events:
            self.end("events")


def _told(message: Message, receivers: int) -> dict[str, Any]:
    origin = message.origin
    principal = None if origin is None else origin.principal
    return {
        "topic": message.topic,
        "qos": message.qos,
        "is_retain": message.is_retain,
        "payload_bytes": len(message.payload),
        "publisher": None if origin is None else origin.client_id,
        "identity": None if principal is None else principal.identity,
        "is_will": origin is not None and origin.is_will,
        "receivers": receivers,
    }


async def _guarded(work: Coroutine[Any, Any, None]) -> None:
    """The boundary of one trace: its failure ends nothing else."""
    try:
        await work
    except Exception:  # noqa: BLE001  (whatever it is, others are not concerned)
        _log.exception("admin.trace_failed")
