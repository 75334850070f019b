"""Users with passwords, through the whole program: every listener, both versions."""

import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fleet import DevelopmentPKI
from gnomon.passwords import delete_user, set_password
from paho_peer import VERSIONS, PahoPeer, RefusedError, Version, client_context
from running_server import RunningServer, running_server

RULES = """
version = 1
[[rule]]
effect = "allow"
actions = ["publish", "subscribe"]
topics = ["home/${user_name}/#"]
[[rule]]
effect = "allow"
actions = ["publish"]
topics = ["dt/${thing_name}/#"]
"""
BAD_CREDENTIALS, NOT_AUTHORIZED = 0x86, 0x87


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("passwords")
    config, rules, users = folder / "gnomon.toml", folder / "rules.toml", folder / "users"
    rules.write_text(RULES)
    set_password(users, "alice", b"secret")
    set_password(users, "bob", b"\xc3\xa4")
    listeners = '["tcp://127.0.0.1:0", "tls://127.0.0.1:0", "mtls://127.0.0.1:0"]'
    config.write_text(
        f'[broker]\nlisteners = {listeners}\nrules_file = "{rules}"\npassword_file = "{users}"\n'
    )
    with running_server(folder / "data", "--config", str(config)) as server:
        yield server
    assert "Traceback" not in (folder / "data" / "test.log").read_text()


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> Version:
    chosen: Version = request.param
    return chosen


@pytest.fixture(params=["tcp", "tls"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def peer(
    server: RunningServer,
    scheme: str,
    version: Version,
    user_name: str | None = None,
    password: str | None = None,
    client_id: str = "c",
) -> PahoPeer:
    pki = DevelopmentPKI(server.data / "pki")
    context: ssl.SSLContext | None = None
    if scheme == "tls":
        context = ssl.create_default_context(cafile=pki.ensure_server().authority)
    elif scheme == "mtls":
        context = client_context(pki.ensure_device(client_id))
    return PahoPeer(
        server.port(f"{scheme}:"), client_id, version, context=context, user_name=user_name, password=password
    )


def test_a_user_with_the_right_password_does_what_the_rules_say(
    server: RunningServer, scheme: str, version: Version
) -> None:
    with peer(server, scheme, version, "alice", "secret") as alice:
        assert alice.subscribe("home/alice/#", 1) == 1
        assert alice.subscribe("home/bob/#", 1) >= 0x80
        alice.publish("home/alice/lamp", b"on", qos=1)
        assert alice.receive().payload == b"on"


def test_a_password_is_bytes(server: RunningServer, version: Version) -> None:
    with peer(server, "tcp", version, "bob", "ä"):
        pass


@pytest.mark.parametrize(
    ("user_name", "password", "expected"),
    [
        ("alice", "wrong", BAD_CREDENTIALS),
        ("nobody", "secret", BAD_CREDENTIALS),
        ("alice", "", BAD_CREDENTIALS),
        ("alice", None, NOT_AUTHORIZED),
        (None, None, NOT_AUTHORIZED),
    ],
)
def test_who_proves_nothing_is_refused_with_the_word_of_its_version(
    server: RunningServer,
    scheme: str,
    version: Version,
    user_name: str | None,
    password: str | None,
    expected: int,
) -> None:
    with pytest.raises(RefusedError) as caught:
        peer(server, scheme, version, user_name, password).connect()
    # paho translates 3.1.1's return codes 4 and 5 to those of version 5.
    assert caught.value.code == expected


def test_beside_a_certificate_user_name_and_password_are_ignored(
    server: RunningServer, version: Version
) -> None:
    with peer(server, "mtls", version, "alice", "wrong", client_id="lamp") as lamp:
        lamp.publish("dt/lamp/x", b"1", qos=1)
        assert lamp.subscribe("home/alice/#", 1) >= 0x80
    with peer(server, "mtls", version, "?SDK=Python&Version=1", client_id="lamp"):
        pass


def test_nobody_takes_the_session_of_another_user(server: RunningServer) -> None:
    with peer(server, "tcp", "3.1.1", "alice", "secret", client_id="shared") as alice:
        with pytest.raises(RefusedError):
            peer(server, "tcp", "3.1.1", "bob", "ä", client_id="shared").connect()
        alice.publish("home/alice/x", b"still here", qos=1)


def test_a_deleted_user_is_out_after_a_reload(tmp_path: Path) -> None:
    config, users = tmp_path / "gnomon.toml", tmp_path / "users"
    set_password(users, "alice", b"secret")
    config.write_text(f'[broker]\nlisteners = ["tcp://127.0.0.1:0"]\npassword_file = "{users}"\n')
    with running_server(tmp_path / "data", "--config", str(config)) as server:
        alice = peer(server, "tcp", "5", "alice", "secret")
        alice.connect()
        delete_user(users, "alice")
        server.process.send_signal(signal.SIGHUP)
        assert alice.disconnected() == NOT_AUTHORIZED
        with pytest.raises(RefusedError):
            peer(server, "tcp", "5", "alice", "secret").connect()


def test_traffic_goes_on_while_many_passwords_are_checked(server: RunningServer) -> None:
    address = ("127.0.0.1", server.port("tcp:"))
    with peer(server, "tcp", "5", "alice", "secret", client_id="busy") as alice, ExitStack() as stack:
        flood = [stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(100)]
        for number, each in enumerate(flood):
            each.sendall(wrong_connect(f"flood-{number:03}"))
        for _ in range(10):
            alice.publish("home/alice/x", b"", qos=1)
        flood[-1].setblocking(False)
        with pytest.raises(BlockingIOError):
            flood[-1].recv(1)
        flood[-1].settimeout(30)
        assert {each.recv(4) for each in flood} == {bytes.fromhex("20020004")}


def wrong_connect(client_id: str) -> bytes:
    """CONNECT, 3.1.1, clean session, user name and password (v3.1.1 §3.1)."""
    texts = (client_id, "alice", "wrong")
    body = bytes.fromhex("00044d51545404c2003c")
    body += b"".join(len(text).to_bytes(2, "big") + text.encode() for text in texts)
    return bytes((0x10, len(body))) + body
