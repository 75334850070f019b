"""What the commands of `gnomon shadow` have in common: names as arguments, the way to the server.

Knows: the options, what a name may be.
Does not know: what is asked.
Spec: AWS IoT device shadow service, names.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from .errors import ConfigurationError
from .shadow_command_text import plain, plain_json

if TYPE_CHECKING:
    from .admin.client import AdminClient
    from .shadow_command_client import ShadowClient

_FunctionT = TypeVar("_FunctionT", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What the options say about the way to the server, and the form of the output."""

    data: Path
    url: str | None
    as_json: bool
    root: str = ""
    timeout_s: float = 0.0

    def admin(self) -> "AdminClient":
        """Return a connection to a server's administration, for `with`.

        Raises:
            ConfigurationError: the URL is another broker's.
        """
        if self.url is not None and not self.url.startswith("mtls:"):
            raise ConfigurationError("--url: only a Gnomon server can be asked this, by its mtls:// listener")
        from .admin.client import AdminClient, place_of_data, place_of_url  # Other commands need no MQTT.

        return AdminClient(place_of_data(self.data) if self.url is None else place_of_url(self.url))

    def shadow(self, thing: str, shadow_name: str | None) -> "ShadowClient":
        """Return a connection to the topics of a shadow, for `with`."""
        from shadow import ShadowKey

        from .shadow_command_client import ShadowClient
        from .shadow_command_place import find_place

        place, key = find_place(self.data, self.url), ShadowKey(thing, shadow_name)
        return ShadowClient(place, key, root=self.root, timeout_s=self.timeout_s)


class _Name(click.ParamType[str]):
    """A name that becomes a topic level."""

    def __init__(self, name: str, pattern: str, rule: str) -> None:
        self.name = name
        self._fits = re.compile(pattern).fullmatch
        self._rule = rule

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name, or end with exit code 2."""
        if self._fits(value) is None:
            self.fail(f"{plain(value)!r} cannot be used; say {self._rule}", param, ctx)
        return value


THING_NAME: Final = _Name("thing", r"[a-zA-Z0-9:_-]{1,128}", "1 to 128 of a-z A-Z 0-9 : _ -")
_SHADOW_NAME: Final = _Name("name", r"[$a-zA-Z0-9:_-]{1,64}", "1 to 64 of a-z A-Z 0-9 : _ - $")
_ROOT_LEVEL: Final = _Name("level", r"[^/+#\x00]{1,64}", "one topic level, such as $aws")

thing_argument: Final = click.argument("thing", type=THING_NAME)
shadow_option: Final = click.option("--shadow", "shadow_name", type=_SHADOW_NAME, help="A named shadow.")
_admin_options: Final = (
    click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("gnomon-data"),
        show_default=True,
        help="Data folder of a server on this machine with the development PKI.",
    ),
    click.option(
        "--url", metavar="URL", help="Server elsewhere: mtls://HOST:PORT?cert=FILE&key=FILE&ca=FILE"
    ),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
)
_topic_options: Final = (
    *_admin_options,
    click.option(
        "--root", type=_ROOT_LEVEL, default="$aws", show_default=True, help="First level of the topics."
    ),
    click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(0.1, 3600),
        default=15.0,
        show_default=True,
        help="Seconds that each answer may take.",
    ),
)


def admin_way(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of the way to a server's administration; the command gets them as `way`."""

    @wraps(function)
    def command(*, data: Path, url: str | None, as_json: bool, **rest: object) -> None:
        function(way=Way(data=data, url=url, as_json=as_json), **rest)

    return _with(_admin_options, command)


def topic_way(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of the way to shadow topics; the command gets them as `way`."""

    @wraps(function)
    def command(
        *, data: Path, url: str | None, as_json: bool, root: str, timeout_s: float, **rest: object
    ) -> None:
        function(way=Way(data=data, url=url, as_json=as_json, root=root, timeout_s=timeout_s), **rest)

    return _with(_topic_options, command)


def called(thing: str, shadow_name: str | None) -> str:
    """Return the name of a shadow for people."""
    return thing if shadow_name is None else f"{thing}, shadow {shadow_name}"


def print_json(value: object) -> None:
    """Print a value as JSON that no terminal obeys."""
    click.echo(plain_json(value, indent=2))


def _with(options: tuple[Callable[[_FunctionT], _FunctionT], ...], function: _FunctionT) -> _FunctionT:
    for option in reversed(options):
        function = option(function)
    return function
