"""A server on this machine: find the one that runs, or run one beside oneself.

Knows: ready.json, the server as a process.
Does not know: MQTT, what the server is used for.
Spec: none.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from .data_folder import READY_FILE
from .errors import EnvironmentFailureError, GnomonError
from .settings import ENVIRONMENT_PREFIX

_START_TIMEOUT_S: Final = 15.0
_STOP_TIMEOUT_S: Final = 15.0
_POLL_S: Final = 0.02
_LOG_SHOWN: Final = 400
_ANY_HOST: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (looked up, never bound to)


def mtls_address(data: Path) -> tuple[str, int]:
    """Return host and port of the first mtls listener of the server that runs on a data folder.

    Raises:
        EnvironmentFailureError: no server runs there, or it has no such listener.
    """
    ready = _read_ready(data)
    if ready is None:
        raise EnvironmentFailureError(
            f"{data}: no server runs here; start it with: gnomon serve --data {data}"
        )
    _, urls = ready
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme == "mtls" and parts.hostname and parts.port:
            return _ANY_HOST.get(parts.hostname, parts.hostname), parts.port
    raise EnvironmentFailureError(f"{data}: its server has no mtls:// listener; start it with one")


class LocalServer:
    """A server in a process of its own, which outlives neither `stop` nor a failed start.

    Ctrl-C in the terminal does not reach it: whoever started it ends it.
    """

    def __init__(self, data: Path, config: Path, log: Path) -> None:
        self._data = data
        self._log = log
        environment = {
            key: text for key, text in os.environ.items() if not key.startswith(ENVIRONMENT_PREFIX)
        }
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603  (this interpreter, this program)
                [sys.executable, "-m", "gnomon", "serve", "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Wait until the server's ready.json stands.

        Raises:
            GnomonError: the server ended, or took too long.
        """
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            self.check()
            ready = _read_ready(self._data)
            if ready is not None and ready[0] == self._process.pid:
                return
            time.sleep(_POLL_S)  # Another process writes the file; there is nothing to wait on.
        raise GnomonError(f"the server was not ready after {_START_TIMEOUT_S:.0f} s; its log is {self._log}")

    def check(self) -> None:
        """Look whether the server still runs.

        Raises:
            GnomonError: it ended; the text holds its last words.
        """
        if self._process.poll() is not None:
            raise self._ended()

    def wait(self, timeout_s: float) -> None:
        """Wait some time for the server's end, which is not expected.

        Raises:
            GnomonError: it ended.
        """
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return
        raise self._ended()

    def stop(self) -> None:
        """Drain and end the server; may be repeated.

        Raises:
            GnomonError: it did not end well.
        """
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.returncode != 0:
            raise self._ended()

    def _ended(self) -> GnomonError:
        last_words = self._log.read_text(errors="replace").strip()[-_LOG_SHOWN:].rpartition("\n")[2]
        return GnomonError(
            f"the server ended with {self._process.returncode}: {last_words or 'no words'} (log: {self._log})"
        )


def _read_ready(data: Path) -> tuple[int, list[str]] | None:
    """Return pid and listener URLs of the server that runs on a data folder."""
    try:
        content = json.loads((data / READY_FILE).read_text())
        return int(content["pid"]), [str(listener["url"]) for listener in content["listeners"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
