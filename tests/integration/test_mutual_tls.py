"""The door: who gets through a mutual TLS listener, and what becomes of those who do not."""

import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet import CertificateFiles, DevelopmentPKI
from paho_peer import client_context
from running_server import RunningServer, running_server, start_gnomon
from server_site import unique

TIMEOUT_S = 10.0
HANDSHAKE_TIMEOUT_S = 1.0
DISCONNECT = bytes.fromhex("e000")
PING, PONG = bytes.fromhex("c000"), bytes.fromhex("d000")
ACCEPTED = bytes.fromhex("20020000")
#: v3.1.1 §3.2.2.3: 0x02 identifier rejected, 0x05 not authorized; v5 §3.2.2.2: 0x85 and 0x87.
IDENTIFIER_REJECTED = {4: 0x02, 5: 0x85}
NOT_AUTHORIZED = {4: 0x05, 5: 0x87}

both_levels = pytest.mark.parametrize("level", [4, 5], ids=["3.1.1", "5"])
tls_versions = pytest.mark.parametrize("tls_version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])

#: ClientHello of TLS 1.1 (RFC 4346 §7.4.1.2): four cipher suites and no extension.
_HELLO_BODY = bytes.fromhex("0302") + bytes(32) + bytes.fromhex("00 000ac013c014002f003500ff 0100")
_HELLO = b"\x01" + len(_HELLO_BODY).to_bytes(3, "big") + _HELLO_BODY
TLS_1_1_HELLO = bytes.fromhex("160301") + len(_HELLO).to_bytes(2, "big") + _HELLO


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    data = tmp_path_factory.mktemp("tls")
    config = data / "gnomon.toml"
    config.write_text(
        f'loop = "{request.param}"\n[broker.limits]\nhandshake_timeout_s = {HANDSHAKE_TIMEOUT_S}\n'
    )
    # An authority that is old enough to have issued certificates that have expired since.
    DevelopmentPKI(data / "pki", now=lambda: datetime.now(UTC) - timedelta(days=500)).ensure_authority()
    with running_server(data, "--config", str(config), "--listen", "mtls://127.0.0.1:0") as running:
        yield running
    log = (data / "test.log").read_text()
    assert "Traceback" not in log, log


@pytest.fixture
def pki(server: RunningServer) -> DevelopmentPKI:
    return DevelopmentPKI(server.data / "pki")


@pytest.fixture(autouse=True)
def _others_are_served(server: RunningServer, pki: DevelopmentPKI) -> Iterator[None]:
    """Whatever a test does at the door: who is inside stays, and others still come in."""
    inside = let_in(server, pki.ensure_device("inside"), "inside")
    yield
    inside.sendall(PING)
    assert inside.recv(2) == PONG
    inside.sendall(DISCONNECT)
    inside.close()
    let_in(server, pki.ensure_device("later"), "later").close()


def connect_packet(client_id: str, level: int = 4) -> bytes:
    """CONNECT with Clean Session and a keep alive of a minute (v3.1.1 §3.1, v5 §3.1)."""
    body = b"\x00\x04MQTT" + bytes([level]) + bytes.fromhex("02003c") + (b"\x00" if level == 5 else b"")
    body += len(client_id).to_bytes(2, "big") + client_id.encode()
    return b"\x10" + bytes([len(body)]) + body


def wrap(
    server: RunningServer, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", server.port()), timeout=TIMEOUT_S)
    try:
        return context.wrap_socket(plain, server_hostname="localhost", session=session)
    except BaseException:
        plain.close()
        raise


def let_in(server: RunningServer, files: CertificateFiles, client_id: str) -> ssl.SSLSocket:
    peer = wrap(server, client_context(files))
    peer.sendall(connect_packet(client_id))
    assert peer.recv(4) == ACCEPTED
    return peer


def answer(server: RunningServer, files: CertificateFiles, client_id: str, level: int) -> bytes:
    with wrap(server, client_context(files)) as peer:
        peer.sendall(connect_packet(client_id, level))
        return peer.recv(512)


def assert_shut_out(server: RunningServer, context: ssl.SSLContext) -> None:
    """With TLS 1.3 the client learns of it only when it reads: an alert or the end, and never a CONNACK."""
    try:
        with wrap(server, context) as peer:
            peer.sendall(connect_packet("late"))
            assert peer.recv(512) == b""
    except (ssl.SSLError, ConnectionError):
        pass


def read_to_end(peer: socket.socket) -> bytes:
    """What comes until the end of the connection, which must be an orderly one."""
    got = b""
    while data := peer.recv(4096):
        got += data
    return got


@both_levels
def test_a_device_comes_in_under_its_own_name(server: RunningServer, pki: DevelopmentPKI, level: int) -> None:
    name = unique("thing")
    connack = answer(server, pki.ensure_device(name), name, level)
    assert (connack[0], connack[3]) == (0x20, 0x00)


@both_levels
def test_a_device_under_another_name_is_told_so(
    server: RunningServer, pki: DevelopmentPKI, level: int
) -> None:
    connack = answer(server, pki.ensure_device("lamp-1"), "lamp-2", level)
    assert (connack[0], connack[2], connack[3]) == (0x20, 0x00, IDENTIFIER_REJECTED[level])


@both_levels
def test_a_client_that_stays_after_its_refusal_is_closed(
    server: RunningServer, pki: DevelopmentPKI, level: int
) -> None:
    with wrap(server, client_context(pki.ensure_device("lamp-1"))) as peer:
        peer.sendall(connect_packet("lamp-2", level) + PING)
        began = time.monotonic()
        connack = read_to_end(peer)
        assert connack[3] == IDENTIFIER_REJECTED[level]
        assert len(connack) == 2 + connack[1], "something after the refusal"
        assert time.monotonic() - began < 3


@both_levels
def test_an_operator_comes_in_under_any_name(server: RunningServer, pki: DevelopmentPKI, level: int) -> None:
    connack = answer(server, pki.ensure_operator("ada"), unique("console"), level)
    assert (connack[0], connack[3]) == (0x20, 0x00)


@both_levels
def test_a_client_on_tcp_without_anonymous_access_is_told_so(tmp_path: Path, level: int) -> None:
    with running_server(tmp_path, "--listen", "tcp://127.0.0.1:0") as server:
        with socket.create_connection(("127.0.0.1", server.port("tcp")), timeout=TIMEOUT_S) as peer:
            peer.sendall(connect_packet("t", level))
            connack = read_to_end(peer)
        assert (connack[0], connack[2], connack[3]) == (0x20, 0x00, NOT_AUTHORIZED[level])


@tls_versions
def test_no_certificate_is_shut_out(
    server: RunningServer, pki: DevelopmentPKI, tls_version: ssl.TLSVersion
) -> None:
    context = ssl.create_default_context(cafile=pki.authority)
    context.maximum_version = tls_version
    assert_shut_out(server, context)


@tls_versions
def test_a_certificate_of_another_authority_is_shut_out(
    server: RunningServer, pki: DevelopmentPKI, tmp_path: Path, tls_version: ssl.TLSVersion
) -> None:
    context = ssl.create_default_context(cafile=pki.authority)
    theirs = DevelopmentPKI(tmp_path).ensure_device("late")
    context.load_cert_chain(theirs.certificate, theirs.key)
    context.maximum_version = tls_version
    assert_shut_out(server, context)


@tls_versions
@pytest.mark.parametrize(("days", "name"), [(-400, "expired"), (400, "not-yet")])
def test_a_certificate_out_of_its_time_is_shut_out(
    server: RunningServer, pki: DevelopmentPKI, tls_version: ssl.TLSVersion, days: int, name: str
) -> None:
    then = DevelopmentPKI(pki.folder, now=lambda: datetime.now(UTC) + timedelta(days=days))
    context = client_context(then.ensure_device(name))
    context.maximum_version = tls_version
    assert_shut_out(server, context)


def test_the_certificate_of_a_server_is_no_client_certificate(
    server: RunningServer, pki: DevelopmentPKI
) -> None:
    assert_shut_out(server, client_context(pki.ensure_server()))


def test_tls_1_1_is_shut_out(server: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port()), timeout=TIMEOUT_S) as peer:
        peer.sendall(TLS_1_1_HELLO)
        answered = read_to_end(peer)
        assert answered[:1] in (b"", b"\x15"), "neither the end nor an alert"


@tls_versions
def test_no_handshake_is_ever_resumed(
    server: RunningServer, pki: DevelopmentPKI, tls_version: ssl.TLSVersion
) -> None:
    context = client_context(pki.ensure_device("again"))
    context.minimum_version = context.maximum_version = tls_version
    session: ssl.SSLSession | None = None
    for _ in range(3):
        peer = wrap(server, context, session)
        peer.sendall(connect_packet("again"))
        assert peer.recv(4) == ACCEPTED
        assert peer.version() == tls_version.name.replace("v1_", "v1.")
        assert peer.session_reused is False
        session = peer.session
        assert session is not None
        assert not session.has_ticket
        # Only an orderly end leaves a session that could be resumed (RFC 5246 §7.2.1).
        peer.sendall(DISCONNECT)
        assert peer.recv(1) == b""
        peer.unwrap().close()


@pytest.mark.parametrize(
    ("offered", "selected"),
    [
        (["mqtt"], "mqtt"),
        (["x-amzn-mqtt-ca"], "x-amzn-mqtt-ca"),
        (["h2", "x-amzn-mqtt-ca"], "x-amzn-mqtt-ca"),
        (["http/1.1"], None),
        ([], None),
    ],
)
def test_application_protocols_of_device_kits_are_known(
    server: RunningServer, pki: DevelopmentPKI, offered: list[str], selected: str | None
) -> None:
    context = client_context(pki.ensure_device("alpn"))
    if offered:
        context.set_alpn_protocols(offered)
    with wrap(server, context) as peer:
        assert peer.selected_alpn_protocol() == selected
        peer.sendall(connect_packet("alpn"))
        assert peer.recv(4) == ACCEPTED


@pytest.mark.parametrize("start", [b"", TLS_1_1_HELLO[:20]], ids=["silent", "half a ClientHello"])
def test_a_handshake_that_does_not_end_is_closed_in_time(server: RunningServer, start: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port()), timeout=TIMEOUT_S) as peer:
        began = time.monotonic()
        peer.sendall(start)
        assert read_to_end(peer) == b""
        assert HANDSHAKE_TIMEOUT_S * 0.9 < time.monotonic() - began < HANDSHAKE_TIMEOUT_S + 2


def test_a_crowd_of_open_handshakes_delays_nobody(server: RunningServer, pki: DevelopmentPKI) -> None:
    crowd = [socket.create_connection(("127.0.0.1", server.port()), timeout=TIMEOUT_S) for _ in range(100)]
    began = time.monotonic()
    let_in(server, pki.ensure_device("patient"), "patient").close()
    assert time.monotonic() - began < HANDSHAKE_TIMEOUT_S
    for peer in crowd:
        with peer:
            assert read_to_end(peer) == b""


@pytest.mark.parametrize(
    "data",
    [connect_packet("plain"), b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", bytes(10_000)],
    ids=["MQTT", "HTTP", "zeros"],
)
def test_plain_bytes_end_in_an_orderly_close(server: RunningServer, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port()), timeout=TIMEOUT_S) as peer:
        peer.sendall(data)
        assert read_to_end(peer)[:1] in (b"", b"\x15"), "neither the end nor an alert"


def test_a_peer_that_vanishes_inside_the_handshake_harms_nobody(server: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port()), timeout=TIMEOUT_S) as peer:
        # A reset instead of an end: nothing is waited for.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes.fromhex("0100000000000000"))
        peer.sendall(TLS_1_1_HELLO[:20])


def test_a_key_of_another_certificate_stops_the_start(tmp_path: Path) -> None:
    pki = DevelopmentPKI(tmp_path / "pki")
    mine, other = pki.ensure_server(), pki.ensure_device("other")
    url = f"mtls://127.0.0.1:0?cert={mine.certificate}&key={other.key}&ca={mine.authority}"
    log = tmp_path / "log"
    process = start_gnomon("serve", "--data", str(tmp_path / "data"), "--listen", url, log=log)
    try:
        assert process.wait(20) == 2
    finally:
        process.kill()
        process.wait()
    text = log.read_text()
    assert str(other.key) in text
    assert len(text.splitlines()) == 1
