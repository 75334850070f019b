"""The server as a process: ready.json, the lock, signals, exit codes."""

import json
import signal
import socket
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

import pytest

from fleet import DevelopmentPKI
from gnomon.errors import ConfigurationError
from gnomon.serve import choose_loop
from gnomon.settings import LoopName
from running_server import running_server, start_gnomon

TCP = ("--listen", "tcp://127.0.0.1:0", "--anonymous")
#: CONNECT, 3.1.1, clean session, client id "t", and the CONNACK that accepts it (v3.1.1 §3.1, §3.2).
CONNECT = bytes.fromhex("100d00044d5154540402003c000174")
CONNACK = bytes.fromhex("20020000")


def connect(port: int) -> socket.socket:
    peer = socket.create_connection(("127.0.0.1", port), timeout=10)
    peer.sendall(CONNECT)
    assert peer.recv(4) == CONNACK
    return peer


def run_to_end(*arguments: str, log: Path) -> tuple[int, str]:
    process = start_gnomon(*arguments, log=log)
    try:
        return process.wait(20), log.read_text()
    finally:
        process.kill()
        process.wait()


def test_ready_tells_pid_addresses_version_and_start(tmp_path: Path) -> None:
    listeners = ("--listen", "tcp://127.0.0.1:0?name=plain", "--listen", "mtls://127.0.0.1:0", "--anonymous")
    with running_server(tmp_path, *listeners) as server:
        ready = server.ready
        assert ready["pid"] == server.process.pid
        assert ready["version"] == metadata.version("gnomon")
        assert abs(datetime.now(UTC) - datetime.fromisoformat(ready["started_at"])) < timedelta(minutes=1)
        assert [item["name"] for item in ready["listeners"]] == ["plain", "mtls-2"]
        assert ready["listeners"][0]["url"] == f"tcp://127.0.0.1:{server.port('tcp')}"
        connect(server.port("tcp")).close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_closes_connections_and_ends_with_0(tmp_path: Path, number: signal.Signals) -> None:
    with running_server(tmp_path, *TCP) as server, connect(server.port("tcp")) as peer:
        server.process.send_signal(number)
        assert peer.recv(1) == b""
        peer.close()
        assert server.process.wait(20) == 0
        assert not (tmp_path / "ready.json").exists()


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    config = tmp_path / "gnomon.toml"
    config.write_text("[broker.limits]\ndrain_s = 3600\n")
    files = DevelopmentPKI(tmp_path / "pki").ensure_device("t")
    context = ssl.create_default_context(cafile=files.authority)
    context.load_cert_chain(files.certificate, files.key)
    listen = ("--listen", "mtls://127.0.0.1:0")
    with running_server(tmp_path, "--config", str(config), *listen) as server:
        address = ("127.0.0.1", server.port())
        with context.wrap_socket(socket.create_connection(address), server_hostname="localhost") as peer:
            peer.sendall(CONNECT)
            assert peer.recv(4) == CONNACK
            # From here the peer never answers the end of TLS, which keeps the server draining.
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                server.process.wait(0.5)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(10) == 1
    assert "ended at once by a second signal" in (tmp_path / "test.log").read_text()


def test_a_second_server_on_the_folder_is_refused_and_told_the_pid(tmp_path: Path) -> None:
    with running_server(tmp_path, *TCP) as server:
        code, text = run_to_end("serve", "--data", str(tmp_path), *TCP, log=tmp_path / "second.log")
        assert code == 3
        assert f"in use by the server with pid {server.process.pid}" in text
        assert json.loads((tmp_path / "ready.json").read_text()) == server.ready


def test_a_killed_server_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    with running_server(tmp_path, *TCP) as first:
        first.process.kill()
        first.process.wait()
        assert (tmp_path / "ready.json").exists()
    with running_server(tmp_path, *TCP) as second:
        assert second.ready["pid"] != first.ready["pid"]


def test_a_port_in_use_ends_with_3_and_names_the_address(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        listen = ("--listen", f"tcp://127.0.0.1:{port}")
        code, text = run_to_end("serve", "--data", str(tmp_path / "d"), *listen, log=tmp_path / "log")
    assert code == 3
    assert str(port) in text
    assert "Traceback" not in text
    assert not (tmp_path / "d" / "ready.json").exists()


def test_a_host_that_does_not_exist_ends_with_3_and_names_it(tmp_path: Path) -> None:
    listen = ("--listen", "tcp://nowhere.invalid:1883")
    code, text = run_to_end("serve", "--data", str(tmp_path / "d"), *listen, log=tmp_path / "log")
    assert code == 3
    assert "cannot listen on tcp://nowhere.invalid:1883: " in text
    assert "Traceback" not in text


def test_a_wrong_configuration_ends_with_2_and_one_sentence(tmp_path: Path) -> None:
    config = tmp_path / "gnomon.toml"
    config.write_text("[broker]\nlistners = []\n")
    code, text = run_to_end("serve", "--config", str(config), log=tmp_path / "log")
    assert (code, text) == (2, f"gnomon: {config}: broker.listners: unknown key; did you mean listeners?\n")


def test_a_configuration_file_is_enough(tmp_path: Path) -> None:
    config = tmp_path / "gnomon.toml"
    config.write_text(
        'loop = "asyncio"\n[broker]\nallow_anonymous = true\nlisteners = ["tcp://127.0.0.1:0"]\n'
    )
    with running_server(tmp_path, "--config", str(config)) as server:
        connect(server.port("tcp")).close()


@pytest.mark.parametrize("name", ["auto", "uvloop", "asyncio"])
def test_the_loop_is_the_one_that_is_asked_for(name: LoopName) -> None:
    factory = choose_loop(name)
    assert (factory is None) == (name == "asyncio")
    if factory is not None:
        loop = factory()
        assert type(loop).__module__ == "uvloop"
        loop.close()


def test_uvloop_by_name_where_it_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "uvloop", None)
    assert choose_loop("auto") is None
    with pytest.raises(ConfigurationError, match="uvloop is not installed"):
        choose_loop("uvloop")
