"""What a swarm shows: a live table on a terminal, lines elsewhere, and the report at its end.

Knows: how progress and reports are drawn.
Does not know: where they come from.
Spec: none.
"""

from types import TracebackType
from typing import Final, Protocol, Self

import click
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Column, Table

from simulators.swarm import Latency, Report, Scenario, SwarmProgress, latency_of

#: Seconds between two lines, and the least between two readings of a rate.
_LINE_S: Final = 5.0
_RATE_S: Final = 1.0
_NAMES: Final = {
    "connect": "connect to ready",
    "puback": "update to PUBACK",
    "accepted": "update to accepted",
    "delta_converged": "delta to converged",
    "edit_converged": "edit to converged",
    "late": "the swarm's own delay",
}


class SwarmView(Protocol):
    """Shows progress while it is entered."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End with the last picture standing."""

    def show(self, progress: SwarmProgress) -> None:
        """Show how things stand."""


def choose_view(scenario: Scenario, target: str, *, is_quiet: bool) -> SwarmView:
    """Return a table for a terminal, lines for anything else, and silence where asked."""
    console = Console()
    if not is_quiet and console.is_terminal:
        return TableView(scenario, target, console)
    return LineView(scenario, is_quiet=is_quiet)


class _Rates:
    """Updates sent and answered in a second, lately."""

    def __init__(self, scenario: Scenario) -> None:
        self._follows_shadow = scenario.follows_shadow
        self._read = (0.0, 0, 0)
        self.sent = self.answered = 0.0

    def take(self, progress: SwarmProgress) -> None:
        """Take a reading."""
        counts = progress.tally.counts
        answered = counts.accepted if self._follows_shadow else counts.pubacks
        before_s, sent_before, answered_before = self._read
        passed_s = progress.seconds - before_s
        if progress.phase != "load" or passed_s < 0:
            self._read = (0.0, counts.updates_sent, answered)
        elif passed_s >= _RATE_S:
            self.sent = (counts.updates_sent - sent_before) / passed_s
            self.answered = (answered - answered_before) / passed_s
            self._read = (progress.seconds, counts.updates_sent, answered)


class LineView:
    """A line now and then."""

    def __init__(self, scenario: Scenario, *, is_quiet: bool = False) -> None:
        self._scenario = scenario
        self._is_quiet = is_quiet
        self._rates = _Rates(scenario)
        self._shown: tuple[str, float] = ("", 0.0)

    def __enter__(self) -> Self:
        """Begin to show."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left to draw."""

    def show(self, progress: SwarmProgress) -> None:
        """Print a line where a phase begins, and after some seconds."""
        self._rates.take(progress)
        phase, shown_s = self._shown
        if self._is_quiet or (progress.phase == phase and progress.seconds < shown_s + _LINE_S):
            return
        self._shown = (progress.phase, progress.seconds)
        line = (
            f"{progress.phase} {progress.seconds:.0f} s: {progress.done} of {self._scenario.devices} devices"
        )
        if progress.phase == "load":
            rates = self._rates
            line += (
                f", {rates.sent:.0f} updates/s, {rates.answered:.0f} answered/s, {_errors(progress)} errors"
            )
        click.echo(line)


class TableView:
    """A table that follows the swarm."""

    def __init__(self, scenario: Scenario, target: str, console: Console) -> None:
        self._scenario = scenario
        self._target = target
        self._rates = _Rates(scenario)
        self._live = Live(console=console, refresh_per_second=4)

    def __enter__(self) -> Self:
        """Take the terminal's last lines."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last table standing."""
        self._live.stop()

    def show(self, progress: SwarmProgress) -> None:
        """Draw the table anew."""
        self._rates.take(progress)
        duration_s = self._scenario.duration_s if progress.phase == "load" else None
        table = Table.grid(padding=(0, 2))
        errors = _errors(progress)
        for name, value in (
            ("server", escape(self._target)),
            (
                progress.phase,
                f"{progress.seconds:.0f}{'' if duration_s is None else f' of {duration_s:g}'} s",
            ),
            ("devices", f"{progress.done} of {self._scenario.devices}"),
            ("updates", f"{self._rates.sent:.0f}/s sent, {self._rates.answered:.0f}/s answered"),
            ("errors", f"[red]{errors}[/red]" if errors else "0"),
        ):
            table.add_row(name, value)
        for key, name in _NAMES.items():
            latency = latency_of(progress.tally.latencies[key])  # type: ignore[index]  # its own names
            if latency.count:
                table.add_row(name, f"p50 {_ms(latency.p50_ms)}, p99 {_ms(latency.p99_ms)}")
        self._live.update(table)


def print_report(report: Report) -> None:
    """Print a report for people."""
    counts = report.counts
    click.echo(
        f"{report.ready} of {report.scenario.devices} devices on {report.target}, {report.seconds:g} s: "
        f"{report.sent_per_s:g} updates/s sent, {report.answered_per_s:g}/s answered"
    )
    if counts.deltas or counts.edits_sent:
        click.echo(
            f"{counts.edits_sent} edits sent, {counts.edits_converged} converged; "
            f"{counts.deltas} deltas, {counts.deltas_followed} reports that follow them"
        )
    table = Table(
        Column("latency", no_wrap=True),
        *(
            Column(title, justify="right", no_wrap=True)
            for title in ("count", "p50", "p90", "p99", "p99.9", "max")
        ),
        title="milliseconds, from the time in the schedule",
        title_justify="left",
    )
    for key, latency in report.latencies.items():
        if latency.count:
            table.add_row(_NAMES[key], str(latency.count), *_figures(latency))
    Console().print(table)
    for reason, times in report.failures.items():
        click.echo(f"connection: {reason} ({times})")
    for code, times in report.refusals.items():
        click.echo(f"refused with {code}: {times}")


def _errors(progress: SwarmProgress) -> int:
    return sum(progress.tally.counts.errors.values())


def _figures(latency: Latency) -> list[str]:
    times = (latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.p999_ms, latency.maximum_ms)
    return [f"{time_ms:.1f}" if time_ms is not None else "" for time_ms in times]


def _ms(time_ms: float | None) -> str:
    return "" if time_ms is None else f"{time_ms:.1f} ms"
