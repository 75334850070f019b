"""The end of a server that is busy: clients are told, nothing hangs, the data folder is free again."""

import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Literal

import pytest

from paho_peer import PahoPeer, Version
from running_server import running_server, start_gnomon
from server_site import Site

SERVER_SHUTTING_DOWN = 0x8B
DRAIN_S = 5.0
Scheme = Literal["mtls", "tcp"]


def publish_until_the_end(peer: PahoPeer, is_over: threading.Event, started: threading.Event) -> None:
    """Keep twenty messages under way, until one of them gets no answer because the connection ended."""
    window = [peer.post(f"dt/{peer.client_id}/x", bytes(1000), qos=1) for _ in range(20)]
    while not is_over.is_set():
        if peer.is_answered(window[0]):
            peer.settle(window.pop(0))
            window.append(peer.post(f"dt/{peer.client_id}/x", bytes(1000), qos=1))
            started.set()
        else:
            is_over.wait(0.001)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("scheme", ["mtls", "tcp"])
def test_sigterm_tells_busy_clients_and_ends_in_time(tmp_path: Path, scheme: Scheme, loop: str) -> None:
    config = tmp_path / "gnomon.toml"
    config.write_text(f'loop = "{loop}"\n[broker.limits]\ndrain_s = {DRAIN_S}\n')
    listen = ("--config", str(config), "--listen", f"{scheme}://127.0.0.1:0")
    versions: tuple[Version, ...] = ("5", "3.1.1", "5")
    is_over = threading.Event()
    with running_server(tmp_path, *listen, *(["--anonymous"] if scheme == "tcp" else [])) as server:
        site = Site(server, scheme)
        devices = [site.device(f"d{number}", version) for number, version in enumerate(versions)]
        operator = site.operator("5")
        threads = []
        try:
            operator.connect()
            operator.subscribe("dt/#", 1)
            for device in devices:
                device.connect()
                started = threading.Event()
                thread = threading.Thread(target=publish_until_the_end, args=(device, is_over, started))
                thread.start()
                threads.append(thread)
                assert started.wait(10)
            assert operator.receive().payload == bytes(1000)
            server.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            reasons = [peer.disconnected() for peer in (*devices, operator)]
        finally:
            is_over.set()
            for thread in threads:
                thread.join()
            for peer in (*devices, operator):
                peer.disconnect()
        assert server.process.wait(DRAIN_S + 10) == 0
        assert time.monotonic() - began < DRAIN_S
        assert not (tmp_path / "ready.json").exists()
    assert reasons[0] == reasons[2] == reasons[3] == SERVER_SHUTTING_DOWN
    assert reasons[1] != 0  # 3.1.1 has no DISCONNECT from the server.
    assert "Traceback" not in (tmp_path / "test.log").read_text()


def test_a_second_server_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    arguments = ("--listen", "mtls://127.0.0.1:0")
    with running_server(tmp_path, *arguments) as first:
        log = tmp_path / "second.log"
        second = start_gnomon("serve", "--data", str(tmp_path), *arguments, log=log)
        try:
            assert second.wait(20) == 3
        except subprocess.TimeoutExpired:
            second.kill()
            second.wait()
            raise
        assert f"pid {first.process.pid}" in log.read_text()
        with Site(first, "mtls").device("lamp", "5"):
            pass
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(20) == 0
    with running_server(tmp_path, *arguments) as third, Site(third, "mtls").device("lamp", "5"):
        pass
