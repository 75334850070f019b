"""What the coordinator and the processes of a swarm say to each other.

Knows: the plan of a process, commands and reports.
Does not know: how a command is carried out (worker), in which order they come (coordinator).
Spec: none.
"""

from pathlib import Path

from msgspec import Struct

from fleet import CertificateFiles

from .scenario import Scenario
from .tally import Tally


class Plan(Struct, frozen=True, kw_only=True):
    """What one process does. `identities` are those of its share of the devices, None for plain TCP."""

    scenario: Scenario
    process: int
    host: str
    port: int
    server_name: str
    authority: Path | None
    identities: list[CertificateFiles] | None
    operator: CertificateFiles | None


class Ramp(Struct, frozen=True):
    """Command: connect, the first device at this time (monotonic nanoseconds). Answered by `Settled`."""

    begin_ns: int


class Load(Struct, frozen=True):
    """Command: do what the scenario says from this time on. Answered by `Finished`."""

    begin_ns: int


class Stop(Struct, frozen=True):
    """Command: begin nothing new, and finish. Answered by `Finished`."""


class Progress(Struct, frozen=True):
    """Report, some times a second: everything counted so far, and how many devices are ready."""

    tally: Tally
    ready: int


class Settled(Struct, frozen=True):
    """Report: every device is ready, or had its time."""

    ready: int


class Finished(Struct, frozen=True, kw_only=True):
    """Report: all is counted, and every connection closed; `cpu_s` is what `load_s` took of a core."""

    tally: Tally
    ready: int
    drifting: int
    load_s: float
    cpu_s: float


class Failed(Struct, frozen=True):
    """Report: this process cannot go on."""

    reason: str


Command = Ramp | Load | Stop
Report = Progress | Settled | Finished | Failed
