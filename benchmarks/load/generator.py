"""Our own generator: several processes that publish, subscribe and account, and their coordinator.

Knows: how a scenario is split over processes, the order of phases, how their figures merge.
Does not know: sockets and packets (wire, clients), brokers as processes, tables.
"""

import multiprocessing
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Final, TypeVar

from msgspec import Struct

from simulators.histogram import Histogram

from .commands import Answer, Command, Failed, Open, Opened, Part, PhaseResult, Plan, Run, Stop
from .measurement import Delivery
from .processes import Meter, ProcessMeter, Spent
from .scenarios import PARALLEL, Scenario
from .wire import TLSFiles
from .worker import main

#: Nothing that a process is told takes so long: a phase without movement ends by itself.
_ANSWER_TIMEOUT_S: Final = 120.0
_END_TIMEOUT_S: Final = 10.0
#: Processes that each hold their share of pairs or connections.
_SHARES: Final = 2

_context: Final = multiprocessing.get_context("spawn")
_AnswerT = TypeVar("_AnswerT", Opened, PhaseResult)


class Endpoint(Struct, frozen=True, kw_only=True):
    """Where the broker under test listens, and what a client needs to get in."""

    host: str
    port: int
    tls: TLSFiles | None = None


class GeneratorError(Exception):
    """The load could not be made."""


class Generator:
    """Runs scenarios; each run has processes of its own."""

    name = "python"

    def measure(self, scenario: Scenario, endpoint: Endpoint, pid: int) -> tuple[Delivery, Spent]:
        """Make one load, and read what the process `pid` spends on it.

        Raises:
            GeneratorError: as in `run`.
        """
        meter = ProcessMeter(pid)
        delivery = self.run(scenario, endpoint, meter)
        return delivery, meter.spent()

    def run(self, scenario: Scenario, endpoint: Endpoint, meter: Meter) -> Delivery:
        """Make one load, and tell `meter` when the measured part begins and ends.

        Raises:
            GeneratorError: the broker refused or closed a connection, or messages of the warm-up are missing.
        """
        with _processes(scenario, endpoint) as group:
            if scenario.counts_connections:
                return _connect(group, scenario, meter)
            _tell(group, Open(), Opened)
            warm_up = _tell(group, Run(scenario.warm_up_per_publisher), PhaseResult)
            expected = scenario.deliveries(scenario.warm_up_per_publisher)
            if (delivered := sum(each.delivered for each in warm_up)) != expected:
                raise GeneratorError(f"warm-up: {delivered} of {expected} messages came")
            meter.start()
            results = _tell(group, Run(scenario.per_publisher), PhaseResult)
            meter.stop()
            return _merged(results, scenario.deliveries(scenario.per_publisher))


class _Process(Struct, frozen=True):
    process: SpawnProcess
    commands: Connection


def _connect(group: Sequence[_Process], scenario: Scenario, meter: Meter) -> Delivery:
    meter.start()
    opened = _tell(group, Open(), Opened)
    meter.stop()
    latency = _merge(each.latency for each in opened)
    return Delivery(
        expected=scenario.clients,
        delivered=latency.counts.total(),
        seconds=max(each.seconds for each in opened),
        generator_cpu_s=sum(each.cpu_s for each in opened),
        p50_us=latency.quantile_us(0.5),
        p99_us=latency.quantile_us(0.99),
    )


def _merged(results: Sequence[PhaseResult], expected: int) -> Delivery:
    latency = _merge(each.latency for each in results)
    late = _merge(each.late for each in results)
    delivered = sum(each.delivered for each in results)
    begun_ns = min(each.begun_ns for each in results if each.sent)
    last_ns = max((each.last_ns for each in results if each.delivered), default=begun_ns + 1)
    return Delivery(
        expected=expected,
        delivered=delivered,
        lost=expected - delivered,
        duplicates=sum(each.duplicates for each in results),
        reordered=sum(each.reordered for each in results),
        foreign=sum(each.foreign for each in results),
        seconds=(last_ns - begun_ns) / 1e9,
        generator_cpu_s=sum(each.cpu_s for each in results),
        p50_us=latency.quantile_us(0.5),
        p99_us=latency.quantile_us(0.99),
        late_p99_us=late.quantile_us(0.99),
    )


def _merge(histograms: Iterator[dict[int, int]]) -> Histogram:
    merged = Histogram()
    for counts in histograms:
        merged.merge(Histogram(counts))
    return merged


def _parts(scenario: Scenario) -> list[tuple[Part, range]]:
    """Split a scenario: subscribers stand before the publishers, because they connect in this order."""
    match scenario.kind:
        case "pairs":
            return [("pairs", range(share, scenario.clients, _SHARES)) for share in range(_SHARES)]
        case "conns":
            return [("connections", range(share, scenario.clients, _SHARES)) for share in range(_SHARES)]
        case "fanout":
            return [("subscribers", range(scenario.clients)), ("publishers", range(1))]
        case _:
            return [("subscribers", range(1)), ("publishers", range(scenario.clients))]


@contextmanager
def _processes(scenario: Scenario, endpoint: Endpoint) -> Iterator[list[_Process]]:
    """Start the processes of a run, and end them whatever happens."""
    hearing, telling = _context.Pipe(duplex=False)
    progress = {"subscribers": telling, "publishers": hearing}
    run_id = secrets.randbits(32)
    with ExitStack() as stack:
        stack.callback(hearing.close)
        stack.callback(telling.close)
        group = []
        parts = _parts(scenario)
        for part, numbers in parts:
            plan = Plan(
                scenario=scenario,
                part=part,
                numbers=numbers,
                run_id=run_id,
                address=(endpoint.host, endpoint.port),
                tls=endpoint.tls,
                parallel=PARALLEL // len(parts),
            )
            ours, theirs = _context.Pipe()
            process = _context.Process(target=main, args=(plan, theirs, progress.get(part)), daemon=True)
            process.start()
            theirs.close()
            stack.callback(_end, process, ours)
            group.append(_Process(process, ours))
        yield group


def _tell(group: Sequence[_Process], command: Command, expected: type[_AnswerT]) -> list[_AnswerT]:
    """Give all processes a command, in order, and return their answers."""
    for member in group:
        member.commands.send(command)
    answers = []
    for member in group:
        try:
            answer: Answer | None = (
                member.commands.recv()
                if member.commands.poll(_ANSWER_TIMEOUT_S)
                else Failed("no answer in time")
            )
        except EOFError:
            answer = Failed("a process of the generator ended")
        if isinstance(answer, Failed):
            raise GeneratorError(answer.reason)
        if not isinstance(answer, expected):
            raise GeneratorError(f"{type(answer).__name__} instead of {expected.__name__}")
        answers.append(answer)
    return answers


def _end(process: SpawnProcess, commands: Connection) -> None:
    try:
        commands.send(Stop())
        process.join(_END_TIMEOUT_S)
    except BrokenPipeError:
        pass  # It has ended already.
    commands.close()
    if process.is_alive():
        process.kill()
    process.join()
