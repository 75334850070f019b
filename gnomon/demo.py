"""`gnomon demo`: three devices follow an operator's shadow edits over mutual TLS.

Knows: the story, in order; the files that it makes under its data folder.
Does not know: how the parties behave, how anything is drawn.
Spec: none.
"""

import json
import shlex
import signal
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import click

from broker.settings import BrokerSettings, ListenerSettings
from fleet import CertificateFiles, DevelopmentPKI, PKIError
from simulators import ShadowView, SimulatedDevice, SimulatedOperator, Version
from storage import StorageSettings

from .data_folder import PKI_FOLDER
from .demo_view import DemoView, choose_view
from .errors import EnvironmentFailureError, GnomonError
from .local_server import LocalServer, mtls_address
from .settings import GnomonSettings
from .settings_text import settings_text
from .simulate import LAMP, endpoint

_DEADLINE_S: Final = 60.0
_CONNECT_TIMEOUT_S: Final = 20.0
_TICK_S: Final = 0.1
#: How long a simulated lamp takes to follow, so that the eye can.
_REACTION_S: Final = 0.8
#: The last device sleeps while the operator edits, and finds the edit when it wakes.
_SLEEP_S: Final = 1.5
_OPERATOR: Final = "ada"

_EDITS: Final[Mapping[str, tuple[Version, dict[str, Any]]]] = {
    "lamp-1": ("5", {"power": True, "color": "amber"}),
    "lamp-2": ("3.1.1", {"power": True, "brightness": 80}),
    "lamp-3": ("5", {"color": "blue", "schedule": {"on": "07:00", "off": "22:30"}}),
}
_SLEEPER: Final = "lamp-3"


def run_demo(data: Path, *, stay: bool, as_json: bool) -> None:
    """Run the demo on a data folder of its own.

    Raises:
        EnvironmentFailureError: the data folder cannot be used.
        GnomonError: the server did not start, or the devices did not converge in time.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ends the server too, as Ctrl-C does.
    data = data.resolve()
    view = choose_view(is_quiet=as_json)
    with ExitStack() as stack:
        try:
            pki, config = _prepare(data)
            view.say(f"Certificates are under {data / PKI_FOLDER}, the configuration is {config}.")
            server = LocalServer(data, config, data / "server.log")
            stack.callback(server.stop)
            server.wait_ready()
            address = mtls_address(data)
            view.say(f"The server listens on mtls://{address[0]}:{address[1]}.")
            files = pki.ensure_operator(_OPERATOR)
            operator = SimulatedOperator(_OPERATOR, endpoint(address, files))
            devices = {
                name: SimulatedDevice(
                    name,
                    endpoint(address, pki.ensure_device(name)),
                    reported=LAMP,
                    version=version,
                    reaction_s=_REACTION_S,
                )
                for name, (version, _) in _EDITS.items()
            }
        except PKIError as error:
            raise EnvironmentFailureError(str(error)) from None
        stack.callback(operator.stop)
        for device in devices.values():
            stack.callback(device.stop)
        with view:
            _follow(server, operator, devices, view)
        _tell(operator, address, files, as_json=as_json, is_staying=stay)
        if stay:
            _stay(server, operator, view)


def _prepare(data: Path) -> tuple[DevelopmentPKI, Path]:
    """Make the certificates and the configuration file."""
    pki = DevelopmentPKI(data / PKI_FOLDER)
    files = pki.ensure_server()
    listener = ListenerSettings(
        url="mtls://127.0.0.1:0", certificate=files.certificate, key=files.key, client_ca=files.authority
    )
    settings = GnomonSettings(
        data=data,
        broker=BrokerSettings(listeners=(listener,)),
        # So that there is something to follow each time.
        storage=StorageSettings(durability="memory"),
    )
    config = data / "gnomon.toml"
    try:
        config.write_text(settings_text(settings))
    except OSError as error:
        raise EnvironmentFailureError(f"{config}: cannot be written: {error.strerror}") from None
    return pki, config


def _follow(
    server: LocalServer, operator: SimulatedOperator, devices: Mapping[str, SimulatedDevice], view: DemoView
) -> None:
    """Let the operator edit, and watch until every device has followed."""
    deadline = time.monotonic() + _DEADLINE_S
    sleeper = devices[_SLEEPER]
    awake: tuple[SimulatedOperator | SimulatedDevice, ...] = (
        operator,
        *(device for device in devices.values() if device is not sleeper),
    )
    for party in awake:
        party.start()
    for party in awake:
        if not party.wait_ready(_CONNECT_TIMEOUT_S):
            server.check()
            raise GnomonError(f"{party.name} did not connect: {party.failure or 'no answer in time'}")
    view.say(f"The operator {_OPERATOR} edits three things; {_SLEEPER} sleeps meanwhile.")
    for name, (_, desired) in _EDITS.items():
        operator.edit(name, desired)
    wake_at = time.monotonic() + _SLEEP_S
    is_awake = False
    while True:
        view.show(_views(operator))
        if not is_awake and time.monotonic() >= wake_at:
            is_awake = True
            sleeper.start()
        late = [name for name in devices if not operator.has_converged(name)]
        if not late:
            view.say("All things report what is desired.")
            return
        if time.monotonic() > deadline:
            why = devices[late[0]].failure or "; ".join(operator.rejections) or "no reason known"
            raise GnomonError(f"{', '.join(late)} did not converge within {_DEADLINE_S:.0f} s: {why}")
        server.wait(_TICK_S)


def _stay(server: LocalServer, operator: SimulatedOperator, view: DemoView) -> None:
    """Keep everything up until Ctrl-C."""
    try:
        with view:
            while True:
                view.show(_views(operator))
                server.wait(_TICK_S)
    except KeyboardInterrupt:
        return


def _views(operator: SimulatedOperator) -> dict[str, ShadowView]:
    return {name: operator.view(name) for name in _EDITS}


def _tell(
    operator: SimulatedOperator,
    address: tuple[str, int],
    files: CertificateFiles,
    *,
    as_json: bool,
    is_staying: bool,
) -> None:
    """Print the outcome, and how to connect oneself."""
    host, port = address
    topic, payload = "$aws/things/lamp-1/shadow/update", '{"state":{"desired":{"color":"green"}}}'
    ca, certificate, key = (str(path) for path in (files.authority, files.certificate, files.key))
    identity = {"cafile": ca, "cert": certificate, "key": key}
    options = {"h": host, "p": str(port), "i": "you", "q": "1", "t": topic, "m": payload}
    words = [word for name, value in options.items() for word in (f"-{name}", value)]
    words += [word for name, value in identity.items() for word in (f"--{name}", value)]
    shell = shlex.join(["mosquitto_pub", *words])
    python = (
        "from paho.mqtt import publish\n"
        f"tls = {dict(ca_certs=ca, certfile=certificate, keyfile=key)}\n"
        f"publish.single({topic!r}, {payload!r},\n"
        f"               qos=1, hostname={host!r}, port={port}, client_id='you', tls=tls)"
    )
    if as_json:
        things = [
            {
                "thing": name,
                "desired": view.desired,
                "reported": view.reported,
                "delta": view.delta,
                "version": view.version,
                "round_trip_ms": None if view.round_trip_s is None else round(view.round_trip_s * 1000),
            }
            for name, view in _views(operator).items()
        ]
        outcome = {"converged": True, "host": host, "port": port, "things": things}
        click.echo(json.dumps({**outcome, "connect": {"shell": shell, "python": python}}, indent=2))
        return
    when = "now" if is_staying else "while it is up (gnomon demo --stay, or make demo STAY=1)"
    click.echo(f"\nEdit a lamp yourself {when}, from a shell:\n\n{shell}\n\nor from Python:\n\n{python}\n")
