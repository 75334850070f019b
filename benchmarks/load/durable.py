"""What durable sessions cost: `python benchmarks/load/durable.py --help`; `make bench ARGS=--durable`.

Knows: the four measurements, the settings that they vary, what the broker spends, the table.
Does not know: sockets and packets (durable_offline, durable_pairs), how a store is filled (restart).
"""

import argparse
import asyncio
import json
import multiprocessing
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import urlsplit

# Started as a program, this file has its own folder on the path, not the project's.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import msgspec
import structlog
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from benchmarks.load.durable_offline import Flow, drain, make_sessions, publish, take_pending
from benchmarks.load.durable_pairs import PairsPlan, run_pairs
from benchmarks.load.durable_wire import PAYLOAD_SIZE
from benchmarks.load.peers import Certificates, Gnomon, Mosquitto, RunningPeer, make_certificates
from benchmarks.load.processes import cpu_ns, rss_kb
from benchmarks.load.report import environment
from benchmarks.load.restart import fill
from broker.settings import BrokerSettings
from simulators.histogram import Histogram
from storage import StorageSettings

_PROCESSES: Final = 2
#: Before pairs are measured: to connect them all, and then to run a while.
SETUP_S: Final = 2.0
WARM_UP_S: Final = 2.0
_WINDOW: Final = 8
_LIMIT_S: Final = 60.0
_MIB: Final = 1024
_PARTS: Final = ("offline", "pairs", "paced", "restart", "mosquitto")


class Row(Struct, frozen=True, kw_only=True):
    """A line of the table: one measurement with one setting, medians of all runs."""

    what: str
    setting: str
    figures: dict[str, float]


class _Gnomon(Gnomon):
    """Our broker with plain TCP only, metrics, and the settings under test."""

    def __init__(self, durability: str, commit_interval_s: float, switch_interval_s: float) -> None:
        self.setting = f"{durability}, {commit_interval_s * 1e3:g} ms, {switch_interval_s * 1e3:g} ms"
        self._settings = (
            f"[broker]\ncommit_interval_s = {commit_interval_s}\n"
            f'[storage]\ndurability = "{durability}"\nswitch_interval_s = {switch_interval_s}\n'
        )

    def command(self, folder: Path, certificates: Certificates) -> list[str]:
        """Write the settings."""
        configuration = folder / "gnomon.toml"
        configuration.write_text(self._settings)
        listen = ["--listen", "tcp://127.0.0.1:0", "--anonymous", "--http", "http://127.0.0.1:0"]
        start = [sys.executable, "-m", "gnomon", "serve"]
        return [*start, "--config", str(configuration), "--data", str(folder), *listen]

    def ports(self, folder: Path) -> tuple[int, int | None] | None:
        """Read ready.json."""
        try:
            ready = json.loads((folder / "ready.json").read_text())
        except FileNotFoundError:
            return None
        return urlsplit(ready["listeners"][0]["url"]).port or 0, None


class _PersistentMosquitto(Mosquitto):
    """mosquitto that writes its whole state when something changed; PUBACK does not wait for that."""

    setting = "autosave_on_changes"

    def command(self, folder: Path, certificates: Certificates) -> list[str]:
        """Add persistence to the configuration."""
        command = super().command(folder, certificates)
        with (folder / "mosquitto.conf").open("a") as file:
            file.write(
                f"persistence true\npersistence_location {folder}/\n"
                "autosave_interval 1\nautosave_on_changes true\n"
            )
        return command


class Bench:
    """Starts brokers with settings, loads them from processes of its own, and reads what they spend."""

    def __init__(self, folder: Path, pool: ProcessPoolExecutor) -> None:
        self._folder = folder
        self._pool = pool
        self._certificates = make_certificates(folder / "pki")
        self._count = 0

    def in_and_out(
        self, peer: _Gnomon | _PersistentMosquitto, *, sessions: int, messages: int, limit_s: float = _LIMIT_S
    ) -> Iterator[Row]:
        """(a): into offline sessions, and out again when they reconnect."""
        with self._running(peer) as (running, counters):
            numbers = range(sessions)
            self._pool.submit(make_sessions, running.port, numbers).result()
            spent = _Spent(running.pid, counters)
            work = partial(publish, running.port, sessions, messages, 8, 500, limit_s)
            into: Flow = self._pool.submit(work).result()
            yield Row(what="into offline sessions", setting=peer.setting, figures=spent.by(into))
            if into.messages < messages:
                return  # Publishing was cut short, so that sessions do not have the same number.
            spent = _Spent(running.pid, counters)
            out: Flow = self._pool.submit(drain, running.port, numbers, messages // sessions).result()
            yield Row(what="out on reconnect", setting=peer.setting, figures=spent.by(out))

    def pairs(self, peer: _Gnomon, *, pairs: int, seconds: float, rate: float = 0.0) -> Iterator[Row]:
        """(b): between connected clients, saturated or paced at `rate` messages a second."""
        with self._running(peer) as (running, counters):
            begin = time.monotonic() + SETUP_S + WARM_UP_S
            plans = [
                PairsPlan(
                    port=running.port,
                    pairs=range(share, pairs, _PROCESSES),
                    begin_s=begin,
                    end_s=begin + seconds,
                    window=_WINDOW,
                    rate=rate / _PROCESSES,
                )
                for share in range(_PROCESSES)
            ]
            futures = [self._pool.submit(run_pairs, plan) for plan in plans]
            time.sleep(max(0.0, begin - time.monotonic()))
            spent = _Spent(running.pid, counters)
            time.sleep(max(0.0, begin + seconds - time.monotonic()))
            cpu_s, counted = spent.now()
            results = [future.result() for future in futures]
        messages = sum(each.delivered for each in results)
        figures = _figures(Flow(messages=messages, begun_s=0.0, ended_s=seconds), cpu_s, counted)
        if rate:
            for name, counts in (
                ("latency", [each.latency for each in results]),
                ("puback", [each.acknowledged for each in results]),
            ):
                histogram = Histogram()
                for each in counts:
                    histogram.merge(Histogram(each))
                figures[f"{name} p50 ms"] = (histogram.quantile_us(0.5) or 0.0) / 1e3
                figures[f"{name} p99 ms"] = (histogram.quantile_us(0.99) or 0.0) / 1e3
        what = f"{pairs} pairs, {rate:g} messages/s" if rate else f"{pairs} pairs, saturated"
        yield Row(what=what, setting=peer.setting, figures=figures)

    def restart(self, peer: _Gnomon, *, messages: int, sessions: int) -> Iterator[Row]:
        """(c): start on a database that is full already."""
        folder = self._folder / "restart"
        if not folder.exists():
            folder.mkdir()
            filling = partial(_fill, folder / "gnomon.db", messages, sessions)
            self._pool.submit(filling).result()
        begun = time.monotonic()
        with peer.running(folder, self._certificates) as running:
            ready_s = time.monotonic() - begun
            figures = {
                "ready s": ready_s,
                "RSS MiB": rss_kb(running.pid) / _MIB,
                "database MiB": (folder / "gnomon.db").stat().st_size / _MIB**2,
            }
            self._count += 1  # Another session each time: this one is empty afterwards.
            name = f"device-{self._count:07}"
            took = self._pool.submit(take_pending, running.port, name, messages // sessions).result()
            figures["first session ms"] = took * 1e3
        what = f"restart: {messages:,} messages, {sessions:,} sessions"
        yield Row(what=what, setting=peer.setting, figures=figures)

    @contextmanager
    def _running(
        self, peer: Gnomon | Mosquitto
    ) -> Iterator[tuple[RunningPeer, Callable[[], dict[str, float]]]]:
        """Start a fresh broker; the function returned reads its counters."""
        self._count += 1
        folder = self._folder / f"run-{self._count}"
        with peer.running(folder, self._certificates) as running:
            yield running, partial(_counters, folder / "ready.json")


class _Spent:
    """What a broker spends from here on."""

    def __init__(self, pid: int, counters: Callable[[], dict[str, float]]) -> None:
        self._pid = pid
        self._counters = counters
        self._before = counters()
        self._begun_ns = cpu_ns(pid)

    def now(self) -> tuple[float, dict[str, float]]:
        """Return CPU seconds, and what the counters rose by."""
        cpu_s = (cpu_ns(self._pid) - self._begun_ns) / 1e9
        after = self._counters()
        return cpu_s, {name: after[name] - value for name, value in self._before.items()}

    def by(self, flow: Flow) -> dict[str, float]:
        """Return the figures of messages that went through meanwhile."""
        return _figures(flow, *self.now())


def _figures(flow: Flow, cpu_s: float, counted: dict[str, float]) -> dict[str, float]:
    seconds = flow.ended_s - flow.begun_s
    figures = {
        "messages/s": flow.per_second,
        "cores": cpu_s / seconds,
        "CPU µs/message": cpu_s * 1e6 / max(1, flow.messages),
    }
    if counted.get("commits"):
        figures["rows/message"] = counted["rows"] / max(1, flow.messages)
        figures["messages/commit"] = flow.messages / counted["commits"]
    return figures


def _counters(ready: Path) -> dict[str, float]:
    """Read what the database counted; nothing of a broker that has none."""
    if not ready.exists():
        return {}
    with urllib.request.urlopen(f"{json.loads(ready.read_text())['http']}/metrics") as response:  # noqa: S310
        lines = response.read().decode().splitlines()
    totals = dict(line.split(" ")[:2] for line in lines if not line.startswith("#") and " " in line)
    return {name: float(totals[f"gnomon_storage_{name}_total"]) for name in ("rows", "commits")}


def _fill(path: Path, messages: int, sessions: int) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    asyncio.run(fill(path, messages, sessions, identity=None))


def summarized(rows: Sequence[Row]) -> list[Row]:
    """Return medians over the runs of each measurement and setting, in the order of first appearance."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.what, row.setting), []).append(row)
    return [
        Row(
            what=what,
            setting=setting,
            figures={name: median(row.figures[name] for row in group) for name in group[0].figures},
        )
        for (what, setting), group in groups.items()
    ]


def measure(options: argparse.Namespace, bench: Bench, tell: Callable[[Row], None]) -> list[Row]:
    """Run what was asked for; settings take turns, so that noise meets all of them."""
    durable = [
        _Gnomon("fsync", commit, switch)
        for commit, switch in product(options.commit_interval_s, options.switch_interval_s)
    ]
    memory = _Gnomon("memory", options.commit_interval_s[0], options.switch_interval_s[0])
    parts: dict[str, Callable[[], Iterator[Iterator[Row]]]] = {
        "offline": lambda: (
            bench.in_and_out(peer, sessions=options.sessions, messages=options.messages) for peer in durable
        ),
        "pairs": lambda: (
            bench.pairs(peer, pairs=options.pairs, seconds=options.seconds) for peer in [memory, *durable]
        ),
        "paced": lambda: (
            bench.pairs(peer, pairs=options.pairs, seconds=options.seconds, rate=options.rate)
            for peer in [memory, *durable]
        ),
        "restart": lambda: (
            bench.restart(peer, messages=options.stored_messages, sessions=options.stored_sessions)
            for peer in durable[:1]
        ),
        "mosquitto": lambda: (
            bench.in_and_out(
                _PersistentMosquitto(),
                sessions=options.sessions,
                messages=options.messages,
                limit_s=options.seconds,
            )
            for _ in range(1)
        ),
    }
    rows = []
    for part in options.part or _PARTS:
        for _ in range(options.runs):
            for measurement in parts[part]():
                for row in measurement:
                    tell(row)
                    rows.append(row)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for."""
    options = _parse(arguments)
    console = Console(width=160)
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="gnomon-durable-", dir=options.folder) as folder,
        ProcessPoolExecutor(_PROCESSES, mp_context=context) as pool,
    ):
        bench = Bench(Path(folder), pool)
        rows = summarized(
            measure(options, bench, lambda row: console.print(f"  {_line(row)}", highlight=False))
        )
    about = environment(generator="durable", runs=options.runs, scale=1.0, peers={})
    print_rows(console, rows, about)
    if options.json:
        record = {"environment": about, "results": [msgspec.to_builtins(row) for row in rows]}
        options.json.write_text(json.dumps(record, indent=2) + "\n")
    return 0


def print_rows(console: Console, rows: Sequence[Row], about: Mapping[str, object]) -> None:
    """Print the table."""
    table = Table(
        caption=f"Median of {about['runs']} runs. {PAYLOAD_SIZE}-byte payload, MQTT 3.1.1, QoS 1. Setting: "
        "durability, least time between commits, switch interval. CPU is the broker's, all its threads. "
        f"{about['python']}, {about['loop']}, commit {about['commit']}.",
        caption_justify="left",
    )
    for title in ("what", "setting", "figures"):
        table.add_column(title)
    for row in rows:
        table.add_row(row.what, row.setting, _told(row.figures))
    console.print(table)


def _line(row: Row) -> str:
    return f"{row.what}; {row.setting}: {_told(row.figures)}"


def _told(figures: Mapping[str, float]) -> str:
    return ", ".join(
        f"{name} {value:,.0f}" if value >= 100 else f"{name} {value:.3g}" for name, value in figures.items()
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/load/durable.py",
        description="Measure what durable sessions cost, with what is written safe from a power cut.",
    )
    parser.add_argument(
        "--part", action="append", choices=_PARTS, help="one part; may be repeated (default: all)"
    )
    parser.add_argument("--runs", type=int, default=3, help="runs of each (%(default)s)")
    parser.add_argument("--sessions", type=int, default=100, help="offline sessions (%(default)s)")
    parser.add_argument("--messages", type=int, default=400_000, help="messages into them (%(default)s)")
    parser.add_argument("--pairs", type=int, default=100, help="connected pairs (%(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of their load (%(default)s)")
    parser.add_argument("--rate", type=float, default=2_000.0, help="paced: messages a second (%(default)s)")
    parser.add_argument("--stored-messages", type=int, default=1_000_000, help="restart (%(default)s)")
    parser.add_argument("--stored-sessions", type=int, default=100_000, help="restart (%(default)s)")
    for name, default in (
        ("--commit-interval-s", BrokerSettings.model_fields["commit_interval_s"].default),
        ("--switch-interval-s", StorageSettings.model_fields["switch_interval_s"].default),
    ):
        parser.add_argument(
            name, type=_numbers, default=[default], metavar="S,S", help="settings to compare (default)"
        )
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="on the disk to measure")  # noqa: S108
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    return parser.parse_args(arguments)


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
