"""The brokers under test: which there are, how each is started on free loopback ports, and ended.

Knows: command lines and configurations, when a broker is ready.
Does not know: loads, figures.
"""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from fleet import DevelopmentPKI

from .wire import TLSFiles

ROOT: Final = Path(__file__).resolve().parents[2]
HOST: Final = "127.0.0.1"
_READY_TIMEOUT_S: Final = 20.0
_END_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.02
_LOG_SHOWN: Final = 500


class PeerFailedError(Exception):
    """A broker did not start, or ended before its time."""


class Certificates(Struct, frozen=True, kw_only=True):
    """The files that every broker and the generators share, so that handshakes are the same work."""

    server_certificate: Path
    server_key: Path
    client: TLSFiles


class RunningPeer(Struct, frozen=True, kw_only=True):
    """A broker that accepts connections; `tls_port` is None where it offers no mutual TLS."""

    pid: int
    port: int
    tls_port: int | None


class Peer(ABC):
    """A broker that may be started any number of times.

    `scale` is the share of a load that it can bear in a sensible time.
    """

    name: str
    scale: float = 1.0
    has_mutual_tls: bool = True
    #: What to do where it is not installed.
    advice: str = ""

    @abstractmethod
    def version(self) -> str | None:
        """Return its version, None where it is not installed."""

    @abstractmethod
    def command(self, folder: Path, certificates: Certificates) -> list[str]:
        """Write what it needs into `folder` and return how it is started."""

    @abstractmethod
    def ports(self, folder: Path) -> tuple[int, int | None] | None:
        """Return the ports for TCP and mutual TLS, None while it is not ready."""

    @contextmanager
    def running(self, folder: Path, certificates: Certificates) -> Iterator[RunningPeer]:
        """Start it, wait until it accepts connections, and end it after the block.

        Raises:
            PeerFailedError: it does not get ready; the text holds its last words.
        """
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "log.txt"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.command(folder, certificates),
                cwd=ROOT,
                env={key: text for key, text in os.environ.items() if not key.startswith("GNOMON_")},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            port, tls_port = self._wait_ready(process, folder, log)
            yield RunningPeer(pid=process.pid, port=port, tls_port=tls_port)
            if process.poll() is not None:
                raise PeerFailedError(f"{self.name} ended during the run: {_last_words(log)}")
        finally:
            process.terminate()
            try:
                process.wait(_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _wait_ready(
        self, process: subprocess.Popen[bytes], folder: Path, log: Path
    ) -> tuple[int, int | None]:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise PeerFailedError(f"{self.name} ended with {process.returncode}: {_last_words(log)}")
            if (ports := self.ports(folder)) is not None:
                return ports
            time.sleep(_POLL_S)  # Another process gets ready; there is nothing to wait on.
        raise PeerFailedError(f"{self.name} was not ready after {_READY_TIMEOUT_S:.0f} s: {_last_words(log)}")


class Gnomon(Peer):
    """This project's broker, with its defaults."""

    name = "gnomon"

    def version(self) -> str | None:
        """Return the version of the working tree's metadata."""
        return _package_version("gnomon") or "working tree"

    def command(self, folder: Path, certificates: Certificates) -> list[str]:
        """Listen on free ports."""
        files = {
            "cert": certificates.server_certificate,
            "key": certificates.server_key,
            "ca": certificates.client.authority,
        }
        query = "&".join(f"{key}={path}" for key, path in files.items())
        listeners = (f"tcp://{HOST}:0", f"mtls://{HOST}:0?{query}")
        arguments = [argument for url in listeners for argument in ("--listen", url)]
        return [sys.executable, "-m", "gnomon", "serve", "--data", str(folder), *arguments, "--anonymous"]

    def ports(self, folder: Path) -> tuple[int, int | None] | None:
        """Read ready.json."""
        try:
            ready = json.loads((folder / "ready.json").read_text())
        except FileNotFoundError:
            return None
        addresses = [urlsplit(listener["url"]) for listener in ready["listeners"]]
        by_scheme = {address.scheme: address.port for address in addresses}
        return by_scheme["tcp"] or 0, by_scheme["mtls"]


class _ForeignPeer(Peer):
    """A broker that cannot take a free port itself: ports are chosen for it, and tried."""

    def __init__(self) -> None:
        self._ports: tuple[int, int | None] = (0, None)

    def choose_ports(self) -> tuple[int, int]:
        """Find two ports that are free now."""
        with socket.socket() as one, socket.socket() as other:
            one.bind((HOST, 0))
            other.bind((HOST, 0))
            port, tls_port = one.getsockname()[1], other.getsockname()[1]
        self._ports = (port, tls_port if self.has_mutual_tls else None)
        return port, tls_port

    def ports(self, folder: Path) -> tuple[int, int | None] | None:
        """Try to connect."""
        for port in self._ports:
            if port is not None:
                with socket.socket() as probe:
                    if probe.connect_ex((HOST, port)):
                        return None
        return self._ports


class Mosquitto(_ForeignPeer):
    """Eclipse Mosquitto as Debian packages it; limits that would drop messages are lifted."""

    name = "mosquitto"
    advice = "apt-get install mosquitto"

    def version(self) -> str | None:
        """Ask the program."""
        program = _mosquitto()
        if program is None:
            return None
        lines = subprocess.run([program, "-h"], capture_output=True, text=True, check=False).stdout.split(
            "\n"
        )
        return lines[0].removeprefix("mosquitto version ")

    def command(self, folder: Path, certificates: Certificates) -> list[str]:
        """Write a configuration; as root it stays root, so that it can read our files."""
        port, tls_port = self.choose_ports()
        configuration = folder / "mosquitto.conf"
        configuration.write_text(
            f"{'user root' if os.geteuid() == 0 else ''}\n"
            "log_type error\nlog_type warning\n"
            "allow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 1000\n"
            f"listener {port} {HOST}\n"
            f"listener {tls_port} {HOST}\n"
            f"cafile {certificates.client.authority}\n"
            f"certfile {certificates.server_certificate}\nkeyfile {certificates.server_key}\n"
            "require_certificate true\n"
        )
        return [_mosquitto() or "mosquitto", "-c", str(configuration)]


class Amqtt(_ForeignPeer):
    """amqtt, the broker in Python that ADR 0002 speaks of; 3.1.1 only, plain TCP, small loads."""

    name = "amqtt"
    scale = 0.02
    has_mutual_tls = False
    advice = "uv pip install 'gnomon[bench]'"

    def version(self) -> str | None:
        """Look for the package."""
        return _package_version("amqtt") if importlib.util.find_spec("amqtt") else None

    def command(self, folder: Path, certificates: Certificates) -> list[str]:
        """Write a configuration without the plugins that log each packet."""
        port, _ = self.choose_ports()
        configuration = folder / "amqtt.yaml"
        configuration.write_text(
            f"listeners:\n  default:\n    type: tcp\n    bind: {HOST}:{port}\n"
            "plugins:\n"
            "  amqtt.plugins.authentication.AnonymousAuthPlugin:\n    allow_anonymous: true\n"
        )
        start = "from amqtt.scripts.broker_script import main; main()"
        return [sys.executable, "-c", start, "-c", str(configuration)]


PEERS: Final = {peer.name: peer for peer in (Gnomon(), Mosquitto(), Amqtt())}


def make_certificates(folder: Path) -> Certificates:
    """Make an authority, a server's and a client's certificate (EC P-256) that all brokers share."""
    pki = DevelopmentPKI(folder)
    server = pki.ensure_server()
    # An operator's: a device's would bind the client id, and all connections share this one.
    client = pki.ensure_operator("load")
    return Certificates(
        server_certificate=server.certificate,
        server_key=server.key,
        client=TLSFiles(certificate=client.certificate, key=client.key, authority=client.authority),
    )


def _mosquitto() -> str | None:
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _package_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace").strip()[-_LOG_SHOWN:] or "no words"
