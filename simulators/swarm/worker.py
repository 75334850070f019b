"""One process of the swarm: its devices on one loop, from the ramp to the last answer.

Knows: who connects when, who is due, the phases, what the coordinator is told.
Does not know: other processes, packets (party), bytes (link).
Spec: none.
"""

import asyncio
import contextlib
import enum
import gc
import heapq
import resource
import signal
import time
from collections.abc import Callable, Iterator
from itertools import chain, cycle, islice
from multiprocessing.connection import Connection
from typing import Any, Final

from fleet import CertificateFiles

from .commands import Command, Failed, Finished, Load, Plan, Progress, Ramp, Settled
from .device import SwarmDevice
from .editor import Editor
from .link import Link, reason_of
from .party import SECOND_NS, Party
from .scenario import Schedule
from .tally import Tally
from .target import client_context

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

_TICK_S: Final = 0.001
_PROGRESS_NS: Final = SECOND_NS // 2
_LOOK_NS: Final = SECOND_NS // 20
#: Each party's timers are looked at about so often.
_TIMERS_NS: Final = SECOND_NS
#: How long after its time in the ramp the last device may become ready before the load begins without it.
_SETTLE_NS: Final = 15 * SECOND_NS
#: How long answers are waited for after the load.
_DRAIN_NS: Final = 15 * SECOND_NS
_LEAVE_TIMEOUT_S: Final = 5.0
_DIAL_TIMEOUT_S: Final = 30.0
_DIALS_MAXIMUM: Final = 128
#: Files that are open besides connections.
_FILES: Final = 64


class Phase(enum.Enum):
    """How far this process is."""

    WAITING = enum.auto()
    CONNECTING = enum.auto()
    CONNECTED = enum.auto()
    LOADING = enum.auto()
    DRAINING = enum.auto()


def main(plan: Plan, commands: Connection, loop_factory: LoopFactory | None) -> None:
    """Be one process of a swarm until it has finished, or the coordinator is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the coordinator, which asks us to stop.
    worker = Worker(plan, commands)
    if (complaint := worker.allow_files()) is not None:
        commands.send(Failed(complaint))
        return
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        try:
            runner.run(worker.run())
        except* BrokenPipeError:
            pass  # The coordinator is gone: nobody is left to count for.


class Worker:
    """A share of the devices, and an operator where there are edits."""

    def __init__(self, plan: Plan, commands: Connection) -> None:
        self._plan = plan
        self._commands = commands
        self._tally = Tally()
        scenario = plan.scenario
        share = scenario.share(plan.process)
        self._devices = {number: SwarmDevice(number, scenario, self._tally) for number in share}
        self._editors = (
            [Editor(f"{scenario.prefix}-operator-{plan.process + 1}", scenario, self._tally)]
            if scenario.edits
            else []
        )
        self._identities: dict[Party, CertificateFiles] = {}
        if plan.identities is not None and plan.operator is not None:
            self._identities = dict(zip(self._devices.values(), plan.identities, strict=True))
            self._identities.update(dict.fromkeys(self._editors, plan.operator))
        self._phase = Phase.WAITING
        self._links: dict[Party, Link] = {}
        self._dials: dict[Party, asyncio.Task[None]] = {}
        self._to_dial: list[tuple[int, int, Party]] = []
        self._dialed = 0
        self._gate_ns = 0
        self._updates: Schedule | None = None
        self._edits: Schedule | None = None
        self._end_ns: int | None = None
        self._deadline_ns = 0
        self._timers: Iterator[Party] = cycle([*self._devices.values(), *self._editors])
        self._told_ns = self._looked_ns = self._timers_ns = 0
        self._begin_ns = self._cpu_ns = 0
        self._is_loaded = False
        self._is_finished = False
        self._left = asyncio.Event()
        self._failure: str | None = None

    def allow_files(self) -> str | None:
        """Let this process open as many connections as it needs; where it may not, return what helps."""
        needed = len(self._devices) + len(self._editors) + _FILES
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < needed:
            return (
                f"{needed} open files are needed and {hard} allowed: raise ulimit -n, or use more processes"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return None

    async def run(self) -> None:
        """Serve commands and devices until all is finished."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_exception)
        loop.add_reader(self._commands.fileno(), self._on_command)
        try:
            async with asyncio.TaskGroup() as group:
                while not self._is_finished and self._failure is None:
                    self._tick(group)
                    await asyncio.sleep(_TICK_S)
                for task in self._dials.values():
                    task.cancel()
            await self._leave()
        finally:
            loop.remove_reader(self._commands.fileno())
        if self._failure is not None:
            self._commands.send(Failed(self._failure))

    # The coordinator.

    def _on_command(self) -> None:
        try:
            command: Command = self._commands.recv()
        except (EOFError, OSError):
            self._is_finished = True  # Nobody is left to count for.
            return
        now_ns = time.monotonic_ns()
        match command:
            case Ramp():
                self._ramp(command.begin_ns)
            case Load():
                self._load(command.begin_ns)
            case _ if self._phase in (Phase.WAITING, Phase.CONNECTING, Phase.CONNECTED):
                self._finish()
            case _:
                self._end_ns = now_ns if self._end_ns is None else min(self._end_ns, now_ns)

    def _ramp(self, begin_ns: int) -> None:
        scenario = self._plan.scenario
        times = [
            (begin_ns + scenario.connect_at_ns(number), device) for number, device in self._devices.items()
        ]
        for due_ns, party in chain(((begin_ns, editor) for editor in self._editors), times):
            self._dial_at(due_ns, party)
        self._deadline_ns = begin_ns + scenario.connect_at_ns(scenario.devices) + _SETTLE_NS
        self._phase = Phase.CONNECTING

    def _load(self, begin_ns: int) -> None:
        scenario, numbers = self._plan.scenario, list(self._devices)
        self._begin_ns = begin_ns
        self._updates = scenario.updates(numbers, begin_ns)
        self._edits = scenario.edit_times(numbers, begin_ns)
        if scenario.duration_s is not None:
            self._end_ns = begin_ns + int(scenario.duration_s * SECOND_NS)
        gc.collect()
        gc.freeze()  # What stands now stays until the end: no collection looks at it again.
        self._cpu_ns = time.process_time_ns()
        self._phase = Phase.LOADING

    def _finish(self) -> None:
        devices = self._devices.values()
        ready = sum(device.is_ready for device in devices)
        for device in devices:
            device.abandon()
        self._commands.send(
            Finished(
                tally=self._tally,
                ready=ready,
                drifting=sum(device.follower.is_drifting for device in devices),
                load_s=max(0, (self._end_ns or 0) - self._begin_ns) / SECOND_NS,
                cpu_s=(time.process_time_ns() - self._cpu_ns) / SECOND_NS,
            )
        )
        self._is_finished = True

    async def _leave(self) -> None:
        """Say DISCONNECT everywhere, and give it the time to arrive."""
        for link in list(self._links.values()):
            link.leave()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_TIMEOUT_S):
                while self._links:
                    await self._left.wait()
                    self._left.clear()

    # The clock.

    def _tick(self, group: asyncio.TaskGroup) -> None:
        now_ns = time.monotonic_ns()
        self._dial_due(now_ns, group)
        if self._phase is Phase.LOADING:
            self._send_due(now_ns)
        self._handle_timers(now_ns)
        if now_ns - self._looked_ns >= _LOOK_NS:
            self._looked_ns = now_ns
            self._look(now_ns)
        if now_ns - self._told_ns >= _PROGRESS_NS and not self._is_finished:
            self._told_ns = now_ns
            self._commands.send(Progress(self._tally, sum(d.is_ready for d in self._devices.values())))

    def _send_due(self, now_ns: int) -> None:
        if now_ns < self._begin_ns:
            return
        until_ns = now_ns if self._end_ns is None else min(now_ns, self._end_ns)
        if self._plan.scenario.is_closed_loop and not self._is_loaded:
            self._is_loaded = True
            for device in self._devices.values():
                device.load(now_ns)
                self._flush(device)
        if self._updates is not None:
            for number, update, due_ns in self._updates.take(until_ns):
                device = self._devices[number]
                device.update(update, due_ns, now_ns)
                self._flush(device)
        if self._edits is not None:
            for number, edit, due_ns in self._edits.take(until_ns):
                self._edit(self._devices[number], edit, due_ns, now_ns)
        if self._end_ns is not None and now_ns >= self._end_ns:
            self._phase = Phase.DRAINING
            self._deadline_ns = now_ns + _DRAIN_NS
            for device in self._devices.values():
                device.unload()

    def _edit(self, device: SwarmDevice, number: int, due_ns: int, now_ns: int) -> None:
        editor = self._editors[0]
        if editor.edit(device.name, number, due_ns, now_ns):
            device.follower.expect_edit(number, due_ns)
            self._flush(editor)
        else:
            self._tally.counts.edits_missed += 1

    def _handle_timers(self, now_ns: int) -> None:
        """Look after some parties, so that all are looked at in turn and nobody waits for it."""
        parties = len(self._devices) + len(self._editors)
        due = (now_ns - self._timers_ns) * parties // _TIMERS_NS
        if due:
            self._timers_ns = now_ns
            for party in islice(self._timers, min(due, parties)):
                party.handle_timer(now_ns)
                self._flush(party)

    def _look(self, now_ns: int) -> None:
        """Look whether a phase is over."""
        devices = self._devices.values()
        if self._phase is Phase.CONNECTING:
            parties = chain(self._editors, devices)
            if now_ns >= self._deadline_ns or all(party.is_ready for party in parties):
                self._phase = Phase.CONNECTED
                self._commands.send(Settled(sum(device.is_ready for device in devices)))
        elif self._phase is Phase.DRAINING and (
            now_ns >= self._deadline_ns or all(device.is_settled for device in devices)
        ):
            self._finish()

    # Connections.

    def _dial_at(self, due_ns: int, party: Party) -> None:
        self._dialed += 1
        heapq.heappush(self._to_dial, (due_ns, self._dialed, party))

    def _dial_due(self, now_ns: int, group: asyncio.TaskGroup) -> None:
        """Connect whose time has come, as fast as the ramp and not too many at once."""
        while (
            self._to_dial
            and max(self._to_dial[0][0], self._gate_ns) <= now_ns
            and len(self._dials) < _DIALS_MAXIMUM
        ):
            due_ns, _, party = heapq.heappop(self._to_dial)
            scenario = self._plan.scenario
            self._gate_ns = max(self._gate_ns, due_ns) + int(SECOND_NS * scenario.processes / scenario.ramp)
            self._dials[party] = group.create_task(self._dial(party, due_ns), name=f"dial:{party.name}")

    async def _dial(self, party: Party, due_ns: int) -> None:
        plan = self._plan
        link = Link(party, due_ns, self._on_lost)
        try:
            identity = self._identities.get(party)
            context = None if identity is None else client_context(identity, plan.authority)
            async with asyncio.timeout(_DIAL_TIMEOUT_S):
                self._links[party] = link
                await asyncio.get_running_loop().create_connection(
                    lambda: link,
                    plan.host,
                    plan.port,
                    ssl=context,
                    server_hostname=None if context is None else plan.server_name,
                )
        except OSError as error:  # TimeoutError and ssl.SSLError are among them.
            if self._links.get(party) is link:
                party.lost(reason_of(error))
                self._on_lost(link)
        finally:
            del self._dials[party]

    def _on_lost(self, link: Link) -> None:
        party = link.party
        if self._links.get(party) is link:
            del self._links[party]
            self._left.set()
            if not self._is_finished:
                self._dial_at(time.monotonic_ns() + party.back_off_ns(), party)

    def _flush(self, party: Party) -> None:
        if (link := self._links.get(party)) is not None:
            link.flush()

    def _on_exception(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback failed: of a connection's end its link is told; anything else is a defect of ours."""
        error = context.get("exception")
        if not isinstance(error, OSError):
            self._failure = f"{context.get('message')}: {error!r}"
