"""The swarm against a real server: mutual TLS, several processes, a restart, an early end."""

import json
import multiprocessing
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fleet import DevelopmentPKI
from paho_peer import PahoPeer, client_context
from running_server import ROOT, RunningServer, running_server
from simulators.swarm import Report, Scenario, Swarm, SwarmError, SwarmProgress, Tally, Target

HOST = "127.0.0.1"
TIMEOUT_S = 30.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    data = tmp_path_factory.mktemp("swarm")
    listeners = ("--listen", "mtls://127.0.0.1:0", "--listen", "tcp://127.0.0.1:0", "--anonymous")
    with running_server(data, *listeners) as running:
        yield running


@pytest.fixture
def target(server: RunningServer) -> Target:
    return Target(host=HOST, port=server.port(), pki=server.data / "pki")


class Observer:
    """Waits for a swarm in a thread of its own to come so far."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.progress = SwarmProgress(phase="certificates", done=0, seconds=0.0, tally=Tally())
        self._changed = threading.Condition()

    def show(self, progress: SwarmProgress) -> None:
        with self._changed:
            self.progress = progress
            self._changed.notify_all()

    def wait(self, holds: Callable[[SwarmProgress], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: holds(self.progress), TIMEOUT_S), self.progress


def test_fifty_devices_in_two_processes_report_follow_and_are_counted(target: Target) -> None:
    scenario = Scenario(
        devices=50, rate=4.0, duration_s=2.0, ramp=100.0, processes=2, edits=1.0, prefix="fifty", fields=8
    )
    loads: list[bool] = []
    report = Swarm(scenario, target, on_load=loads.append).run()
    assert report.errors == {}
    assert (report.ready, report.drifting, loads) == (50, 0, [True, False])
    counts = report.counts
    assert counts.connects == 50
    assert counts.updates_due == counts.updates_sent == counts.pubacks == counts.accepted == 400
    assert counts.edits_sent == counts.edits_converged == 100
    assert counts.deltas >= counts.deltas_followed > 0
    assert report.sent_per_s == report.answered_per_s == pytest.approx(400 / report.seconds, rel=0.001)
    assert 2.0 <= report.seconds < 3.0
    for name, count in (("connect", 50), ("puback", 400), ("accepted", 400), ("edit_converged", 100)):
        latency = report.latencies[name]
        assert latency.count == count
        assert latency.p50_ms is not None
        assert latency.maximum_ms is not None
        assert 0 < latency.p50_ms <= latency.maximum_ms
    assert len(report.cpu_s) == 2


def test_what_reaches_the_server_is_what_the_seed_says(server: RunningServer, target: Target) -> None:
    scenario = Scenario(devices=3, rate=5.0, duration_s=1.0, seed=9, prefix="seeded", processes=3)
    context = client_context(DevelopmentPKI(server.data / "pki").ensure_operator("ada"))
    with PahoPeer(server.port(), "watching", "5", context=context) as watching:
        watching.subscribe("$aws/things/+/shadow/update/accepted")
        report = Swarm(scenario, target).run()
        assert report.errors == {}
        came: dict[str, list[Any]] = {}
        for _ in range(report.counts.accepted):
            message = watching.receive()
            came.setdefault(message.topic.split("/")[2], []).append(
                json.loads(message.payload)["state"]["reported"]
            )
    schedule = scenario.updates(range(3), 0)
    assert schedule is not None
    expected: dict[str, list[Any]] = {}
    for device, number, _ in schedule.take(1_000_000_000):
        expected.setdefault(scenario.name(device), []).append(scenario.reported(device, number))
    assert came == expected


def test_certificates_are_made_once(server: RunningServer, target: Target) -> None:
    scenario = Scenario(devices=2, duration_s=0.0, prefix="kept")
    files = [server.data / "pki" / "devices" / f"kept-{number}.pem" for number in (1, 2)]
    assert Swarm(scenario, target).run().errors == {}
    before = [path.read_bytes() for path in files]
    assert Swarm(scenario, target).run().errors == {}
    assert [path.read_bytes() for path in files] == before


def test_a_closed_loop_keeps_its_window_full_over_plain_tcp(server: RunningServer) -> None:
    scenario = Scenario(devices=5, rate=None, duration_s=0.5, profile="telemetry", in_flight=4)
    report = Swarm(scenario, Target(host=HOST, port=server.port("tcp"))).run()
    assert report.errors == {}
    assert report.counts.pubacks == report.counts.updates_sent > 100
    assert report.answered_per_s == report.sent_per_s


def test_a_rate_above_the_services_limit_is_told_as_refusals(target: Target) -> None:
    scenario = Scenario(devices=1, rate=200.0, duration_s=1.0, prefix="greedy")
    report = Swarm(scenario, target).run()
    assert report.errors.keys() == {"requests refused"}
    assert report.refusals == {"429": report.counts.refused}
    assert report.counts.refused + report.counts.accepted == 200


def test_devices_come_back_after_a_restart_and_follow_what_they_missed(tmp_path: Path) -> None:
    observer, reports = Observer(), []
    with running_server(tmp_path, "--listen", "mtls://127.0.0.1:0") as first:
        listener = f"mtls://127.0.0.1:{first.port()}"
        target = Target(host=HOST, port=first.port(), pki=tmp_path / "pki")
        scenario = Scenario(devices=10, rate=5.0, edits=2.0, processes=2)
        swarm = Swarm(scenario, target, on_progress=observer.show, stopped=observer.stopped)
        thread = threading.Thread(target=lambda: reports.append(swarm.run()))
        thread.start()
        observer.wait(lambda it: it.tally.counts.edits_converged >= 10)
    try:
        observer.wait(lambda it: it.tally.counts.connections_lost >= 10 and it.done == 0)
        with running_server(tmp_path, "--listen", listener):
            observer.wait(lambda it: it.done == 10 and it.tally.counts.connects >= 20)
            observer.wait(lambda it: it.tally.counts.edits_missed > 0)
            converged = observer.progress.tally.counts.edits_converged
            observer.wait(lambda it: it.tally.counts.edits_converged > converged)
            observer.stopped.set()
            thread.join(TIMEOUT_S)
    finally:
        observer.stopped.set()
        thread.join(TIMEOUT_S)
    (report,) = reports
    assert (report.ready, report.drifting) == (10, 0)
    assert report.counts.connects == 20
    assert "devices drifting" not in report.errors
    assert report.errors["connections lost"] >= 10
    assert report.errors["updates missed"] > 0
    assert report.failures


def test_a_process_that_dies_ends_the_swarm_with_a_sentence(server: RunningServer) -> None:
    observer, failures = Observer(), []
    scenario = Scenario(devices=2, processes=2, profile="telemetry", prefix="dies")
    target = Target(host=HOST, port=server.port("tcp"))
    swarm = Swarm(scenario, target, on_progress=observer.show, stopped=observer.stopped)

    def run() -> None:
        with pytest.raises(SwarmError) as caught:
            swarm.run()
        failures.append(str(caught.value))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        observer.wait(lambda it: it.phase == "load" and it.tally.counts.pubacks > 0)
        victim = next(child for child in multiprocessing.active_children() if child.name == "swarm-1")
        victim.kill()
        thread.join(TIMEOUT_S)
    finally:
        observer.stopped.set()
        thread.join(TIMEOUT_S)
    assert failures == ["a process of the swarm ended with -9"]
    assert not [child for child in multiprocessing.active_children() if child.name.startswith("swarm-")]


def test_nobody_there_is_said_at_once() -> None:
    with socket.create_server((HOST, 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(SwarmError, match=rf"tcp://127.0.0.1:{port}: nobody can be reached there"):
        Swarm(Scenario(devices=1), Target(host=HOST, port=port)).run()


def test_a_pki_that_cannot_be_used_is_said(server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "pki").write_text("")
    with pytest.raises(SwarmError, match=re.escape(f"cannot use {tmp_path / 'pki'}")):
        Swarm(Scenario(devices=1), Target(host=HOST, port=server.port(), pki=tmp_path / "pki")).run()


def test_devices_that_are_refused_are_reported_with_the_reason(server: RunningServer, tmp_path: Path) -> None:
    observer = Observer()
    ours = server.data / "pki" / "ca.pem"
    target = Target(host=HOST, port=server.port(), pki=tmp_path / "pki", authority=ours)
    reports: list[Report] = []
    swarm = Swarm(Scenario(devices=2), target, on_progress=observer.show, stopped=observer.stopped)
    thread = threading.Thread(target=lambda: reports.append(swarm.run()))
    thread.start()
    observer.wait(lambda it: it.tally.counts.connect_failures >= 2)
    observer.stopped.set()
    thread.join(TIMEOUT_S)
    (report,) = reports
    assert report.errors["devices not connected"] == 2
    (reason,) = report.failures
    assert "before CONNACK; does it accept our certificate?" in reason or "UNKNOWN_CA" in reason
    assert report.seconds == 0


class Run:
    """`gnomon simulate` in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gnomon", "simulate", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, text: str) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if text in line:
                return
        raise AssertionError(f"{text!r} never came")

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, str, str]:
        try:
            output, error = self._process.communicate(timeout=TIMEOUT_S)
        finally:
            self._process.kill()
            self._process.wait()
        return self._process.returncode, output, error


def test_the_command_prints_its_report_as_json_of_one_shape(server: RunningServer) -> None:
    code, output, error = Run(
        "--data", str(server.data), "--devices", "4", "--rate", "10", "--duration", "0.5", "--seed", "3",
        "--json",
    ).end()  # fmt: skip
    assert (code, error) == (0, "")
    report = msgspec.json.decode(output, type=Report)
    assert report.scenario == Scenario(devices=4, rate=10.0, duration_s=0.5, seed=3)
    assert report.target == f"mtls://127.0.0.1:{server.port()}"
    assert report.counts.accepted == 20
    assert json.loads(output) == msgspec.to_builtins(report)


def test_the_command_ends_with_1_and_says_what_went_wrong(server: RunningServer) -> None:
    code, output, error = Run(
        "--data", str(server.data), "--devices", "1", "--rate", "100", "--duration", "0.5",
        "--prefix", "quick",
    ).end()  # fmt: skip
    assert code == 1
    assert "1 of 1 devices on mtls://127.0.0.1:" in output
    assert "refused with 429: " in output
    assert error.startswith("gnomon: not all went well: requests refused: ")


def test_ctrl_c_ends_the_command_early_with_its_report(server: RunningServer) -> None:
    run = Run("--data", str(server.data), "--devices", "3", "--rate", "20")
    run.wait_for("load 0 s: 3 of 3 devices")
    run.interrupt()
    code, output, error = run.end()
    assert (code, error) == (0, "")
    assert "3 of 3 devices on mtls://127.0.0.1:" in output
    assert "update to accepted" in output or "connect to ready" in output


def test_devices_of_the_foreign_model_are_processes_that_report(server: RunningServer) -> None:
    code, output, error = Run(
        "--data", str(server.data), "--model", "paho", "--devices", "2", "--rate", "5", "--duration", "1",
        "--prefix", "paho", "--json",
    ).end()  # fmt: skip
    assert (code, error) == (0, "")
    things = json.loads(output)
    assert [thing["thing"] for thing in things] == ["paho-1", "paho-2"]
    assert all(thing["version"] >= 3 for thing in things)
    assert all(len(thing["reported"]) == 4 for thing in things)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--model", "paho", "--ramp", "3"], 2, "--ramp: means nothing with --model paho"),
        (["--model", "paho", "--rate", "max"], 2, "--rate: a number with --model paho"),
        (["--model", "paho", "--devices", "101"], 2, "--devices: at most 100"),
        (["--rate", "0"], 2, "neither max nor a number"),
        (["--rate", "nan"], 2, "neither max nor a number"),
        (["--devices", "2", "--processes", "3"], 2, "processes must be 1 to the number of devices"),
        (["--url", "http://a:1"], 2, "should be mtls://HOST:PORT or tcp://HOST:PORT"),
        (["--url", "mtls://a:99999"], 2, "should be mtls://HOST:PORT or tcp://HOST:PORT"),
        (["--url", "tcp://a:1", "--ca", "x"], 2, "tcp:// has no certificates"),
        (["--data", "/nonexistent"], 3, "no server runs here"),
    ],
)
def test_wrong_usage_ends_with_a_sentence(arguments: list[str], code: int, said: str) -> None:
    ended, _, error = Run(*arguments).end()
    assert ended == code
    assert said in error
    assert "Traceback" not in error
