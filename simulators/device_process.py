"""Simulated devices, each a process of its own, as real ones are.

Knows: starting such processes, when each reports, what comes back from them.
Does not know: how a device behaves (device).
Spec: none.
"""

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Final

from msgspec import Struct

from .client import Endpoint
from .device import DeviceState, SimulatedDevice
from .swarm import Scenario

_READY_TIMEOUT_S: Final = 30.0
_END_TIMEOUT_S: Final = 15.0
_SECOND_NS: Final = 1_000_000_000

_context: Final = multiprocessing.get_context("spawn")


class DeviceFailedError(Exception):
    """A device could not connect, or its process ended; the text says which and why."""


class _Failed(Struct, frozen=True):
    reason: str


class _Ready(Struct, frozen=True):
    """The device is connected."""


class DeviceProcesses:
    """The devices of a scenario, connected while it is entered; each reports on its schedule.

    Args:
        scenario: how many there are, what they report and how often; its rate None means never.
        endpoints: where and as whom each connects.
    """

    def __init__(self, scenario: Scenario, endpoints: Sequence[Endpoint]) -> None:
        self._names = [scenario.name(device) for device in range(scenario.devices)]
        self._pipes: list[Connection] = []
        self._processes = []
        for device, endpoint in enumerate(endpoints):
            ours, theirs = _context.Pipe()
            process = _context.Process(target=_run, args=(scenario, device, endpoint, theirs))
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def wait_ready(self) -> None:
        """Wait until every device is connected.

        Raises:
            DeviceFailedError: one could not.
        """
        for name, pipe in zip(self._names, self._pipes, strict=True):
            _hear(name, pipe)

    def stop(self) -> dict[str, DeviceState]:
        """Stop reporting and disconnect; returns what each device knew at the end.

        Raises:
            DeviceFailedError: a process ended before.
        """
        for pipe in self._pipes:
            with contextlib.suppress(OSError):  # `_hear` says that it is gone.
                pipe.send(None)
        states = {}
        for name, pipe in zip(self._names, self._pipes, strict=True):
            if isinstance(state := _hear(name, pipe), DeviceState):
                states[name] = state
        return states

    def close(self) -> None:
        """End every process; may be repeated."""
        for pipe in self._pipes:
            pipe.close()  # Who still runs ends at that.
        for process in self._processes:
            process.join(_END_TIMEOUT_S)
            if process.is_alive():
                process.kill()
                process.join()


def _hear(name: str, pipe: Connection) -> DeviceState | _Ready:
    try:
        answer: DeviceState | _Ready | _Failed = pipe.recv()
    except (EOFError, ConnectionResetError):
        raise DeviceFailedError(f"{name}: its process ended") from None
    if isinstance(answer, _Failed):
        raise DeviceFailedError(f"{name}: {answer.reason}")
    return answer


def _run(scenario: Scenario, number: int, endpoint: Endpoint, commands: Connection) -> None:
    """Be one device until told to stop, or until nobody is left to tell."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches whoever started us.
    device = SimulatedDevice(
        scenario.name(number), endpoint, reported=scenario.reported(number, 0), root=scenario.root
    )
    device.start()
    try:
        if not device.wait_ready(_READY_TIMEOUT_S):
            commands.send(_Failed(device.failure or "no connection"))
            return
        commands.send(_Ready())
        _report_until_told(device, scenario, number, commands)
        commands.send(device.state())
    except (EOFError, OSError):
        pass  # Nobody is left to tell.
    finally:
        device.stop()


def _report_until_told(
    device: SimulatedDevice, scenario: Scenario, number: int, commands: Connection
) -> None:
    schedule = scenario.updates([number], time.monotonic_ns())
    while schedule is not None:
        now_ns = time.monotonic_ns()
        for _, update, _ in schedule.take(now_ns):
            device.change(scenario.reported(number, update + 1))
        if commands.poll(max(0, schedule.next_ns - now_ns) / _SECOND_NS):
            break
    commands.recv()
