"""`gnomon shadow`: the commands that speak the shadow topics.

Knows: their options, what they print.
Does not know: how requests travel, how documents are drawn, how an edit goes.
Spec: AWS IoT device shadow service.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click

from .shadow_command_admin import shadow_drift, shadow_history, shadow_list
from .shadow_command_options import Way, called, print_json, shadow_option, thing_argument, topic_way
from .shadow_command_text import plain, plain_json
from .shadow_command_values import SECTIONS, JsonObject, KeyPath, nested, parse_assignment, parse_path

_ArgumentT = TypeVar("_ArgumentT")
_ResultT = TypeVar("_ResultT")

_version_option: Final = click.option(
    "--expected-version",
    "version",
    type=click.IntRange(min=0),
    help="Refuse (409) where the shadow has another; 0 where there is none.",
)
_reported_option: Final = click.option(
    "--reported", is_flag=True, help="Write what the device reports, in its place, instead of desired."
)


@click.group()
def shadow() -> None:
    """Look at device shadows, and change what devices should be.

    get, set, unset, edit, delete and watch speak the shadow topics: against another broker, too, by
    --url mqtts://HOST:PORT?cert=FILE&key=FILE&ca=FILE (or mqtt://, user=NAME&password_file=FILE). list,
    history, drift and get --as-of ask a Gnomon server.

    \b
    Examples:
      gnomon shadow get lamp-1 --data ./data
      gnomon shadow set lamp-1 power=true 'color="amber"' --data ./data
      gnomon shadow edit lamp-1 --data ./data
      gnomon shadow history lamp-1 --data ./data
    """  # noqa: D301  (\b keeps click from joining the lines)


shadow.add_command(shadow_list)
shadow.add_command(shadow_history)
shadow.add_command(shadow_drift)


@shadow.command("get")
@thing_argument
@shadow_option
@click.option("--as-of", "as_of", metavar="VERSION", type=click.IntRange(min=1), help="As this version was.")
@click.option("--metadata", "with_ages", is_flag=True, help="Show when values were last written.")
@topic_way
def shadow_get(thing: str, shadow_name: str | None, as_of: int | None, *, way: Way, with_ages: bool) -> None:
    """Show desired and reported of THING side by side, and where they differ.

    \b
    Examples:
      gnomon shadow get lamp-1 --data ./data
      gnomon shadow get lamp-1 --shadow firmware --as-of 12 --json
    """  # noqa: D301
    if as_of is None:
        with way.shadow(thing, shadow_name) as client:
            document = client.get()
    else:
        with way.admin() as admin:
            document = admin.request("shadow/show", thing_name=thing, shadow_name=shadow_name, version=as_of)
    if way.as_json:
        print_json(document)
        return
    from .shadow_command_views import document_table, make_console

    click.echo(f"{called(thing, shadow_name)}, version {document['version']}")
    make_console().print(document_table(document, with_ages=with_ages))


@shadow.command("set")
@thing_argument
@click.argument("assignments", metavar="PATH=VALUE...", nargs=-1, required=True)
@shadow_option
@_reported_option
@_version_option
@topic_way
def shadow_set(
    thing: str,
    assignments: Sequence[str],
    shadow_name: str | None,
    version: int | None,
    *,
    way: Way,
    reported: bool,
) -> None:
    """Set what THING should be. Values are JSON; an object is merged into what is there.

    \b
    Examples:
      gnomon shadow set lamp-1 power=true 'color="amber"' light.level=70
      gnomon shadow set lamp-1 'rooms."living room"=["a", "b"]' --expected-version 12
    """  # noqa: D301
    patch = _patch([_usable(parse_assignment, text) for text in assignments], reported=reported)
    _update(way, thing, shadow_name, patch, version)


@shadow.command("unset")
@thing_argument
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@shadow_option
@_reported_option
@_version_option
@topic_way
def shadow_unset(
    thing: str,
    paths: Sequence[str],
    shadow_name: str | None,
    version: int | None,
    *,
    way: Way,
    reported: bool,
) -> None:
    """Remove keys from what THING should be; the section's name alone removes all of it.

    \b
    Examples:
      gnomon shadow unset lamp-1 color light.level
      gnomon shadow unset lamp-1 desired
    """  # noqa: D301
    patch = _patch([(_usable(parse_path, text), None) for text in paths], reported=reported)
    _update(way, thing, shadow_name, patch, version)


@shadow.command("edit")
@thing_argument
@shadow_option
@click.option("--whole", is_flag=True, help="Edit reported, too.")
@topic_way
def shadow_edit(thing: str, shadow_name: str | None, *, way: Way, whole: bool) -> None:
    """Edit what THING should be in the editor of VISUAL or EDITOR.

    What you changed is sent with the version that you changed. Where the shadow changed meanwhile you see
    both changes, and edit again or abort; without a terminal the command ends with 1 and keeps your draft.

    \b
    Examples:
      gnomon shadow edit lamp-1 --data ./data
      EDITOR='code --wait' gnomon shadow edit lamp-1 --shadow firmware
    """  # noqa: D301
    from shadow import ShadowKey

    from .shadow_command_edit import ShadowEditor

    key = ShadowKey(thing, shadow_name)
    accepted = ShadowEditor(lambda: way.shadow(thing, shadow_name), key, whole=whole).run()
    if accepted is not None:
        _tell(way, thing, shadow_name, accepted)
    elif way.as_json:
        print_json(None)
    else:
        click.echo(f"{called(thing, shadow_name)}: no change")


@shadow.command("delete")
@thing_argument
@shadow_option
@topic_way
def shadow_delete(thing: str, shadow_name: str | None, *, way: Way) -> None:
    """Delete one shadow of THING.

    \b
    Example:
      gnomon shadow delete lamp-1 --shadow firmware --data ./data
    """  # noqa: D301
    with way.shadow(thing, shadow_name) as client:
        accepted = client.delete()
    if way.as_json:
        print_json(accepted)
    else:
        click.echo(f"{called(thing, shadow_name)}: deleted, version {plain_json(accepted.get('version'))}")


@shadow.command("watch")
@thing_argument
@shadow_option
@topic_way
def shadow_watch(thing: str, shadow_name: str | None, *, way: Way) -> None:
    """Show what happens to a shadow of THING until Ctrl-C: deltas, changes, refusals, its end.

    With --json each line is an object: first what is watched, then the messages.

    \b
    Examples:
      gnomon shadow watch lamp-1 --data ./data
      gnomon shadow watch lamp-1 --json --url mqtt://127.0.0.1:1883 --root aws
    """  # noqa: D301
    from .shadow_command_views import happening_lines, make_console, show_lines

    console = make_console()
    with way.shadow(thing, shadow_name) as client:
        happenings = client.watch()
        try:
            if way.as_json:
                click.echo(plain_json({"watching": thing, "shadow": shadow_name}))
            else:
                click.echo(f"watching {called(thing, shadow_name)}; Ctrl-C ends")
            for happening in happenings:
                if way.as_json:
                    click.echo(plain_json({"topic": happening.reply, "body": happening.body}))
                else:
                    show_lines(console, happening_lines(happening))
        except KeyboardInterrupt:
            return


def _patch(pairs: Sequence[tuple[KeyPath, Any]], *, reported: bool) -> JsonObject:
    """Return the state of a request; a path may begin with its section's name."""
    name, other = reversed(SECTIONS) if reported else SECTIONS
    paths = []
    for path, value in pairs:
        if path[0] == other:
            hint = (
                "say --reported to write what the device reports"
                if other == "reported"
                else "leave out --reported"
            )
            raise click.UsageError(f"the path begins with {other}; {hint}, or {name}.{other} for such a key")
        inner = path[1:] if path[0] == name else path
        if not inner and value is not None and not isinstance(value, dict):
            raise click.UsageError(f"{name} is an object; say {name}.KEY=VALUE")
        paths.append(((name, *inner), value))
    return _usable(nested, paths)


def _usable(parse: Callable[[_ArgumentT], _ResultT], argument: _ArgumentT) -> _ResultT:
    try:
        return parse(argument)
    except ValueError as error:
        raise click.UsageError(plain(str(error))) from None


def _update(way: Way, thing: str, shadow_name: str | None, state: JsonObject, version: int | None) -> None:
    with way.shadow(thing, shadow_name) as client:
        accepted = client.update(state, version=version)
    _tell(way, thing, shadow_name, accepted)


def _tell(way: Way, thing: str, shadow_name: str | None, accepted: JsonObject) -> None:
    if way.as_json:
        print_json(accepted)
    else:
        click.echo(f"{called(thing, shadow_name)}: version {plain_json(accepted.get('version'))}")
