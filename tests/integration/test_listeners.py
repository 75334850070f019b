"""Every kind of listener with clients of several houses, the PROXY protocol, and floods at the door."""

import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest

from fleet import DevelopmentPKI
from paho_peer import VERSIONS, PahoPeer, Version, client_context
from running_server import RunningServer, running_server
from server_site import unique

TIMEOUT_S = 10.0
KINDS = ("tcp", "tls", "mtls", "ws", "wss", "unix")
TRANSPORTS: dict[str, Literal["tcp", "websockets", "unix"]] = {
    "ws": "websockets",
    "wss": "websockets",
    "unix": "unix",
}
PER_SOURCE = 6
HANDSHAKES = 4
#: CONNECT of 3.1.1 with a clean session and client id "t", its CONNACK, PINGREQ and PINGRESP.
CONNECT, CONNACK = bytes.fromhex("100d00044d5154540402003c000174"), bytes.fromhex("20020000")
PING, PONG = bytes.fromhex("c000"), bytes.fromhex("d000")
PROXY_SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")

loops = pytest.fixture(scope="module", params=["uvloop", "asyncio"])


def proxy_header(address: str) -> bytes:
    """A PROXY protocol v2 header for a TCP connection over IPv4."""
    return PROXY_SIGNATURE + bytes.fromhex("2111000c") + socket.inet_aton(address) + bytes(8)


def served(folder: Path, loop: str, limits: str, *urls: str) -> tuple[Path, tuple[str, ...]]:
    config = folder / "gnomon.toml"
    config.write_text(f'loop = "{loop}"\n[broker.limits]\n{limits}\n')
    listen = [argument for url in urls for argument in ("--listen", url)]
    return folder, ("--config", str(config), "--anonymous", *listen)


@loops
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("kinds")
    urls = [f"{kind}://127.0.0.1:0" for kind in KINDS if kind != "unix"]
    proxied = [f"{kind}://127.0.0.1:0?proxy=v2&name=proxied-{kind}" for kind in ("tcp", "mtls", "ws")]
    data, arguments = served(folder, request.param, "", *urls, f"unix://{folder}/s.sock", *proxied)
    with running_server(data, *arguments) as running:
        yield running
    assert not (folder / "s.sock").exists()
    log = (data / "test.log").read_text()
    assert "Traceback" not in log, log


@loops
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server that expects floods."""
    limits = (
        f"connections_per_source_maximum = {PER_SOURCE}\n"
        f"handshakes_maximum = {HANDSHAKES}\nhandshake_timeout_s = 1.0\n"
    )
    urls = ("tcp://127.0.0.1:0", "mtls://127.0.0.1:0", "tcp://127.0.0.1:0?proxy=v2&name=proxied-tcp")
    data, arguments = served(tmp_path_factory.mktemp("guarded"), request.param, limits, *urls)
    with running_server(data, *arguments) as running:
        yield running
    log = (data / "test.log").read_text()
    assert "Traceback" not in log, log


def port_of(server: RunningServer, name: str) -> int:
    """The port of the first listener whose name begins so."""
    listeners = server.ready["listeners"]
    url = next(str(item["url"]) for item in listeners if item["name"].startswith(name))
    port = urlsplit(url).port
    assert port is not None
    return port


def tls_context(server: RunningServer, kind: str, name: str) -> ssl.SSLContext | None:
    pki = DevelopmentPKI(server.data / "pki")
    if kind == "mtls":
        return client_context(pki.ensure_device(name))
    return ssl.create_default_context(cafile=pki.authority) if kind in ("tls", "wss") else None


def paho_on(server: RunningServer, kind: str, version: Version, **options: Any) -> PahoPeer:
    name = unique(kind)
    if kind == "unix":
        options["host"] = urlsplit(server.ready["listeners"][len(KINDS) - 1]["url"]).path
    return PahoPeer(
        1883 if kind == "unix" else port_of(server, f"{kind}-"),
        name,
        version,
        context=tls_context(server, kind, name),
        transport=TRANSPORTS.get(kind, "tcp"),
        **options,
    )


def connect(
    server: RunningServer, name: str = "tcp-", first: bytes = b"", *, client_id: bytes = b"t"
) -> socket.socket:
    """A raw connection; `first` goes before CONNECT. The caller reads the CONNACK."""
    peer = socket.create_connection(("127.0.0.1", port_of(server, name)), timeout=TIMEOUT_S)
    peer.sendall(first + CONNECT[:-1] + client_id)
    return peer


def is_let_in(peer: socket.socket) -> bool:
    try:
        return peer.recv(4) == CONNACK
    except ConnectionResetError:
        return False


def wait_closed(peer: socket.socket) -> None:
    """Read until the server has closed."""
    try:
        while peer.recv(4096):
            pass
    except ConnectionResetError:
        pass


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_client_on_any_listener_talks_to_one_on_another(
    server: RunningServer, kind: str, version: Version
) -> None:
    topic = unique("kinds")
    with paho_on(server, kind, version) as here, paho_on(server, "tcp", version) as there:
        here.subscribe(f"{topic}/in", 2)
        there.subscribe(f"{topic}/out", 2)
        for size in (0, 1, 125, 126, 65_536, 300_000):
            for qos in (0, 1, 2):
                payload = bytes([qos]) * size
                here.publish(f"{topic}/out", payload, qos=qos)
                assert there.receive().payload == payload
                there.publish(f"{topic}/in", payload, qos=qos)
                assert here.receive().payload == payload


def test_mosquitto_talks_over_a_unix_socket(server: RunningServer) -> None:
    program = shutil.which("mosquitto_pub")
    assert program is not None, "install the package mosquitto-clients"
    topic = unique("mosquitto")
    with paho_on(server, "tcp", "5") as watcher:
        watcher.subscribe(topic)
        address = ["--unix", str(server.data / "s.sock")]
        subprocess.run([program, *address, "-t", topic, "-m", "x", "-q", "1"], check=True, timeout=TIMEOUT_S)
        assert watcher.receive().payload == b"x"


def test_a_certificate_makes_a_device_on_tls_as_on_mtls(server: RunningServer) -> None:
    files = DevelopmentPKI(server.data / "pki").ensure_device("lamp-7")
    peer = PahoPeer(port_of(server, "tls-"), "lamp-7", "5", context=client_context(files))
    with peer, paho_on(server, "tls", "5") as stranger:
        assert peer.subscribe("$aws/things/lamp-7/shadow/get/accepted") == 1
        assert stranger.subscribe("$aws/things/lamp-7/shadow/get/accepted") == 0x87


@pytest.mark.parametrize("step", [1, 5, 64])
def test_a_proxy_header_may_come_in_pieces(server: RunningServer, step: int) -> None:
    address = ("127.0.0.1", port_of(server, "proxied-tcp"))
    with socket.create_connection(address, timeout=TIMEOUT_S) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = proxy_header("192.0.2.7") + CONNECT
        for at in range(0, len(data), step):
            peer.sendall(data[at : at + step])
        assert is_let_in(peer)


def test_mutual_tls_follows_a_proxy_header(server: RunningServer) -> None:
    context = tls_context(server, "mtls", "t")
    assert context is not None
    plain = socket.create_connection(("127.0.0.1", port_of(server, "proxied-mtls")), timeout=TIMEOUT_S)
    plain.sendall(proxy_header("192.0.2.7"))
    with context.wrap_socket(plain, server_hostname="localhost") as peer:
        peer.sendall(CONNECT)
        assert is_let_in(peer)


@pytest.mark.parametrize(
    "first", [b"", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n", proxy_header("192.0.2.7")[:-1]]
)
def test_without_a_whole_proxy_header_nobody_comes_in(server: RunningServer, first: bytes) -> None:
    with connect(server, "proxied-tcp", first) as peer:
        with suppress(OSError):  # It may be closed already.
            peer.shutdown(socket.SHUT_WR)
        assert not is_let_in(peer)


def test_one_source_has_so_many_connections_and_no_more(guarded: RunningServer) -> None:
    with ExitStack() as stack:
        for number in range(PER_SOURCE):
            assert is_let_in(stack.enter_context(connect(guarded, client_id=b"%d" % number)))
        for _ in range(20):
            with connect(guarded) as refused:
                assert not is_let_in(refused)
    wait_until_let_in(guarded)


def test_behind_a_proxy_each_client_is_a_source_of_its_own(guarded: RunningServer) -> None:
    with ExitStack() as stack:
        for number in range(PER_SOURCE + 2):
            first = proxy_header(f"192.0.2.{number}")
            peer = connect(guarded, "proxied-tcp", first, client_id=b"%d" % number)
            assert is_let_in(stack.enter_context(peer))
    wait_until_let_in(guarded)


def wait_until_let_in(guarded: RunningServer) -> None:
    """The server notices on its own that others have left."""
    for _ in range(1000):
        with connect(guarded) as peer:
            if is_let_in(peer):
                return
    pytest.fail("nobody comes in any more")


@pytest.mark.parametrize("name", ["mtls-", "proxied-tcp"])
def test_half_open_handshakes_are_closed_and_make_room(guarded: RunningServer, name: str) -> None:
    with ExitStack() as stack:
        address = ("127.0.0.1", port_of(guarded, name))
        silent = [
            stack.enter_context(socket.create_connection(address, timeout=TIMEOUT_S))
            for _ in range(3 * HANDSHAKES)
        ]
        with connect(guarded) as other:
            assert is_let_in(other), "another listener does not suffer"
        for peer in silent:
            wait_closed(peer)
    wait_until_let_in(guarded)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_half_open_handshakes_do_not_delay_the_end(tmp_path: Path, loop: str) -> None:
    urls = ("mtls://127.0.0.1:0", "tcp://127.0.0.1:0?proxy=v2&name=proxied-tcp")
    data, arguments = served(tmp_path, loop, "handshake_timeout_s = 3600.0", *urls)
    with running_server(data, *arguments) as server, ExitStack() as stack:
        for name in ("mtls-", "proxied-tcp"):
            address = ("127.0.0.1", port_of(server, name))
            silent = stack.enter_context(socket.create_connection(address, timeout=TIMEOUT_S))
            silent.sendall(b"\x16\x03\x01" if name == "mtls-" else PROXY_SIGNATURE)
        server.process.terminate()
        assert server.process.wait(5) == 0
    log = (data / "test.log").read_text()
    assert "Traceback" not in log, log
