"""A mosquitto of one's own on a free port, which can be stopped and started again.

Knows: mosquitto's configuration file.
Does not know: what it is used for.
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TIMEOUT_S = 15.0


class Mosquitto:
    """One broker; what durable sessions wait for survives `stop` and `start`."""

    def __init__(self, folder: Path, *lines: str) -> None:
        program = shutil.which("mosquitto", path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin")
        assert program is not None, "mosquitto is not installed: tools/setup.sh --programs"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self._log = folder / "mosquitto.log"
        config = folder / "mosquitto.conf"
        settings = (
            f"listener {self.port} 127.0.0.1",
            *(lines or ("allow_anonymous true",)),
            "persistence true",
            f"persistence_location {folder}/",
            "max_queued_messages 100000",
            "set_tcp_nodelay true",
        )
        # Started by root, it would become another user, who may not write here.
        config.write_text("\n".join((*settings, "user root", "")))
        self._command = [program, "-c", str(config)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + _TIMEOUT_S
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self._log.read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.01)  # Another process opens the port; there is nothing to wait on.
            else:
                return
        raise AssertionError(self._log.read_text())

    def stop(self) -> None:
        """End it; it writes down what it must keep."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


@contextmanager
def running_mosquitto(folder: Path, *lines: str) -> Iterator[Mosquitto]:
    """Run a mosquitto until the end of the block; `lines` configure its listener, else it takes anybody."""
    folder.mkdir(parents=True, exist_ok=True)
    broker = Mosquitto(folder, *lines)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()
