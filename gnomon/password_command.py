"""The commands that change a password file.

Knows: where a password is typed or piped in.
Does not know: how it is hashed and stored (passwords).
Spec: none.
"""

import json
import sys
from pathlib import Path
from typing import Final

import click

#: MQTT's limit of binary data (v5 §1.5.6).
_PASSWORD_BYTES_MAXIMUM: Final = 65_535

_file_option = click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Password file: the setting broker.password_file.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def password() -> None:
    """Change the users of a password file; the server reads it at its start and at SIGHUP.

    \b
    Examples:
      gnomon password set alice --file users.txt
      gnomon password set alice --file users.txt --stdin < secret
      gnomon password delete alice --file users.txt
    """  # noqa: D301  (\b keeps click from joining the lines)


@password.command("set")
@click.argument("user")
@_file_option
@click.option("--stdin", "is_piped", is_flag=True, help="Take the first line of standard input.")
@_json_option
def password_set(user: str, path: Path, *, is_piped: bool, as_json: bool) -> None:
    """Give USER a password, asked for twice. File and user are made where they are missing."""
    from .passwords import set_password

    _check_name(user)
    secret = _piped() if is_piped else click.prompt("Password", hide_input=True, confirmation_prompt=True)
    content = secret if isinstance(secret, bytes) else str(secret).encode()
    if not 0 < len(content) <= _PASSWORD_BYTES_MAXIMUM:
        raise click.UsageError(f"a password has 1 to {_PASSWORD_BYTES_MAXIMUM} bytes")
    set_password(path, user, content)
    _show(user, path, "set", as_json=as_json)


@password.command("delete")
@click.argument("user")
@_file_option
@_json_option
def password_delete(user: str, path: Path, *, as_json: bool) -> None:
    """Take USER out of the file."""
    from .passwords import delete_user

    delete_user(path, user)
    _show(user, path, "deleted", as_json=as_json)


def _check_name(user: str) -> None:
    from broker.access import PasswordFileError, check_user_name

    try:
        check_user_name(user, where="the name")
    except PasswordFileError as error:
        raise click.BadParameter(str(error), param_hint="USER") from None


def _piped() -> bytes:
    """Return the first line of standard input, as bytes: passwords need not be text."""
    line = sys.stdin.buffer.readline(_PASSWORD_BYTES_MAXIMUM + 2)
    return line.removesuffix(b"\n").removesuffix(b"\r")


def _show(user: str, path: Path, what: str, *, as_json: bool) -> None:
    shown = {"user": user, "file": str(path), "result": what}
    click.echo(json.dumps(shown, indent=2, ensure_ascii=False) if as_json else f"{path}: {user} {what}")
