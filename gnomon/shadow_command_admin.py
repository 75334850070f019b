"""`gnomon shadow list|history|drift`: the commands that ask a Gnomon server.

Knows: their options, what they print.
Does not know: how requests travel, how tables are drawn.
Spec: none.
"""

from typing import Any, Final

import click

from .shadow_command_options import THING_NAME, Way, admin_way, print_json, shadow_option, thing_argument
from .shadow_command_text import plain

_PAGE: Final = 100


@click.command("list")
@click.argument("thing", type=THING_NAME, required=False)
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="How many.")
@click.option("--after", default="", metavar="NAME", help="Begin after this name.")
@admin_way
def shadow_list(thing: str | None, limit: int, after: str, *, way: Way) -> None:
    """List the things that have shadows, or the named shadows of THING.

    \b
    Examples:
      gnomon shadow list --data ./data
      gnomon shadow list lamp-1 --data ./data
    """  # noqa: D301
    verb, what = ("shadow/things", "things") if thing is None else ("shadow/names", "shadows")
    found, cursor = _pages(way, verb, what, "cursor", limit, after, thing_name=thing)
    if way.as_json:
        print_json({what: found, "cursor": cursor})
        return
    from .shadow_command_views import make_console, names_table

    make_console().print(names_table("thing" if thing is None else "shadow", found))
    if cursor is not None:
        click.echo(f"more: --after {plain(str(cursor))}")


@click.command("history")
@thing_argument
@shadow_option
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many.")
@click.option("--before", metavar="VERSION", type=click.IntRange(min=1), help="Begin below this version.")
@admin_way
def shadow_history(thing: str, shadow_name: str | None, limit: int, before: int | None, *, way: Way) -> None:
    """Show who changed what in a shadow of THING, the latest first.

    \b
    Examples:
      gnomon shadow history lamp-1 --data ./data
      gnomon shadow history lamp-1 --shadow firmware --limit 1000 --json
    """  # noqa: D301
    entries, cursor = _pages(
        way,
        "shadow/history",
        "entries",
        "before_version",
        limit,
        before,
        thing_name=thing,
        shadow_name=shadow_name,
    )
    if way.as_json:
        print_json({"entries": entries, "before_version": cursor})
        return
    from .shadow_command_views import history_table, make_console

    make_console().print(history_table(entries))
    if cursor is not None:
        click.echo(f"more: --before {cursor}")


@click.command("drift")
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True, help="How many.")
@admin_way
def shadow_drift(limit: int, *, way: Way) -> None:
    """Show the shadows whose devices do not follow, the longest first.

    \b
    Example:
      gnomon shadow drift --data ./data
    """  # noqa: D301
    with way.admin() as client:
        answer = client.request("shadow/drift", limit=limit)
    if way.as_json:
        print_json(answer)
        return
    from .shadow_command_views import drift_table, make_console

    make_console().print(drift_table(answer["shadows"]))


def _pages(
    way: Way,
    verb: str,
    what: str,
    cursor_name: str,
    limit: int,
    cursor: str | int | None,
    **fields: str | None,
) -> tuple[list[Any], str | int | None]:
    """Return up to `limit` items over as many requests as that takes, and where the next ones begin."""
    found: list[Any] = []
    with way.admin() as client:
        while True:
            page = {"limit": min(_PAGE, limit - len(found)), cursor_name: cursor}
            answer = client.request(verb, **fields, **page)
            found += answer[what]
            cursor = answer[cursor_name]
            if cursor is None or len(found) >= limit:
                return found, cursor
