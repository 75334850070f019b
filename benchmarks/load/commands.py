"""What coordinator and processes of the generator say to each other.

Knows: the plan of a process, commands and their answers.
Does not know: how a command is carried out (worker), in which order they come (generator).
"""

from typing import Literal

from msgspec import Struct

from .scenarios import Scenario
from .wire import TLSFiles

Part = Literal["publishers", "subscribers", "pairs", "connections"]


class Plan(Struct, frozen=True, kw_only=True):
    """What one process does: `numbers` of the scenario's clients of one part."""

    scenario: Scenario
    part: Part
    numbers: range
    run_id: int
    address: tuple[str, int]
    tls: TLSFiles | None
    parallel: int


class Open(Struct, frozen=True):
    """Command: connect and subscribe. Answered by `Opened`."""


class Run(Struct, frozen=True):
    """Command: one phase. Answered by `PhaseResult`."""

    per_publisher: int


class Stop(Struct, frozen=True):
    """Command: close and end. Not answered."""


class Opened(Struct, frozen=True):
    """Everybody is connected: how long each took, all together, and our own CPU."""

    latency: dict[int, int]
    seconds: float
    cpu_s: float


class PhaseResult(Struct, frozen=True, kw_only=True):
    """What this process sent and got in one phase; times are monotonic nanoseconds, 0 for never."""

    sent: int
    delivered: int
    duplicates: int
    reordered: int
    foreign: int
    begun_ns: int
    last_ns: int
    cpu_s: float
    latency: dict[int, int]
    late: dict[int, int]


class Failed(Struct, frozen=True):
    """Answer to any command: this process cannot go on."""

    reason: str


Command = Open | Run | Stop
Answer = Opened | PhaseResult | Failed
