"""Certificates, authorities, rules and passwords that change under live connections."""

import shutil
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import argon2
import pytest

from fleet import CertificateFiles, DevelopmentPKI
from paho_peer import PahoPeer, client_context
from running_server import RunningServer, running_server

TIMEOUT_S = 10.0
NOT_AUTHORIZED = 0x87
#: CONNECT of 3.1.1 with a clean session and client id "probe".
CONNECT_PROBE = bytes.fromhex("101100044d5154540402003c000570726f6265")
RULES = """
version = 1
[[rule]]
effect = "allow"
actions = ["publish", "subscribe"]
topics = ["{topic}"]
"""

change = pytest.mark.parametrize("is_signal", [True, False], ids=["SIGHUP", "file-change"])


class Served:
    """A server whose certificate files a test replaces."""

    def __init__(self, server: RunningServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.pki = DevelopmentPKI(folder / "first")
        self.other_pki = DevelopmentPKI(folder / "second")

    def install(self, pki: DevelopmentPKI) -> None:
        install(pki, self.folder)

    def hang_up(self) -> None:
        self.server.process.send_signal(signal.SIGHUP)

    def connect(self, pki: DevelopmentPKI, name: str) -> PahoPeer:
        peer = PahoPeer(self.server.port(), name, "5", context=client_context(pki.ensure_device(name)))
        peer.connect()
        return peer

    def lets_in(self, server_pki: DevelopmentPKI, client_pki: DevelopmentPKI) -> bool:
        """Whether a handshake succeeds in which the server is of one PKI and the client of another."""
        files = client_pki.ensure_device("probe")
        context = client_context(
            CertificateFiles(certificate=files.certificate, key=files.key, authority=server_pki.authority)
        )
        plain = socket.create_connection(("127.0.0.1", self.server.port()), timeout=TIMEOUT_S)
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as peer:
                peer.sendall(CONNECT_PROBE)
                return bool(peer.recv(1))
        except (ssl.SSLError, ConnectionError):
            return False
        finally:
            plain.close()

    def log(self) -> str:
        return (self.server.data / "test.log").read_text()


def install(pki: DevelopmentPKI, folder: Path) -> None:
    """Put the server files of a PKI where the server reads them."""
    files = pki.ensure_server()
    for source, name in (
        (files.authority, "ca.pem"),
        (files.certificate, "server.pem"),
        (files.key, "server.key"),
    ):
        shutil.copy(source, folder / f"{name}.new")
        (folder / f"{name}.new").replace(folder / name)


def wait_for(condition: Callable[[], bool]) -> None:
    """The server looks at its files by itself; there is nothing to wait on."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(params=["uvloop", "asyncio"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    install(DevelopmentPKI(tmp_path / "first"), tmp_path)
    config = tmp_path / "gnomon.toml"
    config.write_text(f'loop = "{request.param}"\n[broker]\ncertificate_check_s = 0.05\n')
    url = f"mtls://127.0.0.1:0?cert={tmp_path}/server.pem&key={tmp_path}/server.key&ca={tmp_path}/ca.pem"
    with running_server(tmp_path / "data", "--config", str(config), "--listen", url) as server:
        yield Served(server, tmp_path)
    assert "Traceback" not in (tmp_path / "data" / "test.log").read_text()


@change
def test_new_files_serve_new_connections_and_old_ones_stay(served: Served, is_signal: bool) -> None:
    inside = served.connect(served.pki, "inside")
    served.install(served.other_pki)
    if is_signal:
        served.hang_up()
    wait_for(lambda: served.lets_in(served.other_pki, served.other_pki))
    assert not served.lets_in(served.other_pki, served.pki), "the old authority is not trusted any more"
    assert not served.lets_in(served.pki, served.other_pki), "the old certificate is not shown any more"
    later = served.connect(served.other_pki, "later")
    assert inside.publish("dt/inside/x", b"x", qos=1) in (0, 0x10)
    for peer in (inside, later):
        peer.disconnect()


@change
@pytest.mark.parametrize("name", ["ca.pem", "server.pem", "server.key"])
def test_a_bad_file_changes_nothing_and_is_told_once(served: Served, is_signal: bool, name: str) -> None:
    (served.folder / name).write_text("hello")
    if is_signal:
        served.hang_up()
    wait_for(lambda: "listener.tls_kept" in served.log())
    assert served.lets_in(served.pki, served.pki)
    assert served.log().count("listener.tls_kept") == 1
    assert str(served.folder / name) in served.log()
    served.install(served.other_pki)
    wait_for(lambda: served.lets_in(served.other_pki, served.other_pki))


@pytest.fixture(params=["uvloop", "asyncio"])
def ruled(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningServer]:
    (tmp_path / "rules.toml").write_text(RULES.format(topic="old/#"))
    write_passwords(tmp_path, "ann", "bob")
    config = tmp_path / "gnomon.toml"
    config.write_text(
        f'loop = "{request.param}"\n[broker]\nrules_file = "{tmp_path}/rules.toml"\n'
        f'password_file = "{tmp_path}/passwords"\n'
    )
    with running_server(tmp_path, "--config", str(config), "--listen", "tcp://127.0.0.1:0") as server:
        yield server
    assert "Traceback" not in (tmp_path / "test.log").read_text()


def write_passwords(folder: Path, *names: str) -> None:
    """Everybody's password is the name."""
    hasher = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    (folder / "passwords").write_text("".join(f"{name}:{hasher.hash(name)}\n" for name in names))


def user(server: RunningServer, name: str) -> PahoPeer:
    peer = PahoPeer(server.port("tcp"), name, "5", user_name=name, password=name)
    peer.connect()
    return peer


def test_new_rules_hold_for_connected_clients(ruled: RunningServer) -> None:
    ann, bob = user(ruled, "ann"), user(ruled, "bob")
    assert ann.subscribe("old/#") == 1
    assert ann.subscribe("new/#") == NOT_AUTHORIZED
    (ruled.data / "rules.toml").write_text(RULES.format(topic="new/#"))
    ruled.process.send_signal(signal.SIGHUP)
    wait_for(lambda: ann.subscribe("new/#") == 1)
    wait_for(lambda: bob.publish("new/x", b"new", qos=1) == 0)
    assert bob.publish("old/x", b"old", qos=1) == NOT_AUTHORIZED
    assert ann.receive().payload == b"new"
    for peer in (ann, bob):
        peer.disconnect()


def test_a_user_who_is_gone_is_closed_and_others_stay(ruled: RunningServer) -> None:
    ann, bob = user(ruled, "ann"), user(ruled, "bob")
    write_passwords(ruled.data, "bob")
    ruled.process.send_signal(signal.SIGHUP)
    assert ann.disconnected() == NOT_AUTHORIZED
    assert bob.subscribe("old/#") == 1
    bob.disconnect()


@pytest.mark.parametrize("name", ["rules.toml", "passwords"])
def test_a_wrong_file_changes_nothing(ruled: RunningServer, name: str) -> None:
    ann = user(ruled, "ann")
    (ruled.data / name).write_text("hello")
    ruled.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "server.rules_kept" in (ruled.data / "test.log").read_text())
    assert str(ruled.data / name) in (ruled.data / "test.log").read_text()
    assert ann.subscribe("old/#") == 1
    user(ruled, "bob").disconnect()
    ann.disconnect()
