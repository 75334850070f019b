"""Where each microsecond goes: `python -m benchmarks.load.profile` in the project's folder.

Knows: how readings of the rooms become a table of microseconds per message.
Does not know: how rooms are watched (rooms), how loads are made (generator).
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from .generator import Endpoint, Generator, GeneratorError
from .measurement import Delivery
from .rooms import ENGINE, SESSION, SHELL, STREAM, TURN_END, WRITE, Reading, serve
from .scenarios import SCENARIOS, Scenario

_LOOP: Final = "loop and socket read: the rest"
_ROOMS: Final = (_LOOP, SHELL, STREAM, ENGINE, SESSION, TURN_END, WRITE)
_DEFAULT: Final = ("fanin-qos0", "fanin-qos1", "fanout-qos0")
_READY_TIMEOUT_S: Final = 20.0
_END_TIMEOUT_S: Final = 10.0
_EPILOG: Final = """\
examples:
  python -m benchmarks.load.profile
  python -m benchmarks.load.profile --scenario pairs-qos1 --runs 5

Each row is the median of the runs. The first row is what no other room explains: reading the sockets, the
event loop, and the timers between.
"""

Rooms = dict[str, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Profile the scenarios that the command line names; returns the exit code."""
    options = _parse(arguments)
    console = Console()
    for name in options.scenario or _DEFAULT:
        scenario = SCENARIOS[name]
        try:
            _profile(scenario, options.runs, console)
        except GeneratorError as error:
            console.print(f"{name}: {error}")
            return 1
    return 0


def _profile(scenario: Scenario, runs: int, console: Console) -> None:
    taken = [_run(scenario, with_sessions=False) for _ in range(runs)]
    session_us = 0.0
    if scenario.qos:
        watched = [_run(scenario, with_sessions=True) for _ in range(runs)]
        session_us = median(_us(*each)[SESSION] for each in watched)
    rooms = {room: median(_us(*each)[room] for each in taken) for room in _ROOMS}
    rooms[SESSION] = session_us
    rooms[ENGINE] -= session_us
    _print(console, scenario, rooms, taken)


def _us(reading: Reading, delivery: Delivery) -> Rooms:
    """Return microseconds per delivered message by room."""
    rooms = {room: reading.ns.get(room, 0) / 1000 / delivery.delivered for room in _ROOMS}
    rooms[_LOOP] = reading.cpu_s * 1e6 / delivery.delivered - sum(rooms.values())
    return rooms


def _print(
    console: Console, scenario: Scenario, rooms: Rooms, taken: Sequence[tuple[Reading, Delivery]]
) -> None:
    total = sum(rooms.values())
    table = Table(title=scenario.name, title_justify="left", caption=_caption(taken), caption_justify="left")
    table.add_column("room", min_width=40)
    table.add_column("µs per message", justify="right")
    table.add_column("share", justify="right")
    for room, value in rooms.items():
        if value:
            table.add_row(room, f"{value:.3f}", f"{value / total:.0%}")
    table.add_section()
    table.add_row("all", f"{total:.3f}", "")
    console.print(table)


def _caption(taken: Sequence[tuple[Reading, Delivery]]) -> str:
    delivered = median(delivery.delivered for _, delivery in taken)
    user, system = (
        median(value * 1e6 / delivered for value in values)
        for values in zip(*((reading.user_s, reading.system_s) for reading, _ in taken), strict=True)
    )
    reads, turns, writes = (
        delivered / median(reading.calls.get(room, 1) for reading, _ in taken)
        for room in (SHELL, TURN_END, WRITE)
    )
    return (
        f"user {user:.3f} µs, system {system:.3f} µs; deliveries per read {reads:.1f}, "
        f"per turn {turns:.1f}, per write {writes:.1f}; {len(taken)} runs"
    )


class _RoomMeter:
    """Asks the broker's process for a reading of the measured part."""

    def __init__(self, control: Connection) -> None:
        self._control = control
        self.reading: Reading | None = None

    def start(self) -> None:
        """Begin."""
        self._control.send("start")
        self._control.recv()

    def stop(self) -> None:
        """End."""
        self._control.send("stop")
        self.reading = self._control.recv()


def _run(scenario: Scenario, *, with_sessions: bool) -> tuple[Reading, Delivery]:
    """Run a scenario once against a watched broker.

    Raises:
        GeneratorError: the broker did not start, or the load could not be made.
    """
    with _watched_broker(with_sessions=with_sessions) as (port, control):
        meter = _RoomMeter(control)
        delivery = Generator().run(scenario, Endpoint(host="127.0.0.1", port=port), meter)
    if meter.reading is None or not delivery.delivered:
        raise GeneratorError("nothing was delivered")
    return meter.reading, delivery


@contextmanager
def _watched_broker(*, with_sessions: bool) -> Iterator[tuple[int, Connection]]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory(prefix="gnomon-profile-") as folder, ours:
        process = context.Process(
            target=serve, args=(theirs, folder), kwargs={"with_sessions": with_sessions}, daemon=True
        )
        process.start()
        theirs.close()
        try:
            yield _port(Path(folder) / "ready.json"), ours
        finally:
            process.terminate()
            process.join(_END_TIMEOUT_S)
            if process.is_alive():
                process.kill()
                process.join()


def _port(ready: Path) -> int:
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if ready.exists():
            return urlsplit(json.loads(ready.read_text())["listeners"][0]["url"]).port or 0
        time.sleep(0.02)  # Another process writes the file; there is nothing to wait on.
    raise GeneratorError("the watched broker did not get ready")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [name for name, scenario in SCENARIOS.items() if not scenario.counts_connections]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.load.profile",
        description="Say in which room of the broker the CPU time of a message is spent.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--scenario", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}"
    )
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs of each (default: 3)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
