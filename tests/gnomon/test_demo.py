"""The demo and the simulated fleet, from the command line."""

import io
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gnomon.demo_view import LineView, TableView
from gnomon.settings import load_settings
from running_server import ROOT, running_server, start_gnomon
from simulators import ShadowView

VIEW = ShadowView(desired={"a": [1]}, reported={"a": [2]}, delta={"a": [1]}, version=2)
CONVERGED = ShadowView(desired={"a": [1]}, reported={"a": [1]}, delta={}, version=3, round_trip_s=0.25)


def test_the_demo_converges_and_says_how_to_connect(tmp_path: Path) -> None:
    data = tmp_path / "demo"
    log = tmp_path / "log"
    assert start_gnomon("demo", "--data", str(data), log=log).wait(50) == 0
    text = log.read_text()
    for name in ("lamp-1", "lamp-2", "lamp-3"):
        assert any(line.startswith(f"{name}  version") and "delta {}" in line for line in text.splitlines())
    assert "All things report what is desired." in text
    assert "mosquitto_pub -h 127.0.0.1" in text
    assert "publish.single(" in text
    assert load_settings(data / "gnomon.toml").broker.listeners[0].scheme == "mtls"
    assert stat.S_IMODE((data / "pki" / "ca.key").stat().st_mode) == 0o600
    assert not (data / "ready.json").exists()


def test_the_demo_stays_and_its_shell_and_python_lines_work(tmp_path: Path) -> None:
    data, log = tmp_path / "de mo", tmp_path / "log"
    process = start_gnomon("demo", "--data", str(data), "--stay", "--json", log=log)
    try:
        outcome = _outcome(process, log)
        assert outcome["converged"] is True
        assert [thing["delta"] for thing in outcome["things"]] == [{}, {}, {}]
        connect = outcome["connect"]
        subprocess.run(connect["shell"], shell=True, check=True, timeout=20)  # noqa: S602  (the line is for a shell)
        subprocess.run([sys.executable, "-c", connect["python"]], cwd=ROOT, check=True, timeout=20)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    assert not (data / "ready.json").exists()


def test_the_demo_tells_when_its_server_dies(tmp_path: Path) -> None:
    data, log = tmp_path / "demo", tmp_path / "log"
    process = start_gnomon("demo", "--data", str(data), "--stay", "--json", log=log)
    try:
        _outcome(process, log)
        os.kill(json.loads((data / "ready.json").read_text())["pid"], signal.SIGKILL)
        assert process.wait(30) == 1
    finally:
        process.kill()
        process.wait()
    assert log.read_text().splitlines()[-1].startswith("gnomon: the server ended with -9: ")


def _outcome(process: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    """Wait for the JSON that the demo prints once its devices have converged."""
    deadline = time.monotonic() + 50
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            outcome: dict[str, Any] = json.loads(log.read_text())
        except ValueError:
            time.sleep(0.05)  # Another process writes the file; there is nothing to wait on.
        else:
            return outcome
    raise AssertionError(log.read_text())


def test_the_demo_on_a_folder_that_is_in_use_ends_with_a_sentence(tmp_path: Path) -> None:
    with running_server(tmp_path, "--listen", "tcp://127.0.0.1:0", "--anonymous") as server:
        log = tmp_path / "log"
        assert start_gnomon("demo", "--data", str(tmp_path), log=log).wait(30) != 0
        text = log.read_text()
    assert f"in use by the server with pid {server.process.pid}" in text
    assert "Traceback" not in text


def test_simulated_devices_find_the_server_by_its_data_folder(tmp_path: Path) -> None:
    with running_server(tmp_path, "--listen", "mtls://127.0.0.1:0"):
        log = tmp_path / "simulate.log"
        options = ("--count", "2", "--prefix", "dev", "--duration", "0.5", "--json")
        assert start_gnomon("simulate", "devices", "--data", str(tmp_path), *options, log=log).wait(30) == 0
    things = json.loads(log.read_text())
    assert [thing["thing"] for thing in things] == ["dev-1", "dev-2"]
    assert {thing["version"] for thing in things} == {1}


def test_simulated_devices_need_a_listener_for_certificates(tmp_path: Path) -> None:
    with running_server(tmp_path, "--listen", "tcp://127.0.0.1:0", "--anonymous"):
        log = tmp_path / "simulate.log"
        assert start_gnomon("simulate", "devices", "--data", str(tmp_path), log=log).wait(30) == 3
    assert "has no mtls:// listener" in log.read_text()


def test_lines_show_changes_only(capsys: pytest.CaptureFixture[str]) -> None:
    view = LineView()
    for seen in (VIEW, VIEW, CONVERGED, CONVERGED):
        view.show({"lamp": seen})
    assert capsys.readouterr().out.splitlines() == [
        'lamp  version 2  desired {"a":[1]}  reported {"a":[2]}  delta {"a":[1]}',
        'lamp  version 3  desired {"a":[1]}  reported {"a":[1]}  delta {}  in 250 ms',
    ]


def test_the_table_shows_values_whole_even_with_brackets() -> None:
    output = io.StringIO()
    with TableView(Console(file=output, force_terminal=True, width=100)) as view:
        view.show({"lamp": CONVERGED})
        view.say("done [bold]")
    text = output.getvalue()
    assert '{"a":[1]}' in text
    assert "250 ms" in text
    assert "done [bold]" in text
