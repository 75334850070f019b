"""`gnomon services` as a process beside mosquitto: shadows, signals, exit codes."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bus_site import disconnect
from mosquitto import Mosquitto, running_mosquitto
from paho_peer import PahoPeer
from running_server import start_gnomon

_TIMEOUT_S = 20


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    with running_mosquitto(tmp_path / "mosquitto") as broker:
        yield broker


@contextmanager
def running_services(*arguments: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = start_gnomon("services", *arguments, log=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def run_to_end(*arguments: str, log: Path) -> tuple[int, str]:
    with running_services(*arguments, log=log) as process:
        return process.wait(_TIMEOUT_S), log.read_text()


def ask(port: int, root: str) -> int:
    """Update a shadow until somebody answers; the version."""
    topic = f"{root}/things/lamp/shadow/update"
    client = PahoPeer(port, "client", "5")
    client.connect()
    try:
        client.subscribe(f"{topic}/accepted")
        body = json.dumps({"state": {"desired": {"on": True}}}).encode()
        # Nobody subscribes before the services are up: the broker says so (0x10).
        while client.publish(topic, body, qos=1):
            pass
        accepted = json.loads(client.receive().payload)
    finally:
        disconnect(client)
    version: int = accepted["version"]
    return version


@pytest.mark.parametrize(
    ("root", "options"), [("$aws", ()), ("aws", ("--root", "aws", "--share", "shadow", "--client-id", "one"))]
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_shadows_are_served_until_a_signal(
    mosquitto: Mosquitto, tmp_path: Path, root: str, options: tuple[str, ...], number: signal.Signals
) -> None:
    log = tmp_path / "log"
    with running_services("--broker", f"mqtt://127.0.0.1:{mosquitto.port}", *options, log=log) as process:
        assert ask(mosquitto.port, root) == 1
        process.send_signal(number)
        assert process.wait(_TIMEOUT_S) == 0
    assert "services.stopped" in log.read_text()


def test_a_broker_that_is_not_there_is_waited_for_and_a_signal_ends_that(tmp_path: Path) -> None:
    with running_mosquitto(tmp_path / "mosquitto") as broker:
        broker.stop()
        log = tmp_path / "log"
        with running_services("--broker", f"mqtt://127.0.0.1:{broker.port}", log=log) as process:
            broker.start()
            assert ask(broker.port, "$aws") == 1
            broker.stop()
            process.terminate()
            assert process.wait(_TIMEOUT_S) == 0


def test_a_broker_that_refuses_ends_it_with_1(tmp_path: Path) -> None:
    with running_mosquitto(tmp_path / "mosquitto", "allow_anonymous false") as broker:
        code, text = run_to_end("--broker", f"mqtt://127.0.0.1:{broker.port}", log=tmp_path / "log")
    assert code == 1
    assert "gnomon: the foreign broker refuses the connection: not authorized" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://broker", "is not a broker URL"),
        ("mqtt://broker?cert=a&key=b", "belongs to an mqtts:// URL"),
        ("mqtts://broker?cert=a", "certificate and key together"),
        ("mqtts://broker?ca=/does/not/exist", "/does/not/exist"),
    ],
)
def test_what_cannot_be_used_ends_it_with_2(tmp_path: Path, url: str, told: str) -> None:
    code, text = run_to_end("--broker", url, log=tmp_path / "log")
    assert code == 2
    assert told in text
    assert "Traceback" not in text
