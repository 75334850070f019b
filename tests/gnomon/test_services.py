"""`gnomon services` as processes beside mosquitto: shadows, what keeps them, signals, health, exit codes."""

import asyncio
import json
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from bus_site import disconnect
from mosquitto import Mosquitto, running_mosquitto
from paho_peer import PahoPeer
from running_server import start_gnomon
from shared_fleet import assert_nothing_is_lost_or_doubled, fleet_on

_TIMEOUT_S = 20


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    with running_mosquitto(tmp_path / "mosquitto") as broker:
        yield broker


@contextmanager
def running_services(
    *arguments: str, log: Path, extra: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run one process; its database is in the folder of its log, unless `extra` says otherwise."""
    process = start_gnomon("services", "--data", str(log.parent / "data"), *arguments, log=log, extra=extra)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def run_to_end(*arguments: str, log: Path, extra: Mapping[str, str] | None = None) -> tuple[int, str]:
    with running_services(*arguments, log=log, extra=extra) as process:
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


def log_events(log: Path) -> dict[str, dict[str, Any]]:
    """The last line of each event."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
    return {str(line["event"]): line for line in lines}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_shadows_are_served_until_a_signal_and_outlive_the_process(
    mosquitto: Mosquitto, tmp_path: Path, number: signal.Signals
) -> None:
    log = tmp_path / "log"
    for version in (1, 2):
        with running_services("--broker", f"mqtt://127.0.0.1:{mosquitto.port}", log=log) as process:
            assert ask(mosquitto.port, "$aws") == version
            process.send_signal(number)
            assert process.wait(_TIMEOUT_S) == 0
        events = log_events(log)
        assert list(events)[-1] == "services.stopped"
        assert "the journal names nobody" in events["services.clients_unknown"]["meaning"]
        assert "services.shared" not in events
    assert [path.name for path in (tmp_path / "data").glob("gnomon.db*")] == ["gnomon.db"]


def test_without_durability_there_is_neither_a_file_nor_a_lock(mosquitto: Mosquitto, tmp_path: Path) -> None:
    broker, log = f"mqtt://127.0.0.1:{mosquitto.port}", tmp_path / "log"
    with running_services("--broker", broker, log=log, extra={"GNOMON_STORAGE__DURABILITY": "memory"}):
        assert ask(mosquitto.port, "$aws") == 1
    assert not (tmp_path / "data").exists()


def test_a_data_folder_has_one_process(mosquitto: Mosquitto, tmp_path: Path) -> None:
    broker = f"mqtt://127.0.0.1:{mosquitto.port}"
    with running_services("--broker", broker, log=tmp_path / "log") as process:
        assert ask(mosquitto.port, "$aws") == 1
        code, text = run_to_end("--broker", broker, "--client-id", "other", log=tmp_path / "other")
        assert code == 3
        assert f"in use by the server with pid {process.pid}" in text


def answer(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:  # noqa: S310  (our own)
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_and_metrics_tell_of_the_broker_and_of_the_shadows(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    broker, log = f"mqtt://127.0.0.1:{mosquitto.port}", tmp_path / "log"
    with running_services("--broker", broker, "--http", "http://127.0.0.1:0", log=log):
        assert ask(mosquitto.port, "$aws") == 1
        url = log_events(log)["services.started"]["http"]
        assert answer(f"{url}/ready") == (200, '{"ready":true,"reasons":[]}')
        _, text = answer(f"{url}/metrics")
        for line in ("gnomon_shadow_changes_total 1.0", "gnomon_bus_connects_total 1.0"):
            assert line in text
        mosquitto.stop()
        while answer(f"{url}/ready")[0] == 200:
            pass  # Its end has not come through yet.
        assert answer(f"{url}/ready") == (503, '{"ready":false,"reasons":["not connected to the broker"]}')


async def test_two_processes_share_the_work_and_one_that_is_killed_loses_nothing(
    mosquitto: Mosquitto, tmp_path: Path, postgresql_url: str
) -> None:
    extra = {"GNOMON_STORAGE__URL": postgresql_url, "GNOMON_SHADOW__REQUESTS_PER_SECOND_MAXIMUM": "0"}
    options = ("--broker", f"mqtt://127.0.0.1:{mosquitto.port}", "--root", "aws", "--share", "shadow")

    with ExitStack() as stack:

        async def start(name: str) -> subprocess.Popen[bytes]:
            process = stack.enter_context(
                running_services(*options, "--client-id", name, log=tmp_path / name, extra=extra)
            )
            while "bus.connected" not in (tmp_path / name).read_text():
                assert process.poll() is None, (tmp_path / name).read_text()
                await asyncio.sleep(0.01)  # Another process writes the log; there is nothing to wait on.
            return process

        async with asyncio.timeout(50), fleet_on(mosquitto.port) as fleet:
            one, two = await start("one"), await start("two")
            async with asyncio.TaskGroup() as writers:
                writers.create_task(fleet.write_all())
                for kills in range(3):
                    while fleet.answers < (kills + 1) * 150:  # noqa: ASYNC110 - two processes are at work
                        await asyncio.sleep(0.001)
                    two.kill()
                    two.wait()
                    fleet.a_process_died()
                    two = await start("two")
            for process in (one, two):
                process.terminate()
                assert await asyncio.to_thread(process.wait, _TIMEOUT_S) == 0
    assert "DUP" in log_events(tmp_path / "one")["services.shared"]["promise"]
    assert not (tmp_path / "data").exists()
    await assert_nothing_is_lost_or_doubled(fleet, postgresql_url)


def test_a_share_below_dollar_is_warned_of(mosquitto: Mosquitto, tmp_path: Path, postgresql_url: str) -> None:
    broker, log = f"mqtt://127.0.0.1:{mosquitto.port}", tmp_path / "log"
    extra = {"GNOMON_STORAGE__URL": postgresql_url}
    with running_services("--broker", broker, "--share", "shadow", log=log, extra=extra) as process:
        while "bus.connected" not in log.read_text():
            assert process.poll() is None
        process.terminate()
        assert process.wait(_TIMEOUT_S) == 0
    assert log_events(log)["services.share_below_dollar"]["level"] == "warning"


def test_a_share_needs_a_database_that_is_shared(tmp_path: Path) -> None:
    code, text = run_to_end("--broker", "mqtt://127.0.0.1:1", "--share", "shadow", log=tmp_path / "log")
    assert code == 2
    assert "foreign_broker.share: those who share the work need one PostgreSQL database" in text


def test_without_a_share_a_database_has_one_process(
    mosquitto: Mosquitto, tmp_path: Path, postgresql_url: str
) -> None:
    extra = {"GNOMON_STORAGE__URL": postgresql_url}
    broker = f"mqtt://127.0.0.1:{mosquitto.port}"
    with running_services("--broker", broker, log=tmp_path / "log", extra=extra):
        assert ask(mosquitto.port, "$aws") == 1
        code, text = run_to_end("--broker", broker, log=tmp_path / "other", extra=extra)
        assert code == 3
        assert "in use by another server" in text


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
