"""`gnomon session` and `gnomon trace`: the commands.

Knows: their options, and how answers are shown.
Does not know: how a request travels.
Spec: none.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from .admin.client import AdminClient

_TRACE_SECONDS_MAXIMUM: Final = 300
#: Beyond the trace's own time: its last answer is on the way.
_GRACE_S: Final = 10.0
_PAGE: Final = 500
#: Characters of a line that is not for a terminal.
_WIDTH_ELSEWHERE: Final = 240
_FunctionT = TypeVar("_FunctionT", bound=Callable[..., Any])


def _place_options(function: _FunctionT) -> _FunctionT:
    """Add the options that say where the server is, and the form of the output."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option(
            "--url", metavar="URL", help="Server elsewhere: mtls://HOST:PORT?cert=FILE&key=FILE&ca=FILE"
        ),
        click.option(
            "--data",
            type=click.Path(path_type=Path, file_okay=False),
            default=Path("gnomon-data"),
            show_default=True,
            help="Data folder of a server on this machine with the development PKI.",
        ),
    ):
        function = option(function)
    return function


@click.group()
def session() -> None:
    """Look at the sessions of a running server, and close connections.

    \b
    Examples:
      gnomon session list --data ./data
      gnomon session show lamp-1 --data ./data
      gnomon session kick lamp-1 --url 'mtls://broker:8883?cert=ada.pem&key=ada.key&ca=ca.pem'
    """  # noqa: D301  (\b keeps click from joining the lines)


@session.command("list")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="How many.")
@click.option("--after", default="", metavar="CLIENT", help="Begin after this client id.")
@_place_options
def session_list(limit: int, after: str, data: Path, url: str | None, *, as_json: bool) -> None:
    """List sessions in the order of their client ids.

    \b
    Examples:
      gnomon session list --data ./data
      gnomon session list --data ./data --limit 1000 --after lamp-100 --json
    """  # noqa: D301
    sessions: list[dict[str, Any]] = []
    cursor: str | None = after
    with _connected(data, url) as client:
        while cursor is not None and len(sessions) < limit:
            answer = client.request("session/list", limit=min(_PAGE, limit - len(sessions)), cursor=cursor)
            sessions += answer["sessions"]
            cursor = answer["cursor"]
    if as_json:
        _print_json({"sessions": sessions, "cursor": cursor})
        return
    columns = {
        "client id": lambda item: item["client_id"],
        "identity": lambda item: item["identity"] or "",
        "state": lambda item: "connected" if item["is_connected"] else "away",
        "since": lambda item: _time(item["since"]),
        "address": lambda item: item["peer_address"] or "",
        "MQTT": _version,
        "subscriptions": lambda item: str(item["subscriptions"]),
        "pending": lambda item: str(item["pending_messages"]),
        "in flight": lambda item: str(item["in_flight_messages"]),
        "dropped": lambda item: str(item["dropped_messages"]),
    }
    _print_table(columns, sessions)
    if cursor is not None:
        click.echo(f"more: --after {_plain(cursor)}")


@session.command("show")
@click.argument("client_id", metavar="CLIENT")
@_place_options
def session_show(client_id: str, data: Path, url: str | None, *, as_json: bool) -> None:
    """Show the session of CLIENT with its subscriptions.

    \b
    Example:
      gnomon session show lamp-1 --data ./data
    """  # noqa: D301
    with _connected(data, url) as client:
        answer = client.request("session/show", client_id=client_id)
    if as_json:
        _print_json(answer)
        return
    shown = dict(answer["session"])
    shown["since"] = _time(shown["since"])
    for name, value in shown.items():
        text = ", ".join(value) if isinstance(value, list) else "" if value is None else str(value)
        click.echo(f"{name:<20}{_plain(text)}")
    columns = {
        "topic filter": lambda item: item["topic_filter"],
        "QoS": lambda item: str(item["qos"]),
        "identifier": lambda item: str(item["identifier"] or ""),
    }
    _print_table(columns, answer["subscriptions"])


@session.command("kick")
@click.argument("client_id", metavar="CLIENT")
@click.option("--end", is_flag=True, help="End the session too: subscriptions and pending messages are lost.")
@_place_options
def session_kick(client_id: str, data: Path, url: str | None, *, end: bool, as_json: bool) -> None:
    """Close the connection of CLIENT; an MQTT 5 client is told 0x98, Administrative action.

    The client may connect again, and its Will is published.

    \b
    Examples:
      gnomon session kick lamp-1 --data ./data
      gnomon session kick lamp-1 --end --data ./data
    """  # noqa: D301
    with _connected(data, url) as client:
        answer = client.request("session/kick", client_id=client_id, end=end)
    if as_json:
        _print_json(answer)
        return
    was = "connection closed" if answer["was_connected"] else "was not connected"
    click.echo(f"{_plain(client_id)}: {was}, session {'ended' if answer['session_ended'] else 'kept'}")


@click.command()
@click.option("--client", "client_id", metavar="ID", help="Follow the packets of this client.")
@click.option("--topic", "topic_filter", metavar="FILTER", help="Follow the messages that match this filter.")
@click.option(
    "--seconds",
    type=click.IntRange(1, _TRACE_SECONDS_MAXIMUM),
    default=60,
    show_default=True,
    help="For how long.",
)
@_place_options
def trace(
    client_id: str | None,
    topic_filter: str | None,
    seconds: int,
    data: Path,
    url: str | None,
    *,
    as_json: bool,
) -> None:
    """Watch what one client or one topic does; never shows payloads or passwords.

    A trace ends after its time, after 10,000 events, or by Ctrl-C. A client that is not connected
    is followed when it comes. With --json each line is an object: that it began, events, why it is over.

    \b
    Examples:
      gnomon trace --client lamp-1 --data ./data
      gnomon trace --topic 'dt/#' --seconds 10 --json --data ./data
    """  # noqa: D301
    if (client_id is None) == (topic_filter is None):
        raise click.UsageError("give either --client or --topic")
    with _connected(data, url) as client:
        started = client.request(
            "trace/start", client_id=client_id, topic_filter=topic_filter, seconds=seconds
        )
        target = _plain(client_id or topic_filter or "")
        click.echo(json.dumps(started) if as_json else f"following {target} for {seconds} s")
        try:
            for event in _events(client, seconds + _GRACE_S):
                click.echo(json.dumps(event, ensure_ascii=False) if as_json else _line(event))
        except KeyboardInterrupt:
            stopped = client.request("trace/stop", trace=started["trace"])
            click.echo(json.dumps({**stopped, "over": "stopped"}) if as_json else "over: stopped")


def _events(client: "AdminClient", timeout_s: float) -> Iterator[dict[str, Any]]:
    """Yield the events of a trace until it is over; the last one says why."""
    while True:
        answer = client.next_answer(timeout_s)
        if "over" in answer:
            yield answer
            return
        yield from answer.get("events", ())


def _connected(data: Path, url: str | None) -> "AdminClient":
    from .admin.client import (
        AdminClient,
        place_of_data,
        place_of_url,
    )  # The other commands start without MQTT.

    return AdminClient(place_of_data(data) if url is None else place_of_url(url))


def _line(event: Mapping[str, Any]) -> str:
    """Return an event as one line of text."""
    if "over" in event:
        return f"over: {event['over']}; {event['told']} events, {event['skipped']} skipped"
    rest = dict(event)
    time = datetime.fromtimestamp(rest.pop("at"), UTC).strftime("%H:%M:%S.%f")[:-3]
    rest.pop("number")
    if "packet" in rest:
        arrow = "->" if rest.pop("is_from_client") else "<-"
        head = f"{arrow} {rest.pop('packet'):<12}"
    else:
        head = f"{rest.pop('topic')} from {rest.pop('publisher') or 'a service'}"
    fields = " ".join(
        f"{name}={','.join(value) if isinstance(value, list) else value}" for name, value in rest.items()
    )
    return _plain(f"{time} {head} {fields}".rstrip())


def _version(item: Mapping[str, Any]) -> str:
    return {4: "3.1.1", 5: "5"}.get(item["protocol_version"], "")


def _time(seconds: float | None) -> str:
    return (
        "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="seconds")
    )


def _plain(text: str) -> str:
    """Return text that a terminal shows and does not obey: clients choose their ids and topics."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _print_table(
    columns: Mapping[str, Callable[[Mapping[str, Any]], str]], items: list[dict[str, Any]]
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH_ELSEWHERE)
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for item in items:
        table.add_row(*(Text(_plain(of(item))) for of in columns.values()))
    console.print(table)
