"""Faults for a server process: builds the shim, and tells it what to do while the server runs.

Knows: the layout of the shim's control file.
Does not know: how a fault is made (shim.c), what it is good for.
Spec: none.
"""

import ctypes
import mmap
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).with_name("shim.c")
_FLAGS: Final = ("-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC")


class Faults(ctypes.Structure):
    """What the shim is told, and what it counts; changes hold at once. shim.c explains each."""

    clock_offset_ns: int
    write_errno: int
    sync_errno: int
    tear_in: int
    cut_in: int
    writes: int
    syncs: int
    failures: int
    taken_back: int

    _fields_ = (
        ("clock_offset_ns", ctypes.c_int64),
        ("write_errno", ctypes.c_int32),
        ("sync_errno", ctypes.c_int32),
        ("tear_in", ctypes.c_int32),
        ("cut_in", ctypes.c_int32),
        ("writes", ctypes.c_int32),
        ("syncs", ctypes.c_int32),
        ("failures", ctypes.c_int32),
        ("taken_back", ctypes.c_int32),
    )


class Shim:
    """One control file; `environment` makes a process load the shim and look at it."""

    def __init__(self, library: Path, control: Path) -> None:
        control.write_bytes(bytes(ctypes.sizeof(Faults)))
        with control.open("r+b") as file:
            self._mapped = mmap.mmap(file.fileno(), ctypes.sizeof(Faults))
        self.faults: Final = Faults.from_buffer(self._mapped)
        self.environment: Final[Mapping[str, str]] = {
            "LD_PRELOAD": str(library),
            "CRASH_SHIM_CONTROL": str(control),
        }


def build_shim(folder: Path) -> Path:
    """Compile the shim; gcc is a requirement of the tests."""
    library = folder / "shim.so"
    subprocess.run(
        [
            "gcc",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-O1",
            "-shared",
            "-fPIC",
            "-o",
            library,
            _SOURCE,
            "-ldl",
            "-pthread",
        ],
        check=True,
    )
    return library
