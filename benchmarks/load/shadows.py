"""What shadows cost: `python benchmarks/load/shadows.py --help`; `make bench ARGS=--shadows`.

Knows: the four measurements, which cores who gets, what the server spends, the table.
Does not know: how devices behave (the swarm, shadow_client), how the server is profiled.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import urlsplit

# Started as a program, this file has its own folder on the path, not the project's.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from benchmarks.load.peers import HOST, Certificates, Gnomon, RunningPeer, make_certificates
from benchmarks.load.processes import cpu_ns, rss_kb
from benchmarks.load.report import environment
from benchmarks.load.shadow_client import Operation, Outcome, Plan, run
from benchmarks.load.wire import TLSFiles
from fleet import DevelopmentPKI
from gnomon.serve import choose_loop
from simulators.swarm import Report, Scenario, Swarm, Target

_PROCESSES: Final = 2
_SERVER_CORES: Final = 2
_RAMP: Final = 400.0
_MIB: Final = 1024
_PARTS: Final = ("updates", "paced", "many", "get")
#: The limits per thing are for devices, not for a load; a commit still waits for the disk.
_CONFIGURATION: Final = "[shadow]\nrequests_per_second_maximum = 0\n"


class Row(Struct, frozen=True, kw_only=True):
    """A line of the table: medians of all runs, and the least and the most of each."""

    what: str
    figures: dict[str, float]
    least: dict[str, float]
    most: dict[str, float]


class LoadFailedError(Exception):
    """Not every request was accepted: the figures would be of something else."""


class _Gnomon(Gnomon):
    """Our server with mutual TLS and a database on disk, on cores of its own where there are enough."""

    def __init__(self, cores: Sequence[int]) -> None:
        self._cores = cores

    def command(self, folder: Path, certificates: Certificates) -> list[str]:
        """Write the settings."""
        configuration = folder / "gnomon.toml"
        configuration.write_text(_CONFIGURATION)
        more = ["--config", str(configuration), "--http", f"http://{HOST}:0"]
        pinned = ["taskset", "-c", ",".join(map(str, self._cores))] if self._cores else []
        return [*pinned, *super().command(folder, certificates), *more]


class _Server(Struct, frozen=True):
    """A running server, and how its counters are read."""

    peer: RunningPeer
    metrics: str

    def counters(self) -> dict[str, float]:
        """Return how many requests were taken and how many commits made so far."""
        with urllib.request.urlopen(self.metrics) as response:  # noqa: S310 - our own, on loopback
            lines = response.read().decode().splitlines()
        totals = dict(line.split(" ")[:2] for line in lines if line.startswith("gnomon_shadow_"))
        return {name: float(totals[f"gnomon_shadow_{name}_total"]) for name in ("requests", "commits")}


class _Meter:
    """What the server spends between two moments."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self.begin()

    def begin(self) -> None:
        """Begin, or begin again."""
        self._counted, self._cpu_ns = self._server.counters(), cpu_ns(self._server.peer.pid)

    def figures(self, requests: int, seconds: float, what: str) -> dict[str, float]:
        """Return what so many accepted requests in so many seconds came to.

        Raises:
            LoadFailedError: the server counted another number.
        """
        cpu_s = (cpu_ns(self._server.peer.pid) - self._cpu_ns) / 1e9
        after = self._server.counters()
        counted, commits = (after[name] - self._counted[name] for name in ("requests", "commits"))
        if counted != requests:
            raise LoadFailedError(f"{requests} requests were accepted, and the server took {counted:g}")
        figures = {
            f"{what}/s": requests / seconds,
            "cores": cpu_s / seconds,
            f"CPU µs/{what}": cpu_s * 1e6 / requests,
        }
        return figures | ({f"{what}/commit": requests / commits} if commits else {})


class Bench:
    """Starts servers, loads them from processes of their own, and reads what they spend."""

    def __init__(
        self, folder: Path, pool: ProcessPoolExecutor, options: argparse.Namespace, cores: Sequence[int]
    ) -> None:
        self._folder = folder
        self._pool = pool
        self._options = options
        self._gnomon = _Gnomon(cores)
        self._certificates = make_certificates(folder / "pki")
        self._count = 0

    def updates(self, rate: float | None) -> dict[str, float]:
        """Report to classic shadows: `rate` updates a second of all devices, None for the highest."""
        options = self._options
        scenario = Scenario(
            devices=options.devices,
            rate=None if rate is None else rate / options.devices,
            duration_s=options.seconds,
            ramp=_RAMP,
            processes=_PROCESSES,
            fields=options.fields,
        )
        with self._server() as server:
            meter = _Meter(server)

            def on_load(is_beginning: bool) -> None:
                if is_beginning:
                    meter.begin()

            swarm = Swarm(
                scenario,
                Target(host="localhost", port=server.peer.tls_port or 0, pki=self._folder / "pki"),
                on_load=on_load,
                loop_factory=choose_loop("auto"),
            )
            report: Report = swarm.run()
            figures = meter.figures(report.counts.accepted, report.seconds, "update")
        if report.errors:
            raise LoadFailedError(f"{report.errors} {report.refusals}")
        latency, late = report.latencies["accepted"], report.latencies["late"]
        figures |= {"p50 ms": latency.p50_ms or 0.0, "p99 ms": latency.p99_ms or 0.0}
        return figures | ({"generator late p99 ms": late.p99_ms or 0.0} if late.count else {})

    def many(self) -> dict[str, float]:
        """Report to named shadows, drawn by chance, and watch the server's memory."""
        options = self._options
        with self._server() as server:
            each = max(1, options.shadows // options.devices)
            self._load(server, "update", shadows=each, seconds=None)
            meter, memory = _Meter(server), []
            before_kb = rss_kb(server.peer.pid)
            is_over = threading.Event()

            def watch() -> None:
                while not is_over.wait(1.0):
                    memory.append(rss_kb(server.peer.pid))

            watcher = threading.Thread(target=watch)
            watcher.start()
            try:
                requests, seconds = self._load(server, "update", shadows=each, seconds=options.memory_seconds)
                figures = meter.figures(requests, seconds, "update")
            finally:
                is_over.set()
                watcher.join()
            half = memory[len(memory) // 2 :] or [before_kb]
            return figures | {
                "shadows": float(each * options.devices),
                "RSS MiB when all are there": before_kb / _MIB,
                "at half time": half[0] / _MIB,
                "at the end": half[-1] / _MIB,
                "most": max([before_kb, *memory]) / _MIB,
            }

    def get(self) -> dict[str, float]:
        """Read classic shadows."""
        with self._server() as server:
            self._load(server, "update", shadows=0, seconds=None)
            meter = _Meter(server)
            requests, seconds = self._load(server, "get", shadows=0, seconds=self._options.seconds)
            return meter.figures(requests, seconds, "get")

    def _load(
        self, server: _Server, operation: Operation, *, shadows: int, seconds: float | None
    ) -> tuple[int, float]:
        """Load the server from all processes; returns requests and seconds, connecting left out."""
        names = [f"thing-{number}" for number in range(self._options.devices)]
        files = DevelopmentPKI(self._folder / "pki").ensure_devices(names)
        devices = [
            (name, TLSFiles(certificate=each.certificate, key=each.key, authority=each.authority))
            for name, each in zip(names, files, strict=True)
        ]
        futures: list[Future[Outcome]] = [
            self._pool.submit(
                run,
                Plan(
                    address=(HOST, server.peer.tls_port or 0),
                    devices=devices[process::_PROCESSES],
                    operation=operation,
                    shadows=shadows,
                    fields=self._options.fields,
                    seconds=seconds,
                ),
            )
            for process in range(_PROCESSES)
        ]
        outcomes = [future.result() for future in futures]
        for outcome in outcomes:
            if outcome.rejected:
                raise LoadFailedError(f"{outcome.rejected.most_common(3)}")
        begun_ns = min(outcome.begun_ns for outcome in outcomes)
        ended_ns = max(outcome.ended_ns for outcome in outcomes)
        return sum(outcome.accepted for outcome in outcomes), (ended_ns - begun_ns) / 1e9

    @contextmanager
    def _server(self) -> Iterator[_Server]:
        self._count += 1
        folder = self._folder / f"run-{self._count}"
        with self._gnomon.running(folder, self._certificates) as peer:
            address = json.loads((folder / "ready.json").read_text())["http"]
            if urlsplit(address).scheme != "http":
                raise ValueError(address)
            yield _Server(peer, f"{address}/metrics")


def measure(
    options: argparse.Namespace, bench: Bench, tell: Callable[[str, dict[str, float]], None]
) -> list[Row]:
    """Run what was asked for."""
    parts: dict[str, list[tuple[str, Callable[[], dict[str, float]]]]] = {
        "updates": [("updates, as many as go", lambda: bench.updates(None))],
        "paced": [(f"updates, {rate:,.0f}/s", partial(bench.updates, rate)) for rate in options.rate],
        "many": [("updates of many shadows, as many as go", bench.many)],
        "get": [("gets, as many as go", bench.get)],
    }
    rows = []
    for part in options.part or _PARTS:
        for what, run_once in parts[part]:
            taken = []
            for _ in range(options.runs):
                taken.append(run_once())
                tell(what, taken[-1])
            least, middle, most = (
                {name: pick([each[name] for each in taken]) for name in taken[0]}
                for pick in (min, median, max)
            )
            rows.append(Row(what=what, figures=middle, least=least, most=most))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit code: 1 where a request was refused."""
    options = _parse(arguments)
    console = Console(width=160)
    context = multiprocessing.get_context("spawn")
    allowed = os.sched_getaffinity(0)
    ours, servers = _split(sorted(allowed))
    os.sched_setaffinity(0, ours)  # The generators are our children.
    try:
        with (
            tempfile.TemporaryDirectory(prefix="gnomon-shadows-", dir=options.folder) as folder,
            ProcessPoolExecutor(_PROCESSES, mp_context=context) as pool,
        ):
            bench = Bench(Path(folder), pool, options, servers)
            rows = measure(
                options,
                bench,
                lambda what, figures: console.print(f"  {what}: {_told(figures)}", highlight=False),
            )
    except LoadFailedError as error:
        console.print(f"not every request was accepted: {error}")
        return 1
    finally:
        os.sched_setaffinity(0, allowed)
    about = environment(generator="swarm", runs=options.runs, scale=1.0, peers={})
    _print(console, rows, options, servers)
    if options.json:
        record = {"environment": about, "results": [msgspec.to_builtins(row) for row in rows]}
        options.json.write_text(json.dumps(record, indent=2) + "\n")
    return 0


def _split(cores: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """Return the generators' cores and the server's; where there are too few, everybody has all."""
    if len(cores) < _SERVER_CORES + 1:
        return cores, ()
    return cores[_SERVER_CORES:], cores[:_SERVER_CORES]


def _print(
    console: Console, rows: Sequence[Row], options: argparse.Namespace, servers: Sequence[int]
) -> None:
    pinned = f"on cores {', '.join(map(str, servers))} of its own" if servers else "not pinned"
    table = Table(
        caption=f"Median of {options.runs} runs. {options.devices} devices over mutual TLS, QoS 1, "
        f"{options.fields} fields, fsync on, no limit of requests per thing. CPU is the server's, all "
        f"its threads, {pinned}.",
        caption_justify="left",
    )
    table.add_column("what")
    table.add_column("figures")
    for row in rows:
        table.add_row(row.what, _told(row.figures))
    console.print(table)


def _told(figures: dict[str, float]) -> str:
    return ", ".join(
        f"{name} {value:,.0f}" if value >= 100 else f"{name} {value:.3g}" for name, value in figures.items()
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/load/shadows.py",
        description="Measure device shadows over MQTT with mutual TLS, with what is accepted safe on disk.",
    )
    parser.add_argument(
        "--part", action="append", choices=_PARTS, help="one part; may be repeated (default: all)"
    )
    parser.add_argument("--runs", type=int, default=3, help="runs of each (%(default)s)")
    parser.add_argument("--devices", type=int, default=200, help="connected devices (%(default)s)")
    parser.add_argument("--fields", type=int, default=8, help="fields of an update (%(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of a load (%(default)s)")
    parser.add_argument(
        "--rate", type=float, action="append", help="paced: updates a second; may be repeated (4000, 8000)"
    )
    parser.add_argument("--shadows", type=int, default=100_000, help="many: named shadows (%(default)s)")
    parser.add_argument(
        "--memory-seconds", type=float, default=60.0, help="many: length of the load (%(default)s)"
    )
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="on the disk to measure")  # noqa: S108
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    options = parser.parse_args(arguments)
    options.rate = options.rate or [4000.0, 8000.0]
    return options


if __name__ == "__main__":
    sys.exit(main())
