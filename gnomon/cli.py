"""The command line.

Knows: commands, options, exit codes (0 ok, 1 refused, 2 usage or configuration, 3 environment).
Does not know: how anything is done.
Spec: none.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from fleet import CertificateFiles, DevelopmentPKI, NameRefusedError, PKIError

from .admin_command import session, trace
from .data_folder import PKI_FOLDER
from .errors import ConfigurationError, EnvironmentFailureError, GnomonError
from .password_command import password
from .services_command import services
from .settings import load_settings, settings_schema
from .settings_text import settings_text
from .shadow_command import shadow
from .simulate_command import simulate
from .storage_command import backup, restore
from .version import installed_version

_INTERRUPTED: Final = 130
_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_FOLDER: Final = click.Path(path_type=Path, file_okay=False)

config_option = click.option("--config", type=_FILE, help="TOML file of settings.")
data_option = click.option(
    "--data", type=_FOLDER, default=Path("gnomon-data"), show_default=True, help="Data folder."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    try:
        cli.main(args=None if arguments is None else list(arguments), prog_name="gnomon")
    except GnomonError as error:
        click.echo(f"gnomon: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(installed_version(), message="%(prog)s %(version)s")
def cli() -> None:
    """MQTT 3.1.1 and 5 broker with mutual TLS and device shadows.

    \b
    Examples:
      gnomon demo
      gnomon serve --data ./data --listen mtls://127.0.0.1:8883
      gnomon pki device lamp-1 --data ./data
    """  # noqa: D301  (\b keeps click from joining the lines)


@cli.command()
@config_option
@click.option("--data", type=_FOLDER, help="Data folder: state, development PKI, ready.json.")
@click.option(
    "--listen", "listen", metavar="URL", multiple=True, help="Listener, such as mtls://127.0.0.1:8883."
)
@click.option(
    "--anonymous", is_flag=True, help="Let clients without a certificate use topics that are not reserved."
)
@click.option("--http", metavar="URL", help="Metrics and health, such as http://127.0.0.1:9464.")
def serve(
    config: Path | None, data: Path | None, listen: tuple[str, ...], http: str | None, *, anonymous: bool
) -> None:
    """Run the server until SIGTERM.

    Without certificates in the URL (?cert=..&key=..&ca=..) the development PKI of the data folder
    is made and used. When ready, the server writes DATA/ready.json.

    \b
    Examples:
      gnomon serve --data ./data --listen mtls://127.0.0.1:8883
      gnomon serve --data ./data --listen tcp://127.0.0.1:0 --anonymous
      gnomon serve --config gnomon.toml --http http://127.0.0.1:9464
    """  # noqa: D301
    from .serve import serve as run_server  # The other commands start without the broker.

    run_server(load_settings(config, _overrides(data, listen, http, anonymous=anonymous)))


@cli.group("config")
def config_group() -> None:
    """Look at settings.

    \b
    Examples:
      gnomon config check --config gnomon.toml
      gnomon config show > gnomon.toml
    """  # noqa: D301


@config_group.command("check")
@config_option
@json_option
def config_check(config: Path | None, *, as_json: bool) -> None:
    """Check the settings and every file that they name."""
    from .setting_files import check_listener_files, load_passwords, load_rules

    try:
        settings = load_settings(config)
        load_rules(settings.broker)
        load_passwords(settings.broker.password_file)
        check_listener_files(settings.broker)
    except ConfigurationError as error:
        if not as_json:
            raise
        click.echo(json.dumps({"ok": False, "error": str(error)}))
        sys.exit(error.exit_code)
    click.echo(json.dumps({"ok": True}) if as_json else f"{config or 'settings'}: ok")


@config_group.command("show")
@config_option
@json_option
def config_show(config: Path | None, *, as_json: bool) -> None:
    """Print every setting with its value and meaning, as TOML."""
    settings = load_settings(config)
    click.echo(_dump(settings.model_dump(mode="json")) if as_json else settings_text(settings), nl=as_json)


@config_group.command("schema")
def config_schema() -> None:
    """Print the JSON schema of the settings file, for editors."""
    click.echo(_dump(settings_schema()))


cli.add_command(backup)
cli.add_command(password)
cli.add_command(restore)
cli.add_command(services)
cli.add_command(session)
cli.add_command(shadow)
cli.add_command(simulate)
cli.add_command(trace)


@cli.group()
def pki() -> None:
    """Make certificates for one's own machine and for tests.

    \b
    Examples:
      gnomon pki init --data ./data
      gnomon pki device lamp-1 --data ./data
      gnomon pki operator ada --data ./data
    """  # noqa: D301


@pki.command("init")
@data_option
@json_option
def pki_init(data: Path, *, as_json: bool) -> None:
    """Make the authority and the server's certificate, unless they stand."""
    _show_files(_pki_call(data, "server", None), as_json=as_json)


@pki.command("device")
@click.argument("name")
@data_option
@json_option
def pki_device(name: str, data: Path, *, as_json: bool) -> None:
    """Make the certificate of the device whose thing name is NAME, unless it stands."""
    _show_files(_pki_call(data, "device", name), as_json=as_json)


@pki.command("operator")
@click.argument("name")
@data_option
@json_option
def pki_operator(name: str, data: Path, *, as_json: bool) -> None:
    """Make the certificate of the operator NAME, unless it stands."""
    _show_files(_pki_call(data, "operator", name), as_json=as_json)


@cli.command()
@click.option(
    "--data", type=_FOLDER, default=Path("gnomon-demo"), show_default=True, help="Data folder of the demo."
)
@click.option("--stay", is_flag=True, help="Stay up at the end until Ctrl-C.")
@json_option
def demo(data: Path, *, stay: bool, as_json: bool) -> None:
    """Watch three devices follow an operator's shadow edits over mutual TLS.

    \b
    Examples:
      gnomon demo
      gnomon demo --data ./demo --stay
    """  # noqa: D301
    from .demo import run_demo

    run_demo(data, stay=stay, as_json=as_json)


def _overrides(
    data: Path | None, listen: Sequence[str], http: str | None, *, anonymous: bool
) -> dict[str, Any]:
    """Return what the command line sets, in the shape of the settings file."""
    broker: dict[str, Any] = {}
    if listen:
        broker["listeners"] = list(listen)
    if anonymous:
        broker["allow_anonymous"] = True
    return {
        **({"data": data} if data else {}),
        **({"http": {"url": http}} if http else {}),
        **({"broker": broker} if broker else {}),
    }


def _pki_call(data: Path, kind: str, name: str | None) -> CertificateFiles:
    authority = DevelopmentPKI(data / PKI_FOLDER)
    try:
        if name is None:
            return authority.ensure_server()
        return authority.ensure_device(name) if kind == "device" else authority.ensure_operator(name)
    except NameRefusedError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from None
    except PKIError as error:
        raise EnvironmentFailureError(str(error)) from None


def _show_files(files: CertificateFiles, *, as_json: bool) -> None:
    shown = {"certificate": str(files.certificate), "key": str(files.key), "authority": str(files.authority)}
    click.echo(_dump(shown) if as_json else "\n".join(f"{what:<12}{path}" for what, path in shown.items()))


def _dump(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
