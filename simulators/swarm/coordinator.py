"""The whole swarm: its processes, its phases, and one report of them all.

Knows: how devices are split over processes, the order of phases, how counts merge.
Does not know: what a process does (worker), how progress is shown.
Spec: none.
"""

import multiprocessing
import multiprocessing.connection
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Final, Literal

from msgspec import Struct

from .commands import Command, Failed, Finished, Load, Plan, Progress, Ramp, Settled, Stop
from .errors import SwarmError
from .party import SECOND_NS
from .report import Report, make_report
from .scenario import Scenario
from .tally import Tally
from .target import Target
from .worker import LoopFactory, main

SwarmPhase = Literal["certificates", "connecting", "load"]

_POLL_S: Final = 0.25
_END_TIMEOUT_S: Final = 10.0
#: Between the decision to begin and the beginning, so that no process is late.
_HEAD_START_NS: Final = SECOND_NS // 4
#: Beyond the scenario's own times: after it a process that says nothing is given up.
_PATIENCE_S: Final = 60.0

_context: Final = multiprocessing.get_context("spawn")


class SwarmProgress(Struct, frozen=True, kw_only=True):
    """How things stand: `done` devices of all have a certificate, or a connection."""

    phase: SwarmPhase
    done: int
    seconds: float
    """Since the phase began."""
    tally: Tally


class _Process:
    """One process and what it said last."""

    def __init__(self, process: BaseProcess, commands: Connection) -> None:
        self.process = process
        self.commands = commands
        self.tally = Tally()
        self.ready = 0
        self.is_settled = False
        self.finished: Finished | None = None

    def hear(self) -> None:
        """Take a report.

        Raises:
            SwarmError: the process cannot go on, or is gone.
        """
        try:
            report = self.commands.recv()
        except (EOFError, ConnectionResetError):
            self.process.join(_END_TIMEOUT_S)
            raise SwarmError(f"a process of the swarm ended with {self.process.exitcode}") from None
        match report:
            case Progress():
                self.tally, self.ready = report.tally, report.ready
            case Settled():
                self.is_settled, self.ready = True, report.ready
            case Finished():
                self.finished, self.tally, self.ready = report, report.tally, report.ready
            case Failed():
                raise SwarmError(report.reason)


class Swarm:
    """Runs a scenario against a target, once.

    Args:
        scenario: what the devices do.
        target: where.
        on_progress: called some times a second.
        on_load: called when the load begins (True) and when it is over (False): what a meter needs.
        stopped: once set, the swarm begins nothing new and reports.
        loop_factory: makes each process's event loop; None for the standard library's.
    """

    def __init__(
        self,
        scenario: Scenario,
        target: Target,
        *,
        on_progress: Callable[[SwarmProgress], None] = lambda progress: None,
        on_load: Callable[[bool], None] = lambda is_beginning: None,
        stopped: threading.Event | None = None,
        loop_factory: LoopFactory | None = None,
    ) -> None:
        self._scenario = scenario
        self._target = target
        self._on_progress = on_progress
        self._on_load = on_load
        self._stopped = stopped or threading.Event()
        self._loop_factory = loop_factory
        self._phase: SwarmPhase = "certificates"
        self._phase_ns = time.monotonic_ns()

    def run(self) -> Report:
        """Run until the end of the duration, or until stopped.

        Raises:
            SwarmError: nobody listens, certificates cannot be made, or a process ended.
        """
        with self._processes(self._plans()) as processes:
            self._enter("connecting")
            self._tell(processes, Ramp(time.monotonic_ns() + _HEAD_START_NS))
            self._wait(processes, lambda each: each.is_settled or each.finished is not None)
            begin_ns = time.monotonic_ns() + _HEAD_START_NS
            is_stopped = self._stopped.is_set()
            nobody = not any(each.ready for each in processes)
            self._enter("load")
            if not is_stopped:
                self._tell(processes, Stop() if nobody else Load(begin_ns))
            self._on_load(True)
            self._wait(processes, lambda each: each.finished is not None)
            self._on_load(False)
            return self._report(processes, begin_ns)

    def _plans(self) -> list[Plan]:
        scenario, target = self._scenario, self._target
        host = target.resolve()
        names = [scenario.name(device) for device in range(scenario.devices)]
        identities = target.identities(names, lambda done: self._show(done, Tally()))
        operator = target.operator()
        return [
            Plan(
                scenario=scenario,
                process=process,
                host=host,
                port=target.port,
                server_name=target.host,
                authority=target.authority,
                identities=None if identities is None else [identities[n] for n in scenario.share(process)],
                operator=operator,
            )
            for process in range(scenario.processes)
        ]

    @contextmanager
    def _processes(self, plans: Sequence[Plan]) -> Iterator[list[_Process]]:
        processes: list[_Process] = []
        try:
            for plan in plans:
                ours, theirs = _context.Pipe()
                process = _context.Process(
                    target=main, args=(plan, theirs, self._loop_factory), name=f"swarm-{plan.process}"
                )
                process.start()
                theirs.close()  # So that we see its end.
                processes.append(_Process(process, ours))
            yield processes
        finally:
            for each in processes:
                each.commands.close()  # Who still runs ends at that.
            for each in processes:
                each.process.join(_END_TIMEOUT_S)
                if each.process.is_alive():
                    each.process.kill()
                    each.process.join()

    def _tell(self, processes: Sequence[_Process], command: Command) -> None:
        for each in processes:
            if each.finished is None:
                with suppress(BrokenPipeError):  # `hear` says that it is gone.
                    each.commands.send(command)

    def _wait(self, processes: Sequence[_Process], is_over: Callable[[_Process], bool]) -> None:
        """Hear everybody until it is over for each; pass on that the swarm is to stop."""
        is_told = False
        heard_at = time.monotonic()
        while waiting := [each for each in processes if not is_over(each)]:
            by_pipe = {each.commands: each for each in waiting}
            for pipe in multiprocessing.connection.wait(list(by_pipe), _POLL_S):
                heard_at = time.monotonic()
                by_pipe[pipe].hear()  # type: ignore[index]  # what was waited for is what is returned
            if time.monotonic() - heard_at > _PATIENCE_S:
                raise SwarmError(f"{len(waiting)} processes of the swarm say nothing any more")
            if self._stopped.is_set() and not is_told:
                is_told = True
                self._tell(processes, Stop())
            self._show(sum(each.ready for each in processes), _merged(processes))

    def _enter(self, phase: SwarmPhase) -> None:
        self._phase, self._phase_ns = phase, time.monotonic_ns()

    def _show(self, done: int, tally: Tally) -> None:
        seconds = (time.monotonic_ns() - self._phase_ns) / SECOND_NS
        self._on_progress(SwarmProgress(phase=self._phase, done=done, seconds=seconds, tally=tally))

    def _report(self, processes: Sequence[_Process], begin_ns: int) -> Report:
        tally = _merged(processes)
        finished = [each.finished for each in processes if each.finished is not None]
        return make_report(
            self._scenario,
            self._target.url,
            tally,
            seconds=max(*(each.load_s for each in finished), (tally.last_answer_ns - begin_ns) / SECOND_NS),
            ready=sum(each.ready for each in finished),
            drifting=sum(each.drifting for each in finished),
            cpu_s=[each.cpu_s for each in finished],
        )


def _merged(processes: Sequence[_Process]) -> Tally:
    merged = Tally()
    for each in processes:
        merged.merge(each.tally)
    return merged
