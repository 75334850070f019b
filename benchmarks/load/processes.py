"""What a process costs: CPU and memory, and what the rest of the machine does meanwhile.

Knows: Linux' process clocks and /proc.
Does not know: what the process is for.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

from msgspec import Struct

_TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_CPUCLOCK_SCHED: Final = 2


class Spent(Struct, frozen=True, kw_only=True):
    """What went by between two readings of a process.

    `others_share` is the part of the machine (0..1) that everybody else used, our generators included.
    """

    cpu_s: float
    others_share: float
    rss_growth_kb: float


class Meter(Protocol):
    """Told when the measured part of a scenario begins and ends."""

    def start(self) -> None:
        """Everything before this is preparation."""

    def stop(self) -> None:
        """Everything after this is taking down."""


class ProcessMeter:
    """What one process spends between `start` and `stop`: CPU of all its threads, ended ones too."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._begun = self._ended = (0, 0, 0, 0)

    def start(self) -> None:
        """Take the first reading."""
        self._begun = self._read()

    def stop(self) -> None:
        """Take the second reading."""
        self._ended = self._read()

    def spent(self) -> Spent:
        """Return the difference."""
        wall, own, busy, rss = (
            after - before for before, after in zip(self._begun, self._ended, strict=True)
        )
        capacity = wall * (os.cpu_count() or 1)
        return Spent(
            cpu_s=own / 1e9,
            others_share=max(0.0, busy - own) / capacity if capacity else 0.0,
            rss_growth_kb=rss,
        )

    def _read(self) -> tuple[int, int, int, int]:
        return time.monotonic_ns(), cpu_ns(self._pid), _machine_busy_ns(), rss_kb(self._pid)


def cpu_ns(pid: int) -> int:
    """Return the CPU time of a process so far, as clock_getcpuclockid(3) names its clock."""
    return time.clock_gettime_ns(~pid << 3 | _CPUCLOCK_SCHED)


def rss_kb(pid: int) -> int:
    """Return resident memory in KiB."""
    return _kb(f"/proc/{pid}/status", "VmRSS:")


def machine() -> dict[str, object]:
    """Say what this machine is, for the record."""
    model = _field(Path("/proc/cpuinfo").read_text().splitlines(), "model name")
    uname = os.uname()
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": f"{uname.sysname} {uname.release} {uname.machine}",
        "memory_mb": _kb("/proc/meminfo", "MemTotal:") // 1024,
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }


def _machine_busy_ns() -> int:
    """Return CPU time of all cores that was not idle: user, nice, system, interrupts, steal."""
    with Path("/proc/stat").open() as file:
        values = [int(text) for text in file.readline().split()[1:9]]
    idle, waiting = values[3:5]
    return (sum(values) - idle - waiting) * _TICK_NS


def _kb(path: str, key: str) -> int:
    for line in Path(path).read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    raise LookupError(f"{path} has no {key}")


def _field(lines: Iterable[str], key: str) -> str:
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "unknown")
