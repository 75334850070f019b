"""What is told at the end: a table for people, JSON for machines.

Knows: columns, units, what belongs to the record of a run.
Does not know: how anything was measured.
"""

import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from broker.protocol import stream

from .measurement import REFERENCE, Summary
from .peers import ROOT
from .processes import machine

_US_PER_S: Final = 1e6


def environment(*, generator: str, runs: int, scale: float, peers: Mapping[str, str]) -> dict[str, object]:
    """Return what somebody needs to know to take the same figures again."""
    return {
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": machine(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "loop": _loop(),
        "codec": "python" if stream.__file__.endswith(".py") else "native",
        "generator": generator,
        "runs": runs,
        "scale": scale,
        "peers": dict(peers),
    }


def write_json(path: Path, about: Mapping[str, object], summaries: Sequence[Summary]) -> None:
    """Write the record."""
    content = msgspec.json.encode({"environment": about, "results": summaries})
    path.write_bytes(msgspec.json.format(content, indent=2) + b"\n")


def print_table(console: Console, summaries: Sequence[Summary], about: Mapping[str, object]) -> None:
    """Print one row per scenario and broker."""
    table = Table(caption=_caption(about), caption_justify="left")
    table.add_column("scenario", no_wrap=True)
    table.add_column("broker", no_wrap=True)
    for title in ("CPU µs/unit", "range", f"× {REFERENCE}", "units/s", "p50 ms", "p99 ms", "KiB/conn"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("notes")
    last = None
    for each in summaries:
        if last not in (None, each.scenario):
            table.add_section()
        table.add_row("" if last == each.scenario else each.scenario, each.peer, *_cells(each))
        last = each.scenario
    console.print(table)


def _cells(summary: Summary) -> list[str]:
    if not summary.runs:
        return [*("-" for _ in range(7)), summary.error or "not offered"]
    least, most = _number(summary.cpu_us_least), _number(summary.cpu_us_most)
    return [
        _number(summary.cpu_us),
        f"{least}-{most}",
        _number(summary.ratio),
        _number(summary.per_second),
        _number(summary.p50_us, 1000),
        _number(summary.p99_us, 1000),
        _number(summary.rss_kb_per_connection),
        _notes(summary),
    ]


def _notes(summary: Summary) -> str:
    notes = []
    if summary.scale != 1.0:
        notes.append(f"load × {summary.scale:g}")
    for count, word in (
        (summary.lost, "lost"),
        (summary.duplicates, "twice"),
        (summary.reordered, "reordered"),
    ):
        if count:
            notes.append(f"{count} {word}")
    if summary.rss_kb_per_connection is not None and summary.cpu_us:
        notes.append(f"{_number(_US_PER_S / summary.cpu_us)} connects per CPU second")
    if summary.late_p99_us is not None:
        notes.append(f"generator late p99 {_number(summary.late_p99_us, 1000)} ms")
    return ", ".join(notes)


def _number(value: float | None, divisor: float = 1.0) -> str:
    """Return three significant digits, thousands separated."""
    if value is None:
        return ""
    value /= divisor
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _caption(about: Mapping[str, object]) -> str:
    return (
        "Unit: one message delivered, or one connection. CPU is the broker's, all its threads; median of "
        f"{about['runs']} runs and their range. Generator: {about['generator']}. {about['python']}, "
        f"{about['loop']}, codec {about['codec']}, commit {about['commit']}."
    )


def _commit() -> str:
    def git(*arguments: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(ROOT), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    commit = git("rev-parse", "--short=12", "HEAD") or "unknown"
    return f"{commit}+changes" if git("status", "--porcelain", "--untracked-files=no") else commit


def _loop() -> str:
    """Return the loop that the server chooses by itself."""
    try:
        return f"uvloop {version('uvloop')}"
    except PackageNotFoundError:
        return "asyncio"
