"""Our broker in a process of its own, with a stopwatch at the door of each room.

Knows: which functions are the doors, exclusive time (what a callee's room takes is not the caller's).
Does not know: loads, tables.

Time is CPU time of the thread: a write wakes the peer, which may take our core. What the stopwatch itself
takes is measured first and subtracted. The doors are passed once per read, per turn and per write, each of
many messages; those of the Session are passed per message, and are watched in a run of their own.
"""

import functools
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from msgspec import Struct

from broker.engine import Engine
from broker.protocol.stream import PacketStream
from broker.server import Server
from broker.session.session import Session
from broker.transport import ConnectionShell
from gnomon.cli import main

SHELL: Final = "shell: one call per read"
STREAM: Final = "stream: split and decode"
ENGINE: Final = "engine: route, fan-out, acknowledge"
SESSION: Final = "session: packet ids, in flight, outbox"
TURN_END: Final = "end of turn: effects, join"
WRITE: Final = "write: transport and kernel"

Door = tuple[type, str, str]
_DOORS: Final[tuple[Door, ...]] = (
    (ConnectionShell, "data_received", SHELL),
    (PacketStream, "feed", STREAM),
    (PacketStream, "read", STREAM),
    (Engine, "receive", ENGINE),
    (Engine, "proceed", ENGINE),
    (Server, "_flush", TURN_END),
    (ConnectionShell, "write", WRITE),
)
_SESSION_DOORS: Final[tuple[Door, ...]] = (
    (Session, "deliver", SESSION),
    (Session, "handle_puback", SESSION),
    (Session, "handle_pubrec", SESSION),
    (Session, "handle_pubcomp", SESSION),
)
_CALIBRATION_CALLS: Final = 100_000


class Reading(Struct, frozen=True, kw_only=True):
    """What happened between start and stop: nanoseconds and calls by room, CPU of the whole process.

    `cpu_s` is without what the stopwatch took; `user_s` and `system_s` are with it.
    """

    ns: dict[str, float]
    calls: dict[str, int]
    user_s: float
    system_s: float
    cpu_s: float


class _Stopwatch:
    """CPU time by room, its own costs subtracted."""

    def __init__(self) -> None:
        self.ns: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._inner_ns = 0.0
        #: What it adds to the time that it shows for a call, and what it takes beyond that.
        self._shown_ns = self._hidden_ns = 0.0

    @property
    def own_ns(self) -> float:
        """What the stopwatch itself has taken."""
        return sum(self.calls.values()) * (self._shown_ns + self._hidden_ns)

    def calibrate(self) -> None:
        """Find out what watching a call costs."""
        nothing = self.watched(lambda value, now: None, SHELL)
        begun = time.thread_time_ns()
        for _ in range(_CALIBRATION_CALLS):
            nothing(0, 0.0)
        spent = time.thread_time_ns() - begun
        shown = self.ns[SHELL] / _CALIBRATION_CALLS
        self._shown_ns, self._hidden_ns = shown, spent / _CALIBRATION_CALLS - shown
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.ns.clear()
        self.calls.clear()

    def watched(self, function: Callable[..., object], room: str) -> Callable[..., object]:
        """Return a function that does the same and counts as `room`."""
        now = time.thread_time_ns

        @functools.wraps(function)
        def watch(*arguments: object, **named: object) -> object:
            outer_ns, self._inner_ns = self._inner_ns, 0.0
            begun = now()
            try:
                return function(*arguments, **named)
            finally:
                spent = now() - begun
                self.ns[room] = self.ns.get(room, 0.0) + spent - self._inner_ns - self._shown_ns
                self.calls[room] = self.calls.get(room, 0) + 1
                self._inner_ns = outer_ns + spent + self._hidden_ns

        return watch


def serve(control: Connection, data: str, *, with_sessions: bool) -> None:
    """Run `gnomon serve` until SIGTERM, and answer "start" and "stop" (by a `Reading`) on `control`."""
    with (Path(data) / "log.txt").open("wb") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    stopwatch = _Stopwatch()
    stopwatch.calibrate()
    for owner, name, room in _DOORS + (_SESSION_DOORS if with_sessions else ()):
        setattr(owner, name, stopwatch.watched(getattr(owner, name), room))
    threading.Thread(target=_control, args=(control, stopwatch), name="control", daemon=True).start()
    main(["serve", "--data", data, "--listen", "tcp://127.0.0.1:0", "--anonymous"])


def _control(control: Connection, stopwatch: _Stopwatch) -> None:
    begun = _usage()
    while True:
        try:
            command = control.recv()
        except EOFError:
            return
        if command == "start":
            stopwatch.reset()
            begun = _usage()
            control.send(os.getpid())
            continue
        user_s, system_s, cpu_s = (after - before for before, after in zip(begun, _usage(), strict=True))
        control.send(
            Reading(
                ns=dict(stopwatch.ns),
                calls=dict(stopwatch.calls),
                user_s=user_s,
                system_s=system_s,
                cpu_s=cpu_s - stopwatch.own_ns / 1e9,
            )
        )


def _usage() -> tuple[float, float, float]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime, usage.ru_stime, time.process_time()
