"""One data folder, and the server processes that come and go on it.

Knows: how a server is configured, started, killed and asked for its health.
Does not know: MQTT, what the clients do.
Spec: none.
"""

import asyncio
import json
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from fleet import DevelopmentPKI
from paho_peer import client_context
from running_server import RunningServer, start_gnomon, wait_ready

#: The certificate of every client that is no thing.
LOAD_NAME: Final = "load"
_STOP_S: Final = 20.0
_HTTP_S: Final = 5.0

_RULES: Final = """\
version = 1

[[rule]]
effect = "allow"
actions = ["publish", "subscribe"]
topics = ["#", "$aws/things/${thing_name}/#"]
"""

_CONFIG: Final = """\
data = "{data}"

[http]
url = "http://127.0.0.1:0"

[broker]
rules_file = "{rules}"
require_client_id_is_common_name = false
sys_interval_s = 0
listeners = ["mtls://127.0.0.1:0"]

[broker.limits]
pending_messages_maximum = 1000000
pending_bytes_maximum = 1073741824
drain_s = 1.0
"""


class CrashSite:
    """The server may be killed at any time; `up` is set while one is ready.

    Args:
        folder: of everything; made if missing.
        data: the data folder, `folder`/data if absent.
        storage: keys of the section `[storage]`, which is left out if there are none.
        environment: added to the server's.
    """

    def __init__(
        self,
        folder: Path,
        *,
        data: Path | None = None,
        storage: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder: Final = folder
        self.data: Final = data or folder / "data"
        self.up: Final = asyncio.Event()
        self.starts = 0
        self._environment = environment
        self._config = folder / "gnomon.toml"
        self._server: RunningServer | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.data.mkdir(parents=True, exist_ok=True)
        (folder / "rules.toml").write_text(_RULES)
        self.configure(storage or {})
        # From yesterday, so that its certificates are good for a server whose clock is behind.
        self._pki = DevelopmentPKI(self.data / "pki", now=lambda: datetime.now(UTC) - timedelta(days=1))

    @property
    def port(self) -> int:
        """Where clients connect; another one after every start."""
        assert self._server is not None
        return self._server.port()

    @property
    def log(self) -> Path:
        """What the present or last process said."""
        return self.folder / f"server-{self.starts}.log"

    def configure(self, storage: Mapping[str, object]) -> None:
        """Write the settings that the next start reads."""
        text = _CONFIG.format(data=self.data, rules=self.folder / "rules.toml")
        if storage:
            pairs = (f"{key} = {json.dumps(value)}" for key, value in storage.items())
            text += "\n".join(("\n[storage]", *pairs, ""))
        self._config.write_text(text)

    def context(self, thing: str = LOAD_NAME) -> ssl.SSLContext:
        """Return what a client needs for mutual TLS."""
        return client_context(self._pki.ensure_device(thing))

    def launch(self) -> None:
        """Start a server, and do not wait for it."""
        assert self._process is None
        self.starts += 1
        arguments = ("serve", "--config", str(self._config))
        self._process = start_gnomon(*arguments, log=self.log, extra=self._environment)

    async def start(self) -> None:
        """Start a server, and wait until it is ready."""
        self.launch()
        process = self._process
        assert process is not None
        ready = await asyncio.to_thread(wait_ready, process, self.data, self.log)
        self._server = RunningServer(process, self.data, ready)
        self.up.set()

    async def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self.up.clear()
            self._process.kill()
            await self.wait()

    async def wait(self) -> int:
        """Wait until the server has ended, which it does of itself; its return code."""
        process = self._process
        assert process is not None
        code = await asyncio.to_thread(process.wait, _STOP_S)
        self.up.clear()
        self._process = self._server = None
        return code

    async def stop(self) -> None:
        """SIGTERM: the server drains, and must end well."""
        if self._process is not None:
            self.up.clear()
            self._process.terminate()
            assert await self.wait() == 0, self.log.read_text()

    async def ready(self) -> tuple[int, dict[str, Any]]:
        """Ask /ready; status and answer."""
        status, text = await self._get("/ready")
        return status, json.loads(text)

    async def metrics(self) -> dict[str, float]:
        """Ask /metrics; values by name, labels included."""
        status, text = await self._get("/metrics")
        assert status == 200, text
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    async def _get(self, path: str) -> tuple[int, str]:
        assert self._server is not None
        url = self._server.ready["http"]

        def ask() -> tuple[int, str]:
            try:
                with urllib.request.urlopen(f"{url}{path}", timeout=_HTTP_S) as answer:  # noqa: S310
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read().decode()

        return await asyncio.to_thread(ask)
