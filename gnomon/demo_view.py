"""What the demo shows: a live table on a terminal, plain lines elsewhere.

Knows: how a shadow's view is drawn.
Does not know: where views come from, when the demo is over.
Spec: none.
"""

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self

import click
from rich.console import Console
from rich.live import Live
from rich.table import Column, Table

from simulators import ShadowView


class DemoView(Protocol):
    """Shows the things' shadows while it is entered."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End with the last picture standing."""

    def say(self, text: str) -> None:
        """Show a sentence."""

    def show(self, views: Mapping[str, ShadowView]) -> None:
        """Show how things stand."""


def choose_view(*, is_quiet: bool) -> DemoView:
    """Return a table for a terminal, lines for anything else, and silence where asked."""
    console = Console()
    if is_quiet:
        return LineView(is_quiet=True)
    return TableView(console) if console.is_terminal else LineView()


class LineView:
    """One line for every change."""

    def __init__(self, *, is_quiet: bool = False) -> None:
        self._is_quiet = is_quiet
        self._shown: dict[str, ShadowView] = {}

    def __enter__(self) -> Self:
        """Begin to show."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left to draw."""

    def say(self, text: str) -> None:
        """Print a sentence."""
        if not self._is_quiet:
            click.echo(text)

    def show(self, views: Mapping[str, ShadowView]) -> None:
        """Print the things that changed."""
        for name, view in views.items():
            if view.version and view != self._shown.get(name):
                self._shown[name] = view
                desired, reported, delta = map(_compact, (view.desired, view.reported, view.delta))
                self.say(
                    f"{name}  version {view.version}  desired {desired}  reported {reported}  delta {delta}"
                    f"{_round_trip(view, '  in ')}"
                )


class TableView:
    """A table that follows the shadows."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=10)

    def __enter__(self) -> Self:
        """Take the terminal's last lines."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last table standing."""
        self._live.stop()

    def say(self, text: str) -> None:
        """Print a sentence above the table."""
        self._console.print(text, highlight=False, markup=False)

    def show(self, views: Mapping[str, ShadowView]) -> None:
        """Draw the table anew."""
        columns = ("thing", "desired", "reported", "delta", "version", "round trip")
        table = Table(*(Column(title, overflow="fold") for title in columns))
        for name, view in views.items():
            missing = f"[yellow]{_escaped(view.delta)}[/yellow]" if view.delta else "[green]none[/green]"
            table.add_row(
                name,
                _escaped(view.desired),
                _escaped(view.reported),
                missing if view.version else "",
                str(view.version or ""),
                _round_trip(view, ""),
            )
        self._live.update(table)


def _compact(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _escaped(value: Mapping[str, Any]) -> str:
    """Return an object for rich, which reads square brackets as its markup."""
    return _compact(value).replace("[", "\\[") if value else ""


def _round_trip(view: ShadowView, before: str) -> str:
    return "" if view.round_trip_s is None else f"{before}{view.round_trip_s * 1000:.0f} ms"
