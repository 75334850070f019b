"""How shadows look on a terminal: tables, coloured differences, ages.

Knows: rich, what stands in which column.
Does not know: where documents come from.
Spec: none.

Everything shown may come from a stranger's device: text goes through `plain` or `plain_json`, and never into
rich's markup.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeGuard

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shadow import Reply

from .shadow_command_client import Happening
from .shadow_command_text import plain, plain_json
from .shadow_command_values import (
    MISSING,
    SECTIONS,
    Change,
    JsonObject,
    changes,
    format_path,
    is_equal,
    leaves,
    section,
    value_at,
)

#: Characters of a line that is not for a terminal.
_WIDTH_ELSEWHERE: Final = 240
#: Characters of one value in a list of differences; `--json` has all.
_VALUE_MAXIMUM: Final = 300
#: Seconds since the epoch that `datetime` can tell.
_TIME_MAXIMUM: Final = 250_000_000_000
_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"))
_ADDED, _REMOVED, _CHANGED = "green", "red", "yellow"


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that takes no markup; where there is no terminal its lines are long."""
    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if console.is_terminal:
        return console
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=_WIDTH_ELSEWHERE)


def show_lines(console: Console, lines: Iterable[Text]) -> None:
    """Print lines as they are, however long."""
    for line in lines:
        console.print(line, soft_wrap=True)


def document_table(document: JsonObject, *, with_ages: bool) -> Table:
    """Return desired and reported side by side, with a mark where they differ.

    Args:
        document: a body of `get/accepted`.
        with_ages: add when each value was last written.
    """
    state = document["state"]
    desired, reported = section(state, "desired"), section(state, "reported")
    stamps = section(document, "metadata")
    now = document.get("timestamp", time.time())
    table = _table(
        "key", "desired", "reported", "Δ", *(("desired written", "reported written") if with_ages else ())
    )
    wishes = dict(leaves(desired))
    for path in {**wishes, **dict(leaves(reported))}:
        wanted, actual = wishes.get(path, MISSING), value_at(reported, path)
        is_met = wanted is MISSING or is_equal(wanted, actual) or (wanted == {} and isinstance(actual, dict))
        style = "" if is_met else _CHANGED
        cells = [
            Text(format_path(path), style),
            Text(_value(wanted), style),
            Text(_value(actual), style),
            Text("" if is_met else "≠", style),
        ]
        if with_ages:
            cells += [Text(_age(_newest(value_at(stamps, (name, *path))), now)) for name in SECTIONS]
        table.add_row(*cells)
    return table


def history_table(entries: Sequence[Mapping[str, Any]]) -> Table:
    """Return the journal's entries: who changed what, when."""
    table = _table("version", "time", "who", "what", "token")
    for entry in entries:
        table.add_row(
            str(entry["version"]),
            _time(entry["at"]),
            Text(plain(entry["author"]["identity"] or entry["author"]["client_id"] or "")),
            Text("\n").join(_asked(entry)),
            Text(plain(entry["client_token"] or "")),
        )
    return table


def drift_table(drifts: Sequence[Mapping[str, Any]]) -> Table:
    """Return the shadows that drift, by age."""
    table = _table("thing", "shadow", "drifts since", "time", "told", "device", "keys")
    now = time.time()
    for drift in drifts:
        connected = drift["is_connected"]
        table.add_row(
            Text(plain(drift["thing_name"])),
            Text(plain(drift["shadow_name"] or "")),
            _age(drift["since"], now),
            _time(drift["since"]),
            _age(drift["last_told"], now),
            "" if connected is None else "connected" if connected else "away",
            str(drift["keys"]),
        )
    return table


def names_table(title: str, names: Sequence[str]) -> Table:
    """Return a column of names."""
    table = _table(title)
    for name in names:
        table.add_row(Text(plain(name)))
    return table


def change_lines(found: Sequence[Change]) -> list[Text]:
    """Return a coloured line for each difference."""
    return [_change_line(change) for change in found]


def happening_lines(happening: Happening) -> list[Text]:
    """Return what a message says about its shadow, under a line with the time."""
    reply, body = happening
    if body is None:
        return [_headed(f"{reply}: no JSON object; somebody else publishes on the shadow's topics", "red")]
    version = plain_json(body.get("version"))
    match reply:
        case Reply.UPDATE_DELTA:
            missing = leaves(section(body, "state"))
            lines = [Text(f"  Δ {format_path(path)} = {_cut(value)}", _CHANGED) for path, value in missing]
            return [_headed(f"delta, version {version}"), *lines]
        case Reply.UPDATE_DOCUMENTS:
            previous, current = section(body, "previous"), section(body, "current")
            found = changes(section(previous, "state"), section(current, "state"))
            return [
                _headed(f"changed, version {plain_json(current.get('version'))}"),
                *change_lines(found),
            ]
        case Reply.UPDATE_REJECTED:
            code, message = plain_json(body.get("code")), plain(str(body.get("message")))
            return [_headed(f"update refused: {message} ({code})", "red")]
        case _:
            return [_headed(f"deleted, version {version}", "red")]


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _headed(text: str, style: str = "bold") -> Text:
    now = datetime.now(UTC).strftime("%H:%M:%S.%f")[:-3]
    return Text.assemble(f"{now} ", (text, style))


def _change_line(change: Change) -> Text:
    path, before, after = change
    name = format_path(path)
    if before is MISSING:
        return Text(f"  + {name} = {_cut(after)}", _ADDED)
    if after is MISSING:
        return Text(f"  - {name} = {_cut(before)}", _REMOVED)
    return Text.assemble((f"  ~ {name} = ", _CHANGED), (_cut(before), _REMOVED), " → ", (_cut(after), _ADDED))


def _asked(entry: Mapping[str, Any]) -> list[Text]:
    """Return what a change set and removed."""
    if entry["operation"] == "delete":
        return [Text("deleted", _REMOVED)]
    if entry["state"] is None:
        return [Text("- desired", _REMOVED), Text("- reported", _REMOVED)]
    return [
        Text(f"- {format_path(path)}", _REMOVED)
        if value is None
        else Text(f"{format_path(path)} = {_cut(value)}", _ADDED)
        for path, value in leaves(entry["state"])
    ] or [Text("nothing")]


def _value(value: object) -> str:
    return "" if value is MISSING else plain_json(value)


def _cut(value: object) -> str:
    text = plain_json(value)
    return text if len(text) <= _VALUE_MAXIMUM else f"{text[:_VALUE_MAXIMUM]}…"


def _newest(stamps: object) -> object:
    """Return the latest timestamp of a value: an array has one for each element."""
    if isinstance(stamps, list):
        found = [stamp for each in stamps if isinstance(stamp := _newest(each), (int, float))]
        return max(found, default=None)
    if not isinstance(stamps, dict):
        return None
    if isinstance(stamp := stamps.get("timestamp"), (int, float)):
        return stamp
    return _newest(list(stamps.values()))


def _age(since: object, now: object) -> str:
    """Return how long ago something was; nothing where a stranger's clock makes no sense."""
    if not _is_time(since) or not _is_time(now):
        return ""
    seconds = max(0, int(now - since))
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and 0 <= value < _TIME_MAXIMUM


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="seconds")
