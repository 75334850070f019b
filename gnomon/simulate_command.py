"""`gnomon simulate`: the commands.

Knows: their options, how a report is printed.
Does not know: how devices behave, how a swarm runs.
Spec: none.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from .errors import ConfigurationError, GnomonError
from .shadow_command_options import print_json

if TYPE_CHECKING:
    from simulators.swarm import Scenario

_FOLDER: Final = click.Path(path_type=Path, file_okay=False)
_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_RATE_MAXIMUM: Final = 10_000.0
_SWARM_DEVICES: Final = 100
_PAHO_DEVICES: Final = 3
_PAHO_DEVICES_MAXIMUM: Final = 100
#: What makes no sense for devices that are each a process with a foreign client.
_SWARM_ONLY: Final = ("url", "ca", "pki", "ramp", "processes", "profile", "in_flight", "edits", "root")


class _Rate(click.ParamType[float | None]):
    """A rate above 0, or `max` for the highest."""

    name = "rate"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        """Return updates in a second, None for the highest."""
        if value == "max":
            return None
        try:
            rate = float(str(value))
        except ValueError:
            rate = 0.0
        if not 0 < rate <= _RATE_MAXIMUM:
            self.fail(
                f"{value!r} is neither max nor a number above 0 and up to {_RATE_MAXIMUM:g}", param, ctx
            )
        return rate


data_option = click.option(
    "--data", type=_FOLDER, default=Path("gnomon-data"), show_default=True, help="Data folder."
)
duration_option = click.option(
    "--duration", "duration_s", type=click.FloatRange(min=0), help="Seconds to run; else until Ctrl-C."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(invoke_without_command=True)
@data_option
@click.option("--url", metavar="URL", help="Server elsewhere: mtls://HOST:PORT, or tcp://HOST:PORT.")
@click.option("--ca", type=_FILE, help="PEM file that the server's certificate is checked with.")
@click.option("--pki", type=_FOLDER, help="Development PKI that makes the devices' certificates: DATA/pki.")
@click.option("--devices", type=click.IntRange(1, 1_000_000), help="How many: 100, with --model paho 3.")
@click.option(
    "--rate", type=_Rate(), default="1", show_default=True, help="Updates of a device in a second, or max."
)
@duration_option
@click.option(
    "--ramp",
    type=click.FloatRange(min=0, min_open=True),
    default=200.0,
    show_default=True,
    help="Connects in a second, of all devices.",
)
@click.option(
    "--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="That share the devices."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides what is sent when."
)
@click.option(
    "--shadow-fields", "fields", type=click.IntRange(1, 200), default=4, show_default=True, help="Per update."
)
@click.option(
    "--profile",
    type=click.Choice(["shadow", "telemetry", "idle"]),
    default="shadow",
    show_default=True,
    help="Report to shadows, publish to dt/THING/telemetry, or only follow shadows.",
)
@click.option(
    "--in-flight",
    type=click.IntRange(1, 10),
    default=10,
    show_default=True,
    help="Unanswered updates of a device at a time.",
)
@click.option(
    "--edits",
    type=click.FloatRange(0, _RATE_MAXIMUM),
    default=0.0,
    show_default=True,
    help="Edits of each device's desired state in a second, by operators of the swarm's own.",
)
@click.option(
    "--prefix", default="device", show_default=True, help="Thing names are PREFIX-1, PREFIX-2 and so on."
)
@click.option("--root", default="$aws", show_default=True, help="First level of the shadow topics.")
@click.option(
    "--model",
    type=click.Choice(["swarm", "paho"]),
    default="swarm",
    show_default=True,
    help="Many devices in a process, or each a process with paho-mqtt.",
)
@json_option
@click.pass_context
def simulate(
    context: click.Context,
    /,
    *,
    data: Path,
    model: str,
    as_json: bool,
    **options: Any,  # noqa: ANN401  (the scenario's, whose own types they have)
) -> None:
    """Run simulated devices against a server, and report rates, latencies and errors.

    Each device has a certificate and a shadow of its own, reports and follows its delta. The seed
    decides what is sent when. The exit code is 1 where anything went wrong.

    \b
    Examples:
      gnomon simulate --devices 5000 --rate 1 --duration 60 --data ./data
      gnomon simulate --devices 200 --rate max --shadow-fields 8 --duration 30 --processes 2
      gnomon simulate --devices 1000 --edits 0.1 --url mtls://broker:8883 --pki ./data/pki
      gnomon simulate --model paho --devices 3
    """  # noqa: D301  (\b keeps click from joining the lines)
    if context.invoked_subcommand is not None:
        return
    if model == "paho":
        _refuse_swarm_options(context)
        _run_paho(data, options, as_json=as_json)
    else:
        _run_swarm(data, options, as_json=as_json)


@simulate.command("devices")
@data_option
@click.option("--count", type=click.IntRange(1, 1000), default=3, show_default=True, help="How many devices.")
@click.option(
    "--prefix", default="lamp", show_default=True, help="Thing names are PREFIX-1, PREFIX-2 and so on."
)
@duration_option
@json_option
def simulate_devices(data: Path, count: int, prefix: str, duration_s: float | None, *, as_json: bool) -> None:
    """Connect lamps to the server that runs on DATA; they follow their shadows, and report nothing else.

    \b
    Example:
      gnomon simulate devices --data ./data --count 10 --duration 60
    """  # noqa: D301
    from .simulate import run_devices

    names = [f"{prefix}-{number}" for number in range(1, count + 1)]
    states = run_devices(
        data, names, duration_s=duration_s, report=lambda text: None if as_json else click.echo(text)
    )
    if as_json:
        print_json(states)


def _run_swarm(data: Path, options: dict[str, Any], *, as_json: bool) -> None:
    from .simulate_swarm import find_target, run_swarm, to_json
    from .swarm_view import print_report

    url, authority, pki = (options.pop(name) for name in ("url", "ca", "pki"))
    scenario = _scenario({**options, "devices": options["devices"] or _SWARM_DEVICES})
    target = find_target(data, url, authority=authority, pki=pki)
    report = run_swarm(scenario, target, is_quiet=as_json)
    if as_json:
        print_json(to_json(report))
    else:
        print_report(report)
    if report.errors:
        reasons = ", ".join(f"{name}: {number}" for name, number in report.errors.items())
        raise GnomonError(f"not all went well: {reasons}")


def _run_paho(data: Path, options: dict[str, Any], *, as_json: bool) -> None:
    from .simulate import run_device_processes

    count = options["devices"] or _PAHO_DEVICES
    if count > _PAHO_DEVICES_MAXIMUM:
        raise ConfigurationError(f"--devices: at most {_PAHO_DEVICES_MAXIMUM} with --model paho")
    if options["rate"] is None:
        raise ConfigurationError("--rate: a number with --model paho, max is for the swarm")
    kept = {name: value for name, value in options.items() if name not in _SWARM_ONLY}
    scenario = _scenario({**kept, "devices": count})
    states = run_device_processes(data, scenario, report=lambda text: None if as_json else click.echo(text))
    if as_json:
        print_json(states)


def _scenario(options: dict[str, Any]) -> "Scenario":
    from simulators.swarm import Scenario

    try:
        return Scenario(**options)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _refuse_swarm_options(context: click.Context) -> None:
    for name in _SWARM_ONLY:
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            option = name.replace("_", "-")
            raise ConfigurationError(f"--{option}: means nothing with --model paho; leave it out")
