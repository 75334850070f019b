"""`gnomon simulate`: simulated parties against a server on this machine.

Knows: which identities they get, how long they run.
Does not know: how a device behaves.
Spec: none.
"""

import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

from fleet import CertificateFiles, DevelopmentPKI, PKIError
from simulators import DeviceFailedError, DeviceProcesses, DeviceState, Endpoint, SimulatedDevice
from simulators.swarm import Scenario

from .data_folder import PKI_FOLDER
from .errors import EnvironmentFailureError, GnomonError
from .local_server import mtls_address

_CONNECT_TIMEOUT_S: Final = 30.0
#: What every simulated lamp is like before anybody asks for anything.
LAMP: Final[dict[str, Any]] = {"power": False, "color": "white", "brightness": 10}


def endpoint(address: tuple[str, int], files: CertificateFiles) -> Endpoint:
    """Return where and as whom a simulated party connects."""
    host, port = address
    return Endpoint(
        host=host, port=port, authority=files.authority, certificate=files.certificate, key=files.key
    )


def run_devices(
    data: Path, names: Sequence[str], *, duration_s: float | None, report: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Connect devices to the server that runs on `data`, and return what became of them.

    They run for `duration_s`, or until SIGINT or SIGTERM.

    Raises:
        EnvironmentFailureError: no server, or the development PKI cannot be used.
        GnomonError: a device could not connect.
    """
    address, authority = mtls_address(data), DevelopmentPKI(data / PKI_FOLDER)
    stopped = _until_stopped()
    with ExitStack() as stack:
        devices = []
        for name, files in zip(names, _identities(authority, names), strict=True):
            device = SimulatedDevice(name, endpoint(address, files), reported=LAMP)
            stack.callback(device.stop)
            device.start()
            devices.append(device)
        for device in devices:
            if not device.wait_ready(_CONNECT_TIMEOUT_S):
                raise GnomonError(f"{device.name}: {device.failure or 'no connection'}")
        report(f"{len(devices)} devices are connected to {address[0]}:{address[1]}")
        stopped.wait(duration_s)
        states = {device.name: device.state() for device in devices}
    return _tell(states, report)


def run_device_processes(
    data: Path, scenario: Scenario, *, report: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Do the same with one process for each device, which reports as the scenario says.

    Raises:
        EnvironmentFailureError: no server, or the development PKI cannot be used.
        GnomonError: a device could not connect, or its process ended.
    """
    address, authority = mtls_address(data), DevelopmentPKI(data / PKI_FOLDER)
    stopped = _until_stopped()
    names = [scenario.name(device) for device in range(scenario.devices)]
    endpoints = [endpoint(address, files) for files in _identities(authority, names)]
    with closing(DeviceProcesses(scenario, endpoints)) as processes:
        try:
            processes.wait_ready()
            report(f"{len(names)} devices are connected to {address[0]}:{address[1]}")
            stopped.wait(scenario.duration_s)
            states = processes.stop()
        except DeviceFailedError as error:
            raise GnomonError(str(error)) from None
    return _tell(states, report)


def _until_stopped() -> threading.Event:
    """Return what SIGINT and SIGTERM set."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    return stopped


def _identities(authority: DevelopmentPKI, names: Sequence[str]) -> list[CertificateFiles]:
    try:
        return authority.ensure_devices(names)
    except PKIError as error:
        raise EnvironmentFailureError(str(error)) from None


def _tell(states: Mapping[str, DeviceState], report: Callable[[str], None]) -> list[dict[str, Any]]:
    for name, state in states.items():
        report(f"{name}: version {state.version}, {state.deltas_applied} deltas applied, {state.reported}")
    return [
        {"thing": name, "version": state.version, "deltas": state.deltas_applied, "reported": state.reported}
        for name, state in states.items()
    ]
