"""A server in a process of its own, for tests that speak to it from outside."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class RunningServer:
    process: subprocess.Popen[bytes]
    data: Path
    ready: dict[str, Any]

    def port(self, scheme: str = "mtls") -> int:
        url = next(str(item["url"]) for item in self.ready["listeners"] if item["url"].startswith(scheme))
        port = urlsplit(url).port
        assert port is not None
        return port


def start_gnomon(
    *arguments: str, log: Path, extra: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start the command line as its own process; its standard error goes to `log`.

    `extra` is added to its environment.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GNOMON_")}
    environment = {**inherited, **(extra or {})}
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "gnomon", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
        )


def wait_ready(process: subprocess.Popen[bytes], data: Path, log: Path) -> dict[str, Any]:
    """Wait for the ready.json of this very process."""
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            ready: dict[str, Any] = json.loads((data / "ready.json").read_text())
        except FileNotFoundError:
            pass
        else:
            if ready["pid"] == process.pid:
                return ready
        time.sleep(0.01)  # Another process writes the file; there is nothing to wait on.
    raise AssertionError(log.read_text())


@contextmanager
def running_server(data: Path, *arguments: str) -> Iterator[RunningServer]:
    """Run `gnomon serve` on a data folder until the end of the block."""
    data.mkdir(parents=True, exist_ok=True)
    log = data / "test.log"
    process = start_gnomon("serve", "--data", str(data), *arguments, log=log)
    try:
        yield RunningServer(process, data, wait_ready(process, data, log))
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
