"""MQTT over WebSocket, byte by byte: the handshakes, frames of every cut, and peers that mean harm."""

import contextlib
import os
import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from running_server import RunningServer, running_server

TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 1.0
CONNECT_V5 = bytes.fromhex("100e00044d5154540502003c00000174")
CONNECT, CONNACK = bytes.fromhex("100d00044d5154540402003c000174"), bytes.fromhex("20020000")
PING, PONG = bytes.fromhex("c000"), bytes.fromhex("d000")
CONTINUATION, TEXT, BINARY, CLOSE, WS_PING, WS_PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FINAL = 0x80
#: RFC 6455 §1.3: a key and the answer to it.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    data = tmp_path_factory.mktemp("websocket")
    config = data / "gnomon.toml"
    config.write_text(f'loop = "{request.param}"\n[broker.limits]\nconnect_timeout_s = {CONNECT_TIMEOUT_S}\n')
    listen = ("--listen", "ws://127.0.0.1:0", "--anonymous")
    with running_server(data, "--config", str(config), *listen) as running:
        yield running
    log = (data / "test.log").read_text()
    assert "Traceback" not in log, log


@pytest.fixture(autouse=True)
def _others_are_served(server: RunningServer) -> Iterator[None]:
    """Whatever a test does: a well-behaved client still comes in."""
    yield
    with WebSocket(server) as peer:
        peer.send(CONNECT)
        assert peer.receive() == (BINARY, CONNACK)


def upgrade(path: str = "/mqtt", protocol: str | None = "mqtt", more: str = "") -> bytes:
    """A request to open a WebSocket (RFC 6455 §4.1)."""
    offer = "" if protocol is None else f"Sec-WebSocket-Protocol: {protocol}\r\n"
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{offer}{more}\r\n"
    ).encode()


def frame(payload: bytes, first: int = FINAL | BINARY) -> bytes:
    """A masked frame (RFC 6455 §5.2)."""
    size = len(payload)
    if size < 126:
        head = bytes([first, 0x80 | size])
    elif size < 65_536:
        head = bytes([first, 0x80 | 126]) + struct.pack(">H", size)
    else:
        head = bytes([first, 0x80 | 127]) + struct.pack(">Q", size)
    mask = b"\x11\x22\x33\x44"
    repeated = mask * (size // 4 + 1)
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated[:size], "big")).to_bytes(size, "big")
    return head + mask + masked


class WebSocket:
    """The client's end, open when `with` begins."""

    def __init__(self, server: RunningServer) -> None:
        self.socket = open_tcp(server)
        self._read = self.socket.makefile("rb")

    def __enter__(self) -> "WebSocket":
        self.socket.sendall(upgrade())
        assert b" 101 " in self.read_head()
        return self

    def __exit__(self, *_: object) -> None:
        self._read.close()
        self.socket.close()

    def read_head(self) -> bytes:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self._read.readline()
            assert line, head
            head += line
        return head

    def send(self, payload: bytes, first: int = FINAL | BINARY) -> None:
        self.socket.sendall(frame(payload, first))

    def receive(self) -> tuple[int, bytes]:
        """The next frame, which must be final and not masked (RFC 6455 §5.1)."""
        first, size = self._read.read(2)
        assert first & FINAL
        assert size < 0x80
        if size == 126:
            (size,) = struct.unpack(">H", self._read.read(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", self._read.read(8))
        return first & 0x0F, self._read.read(size)

    def assert_closed(self, code: int) -> None:
        """The server says so with this code, and closes."""
        opcode, payload = self.receive()
        assert (opcode, int.from_bytes(payload[:2], "big")) == (CLOSE, code)
        assert self._read.read() == b""


def open_tcp(server: RunningServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port("ws")), timeout=TIMEOUT_S)


def read_to_end(peer: socket.socket) -> bytes:
    data = b""
    try:
        while piece := peer.recv(65_536):
            data += piece
    except ConnectionResetError:
        pass
    return data


def answer(server: RunningServer, request: bytes) -> bytes:
    """Everything that the server answers to a request that does not open a WebSocket."""
    with open_tcp(server) as peer:
        peer.sendall(request)
        return read_to_end(peer)


@pytest.mark.clause("v5", "MQTT-6.0.0-4")
@pytest.mark.clause("v3.1.1", "MQTT-6.0.0-4")
@pytest.mark.parametrize("path", ["/", "/mqtt", "/mqtt?X-Amz-Signature=a%2Fb"])
@pytest.mark.parametrize("offer", ["mqtt", "mqttv3.1, mqtt", "chat,mqtt,x"])
def test_the_server_chooses_the_subprotocol_mqtt(server: RunningServer, path: str, offer: str) -> None:
    with open_tcp(server) as peer:
        peer.sendall(upgrade(path, offer))
        head = peer.recv(4096).decode().lower()
    assert head.startswith("http/1.1 101 ")
    assert f"sec-websocket-accept: {ACCEPT.lower()}\r\n" in head
    assert "sec-websocket-protocol: mqtt\r\n" in head


@pytest.mark.clause("v5", "MQTT-6.0.0-3")
@pytest.mark.clause("v3.1.1", "MQTT-6.0.0-3")
@pytest.mark.parametrize("offer", [None, "mqttv3.1", "MQTT", "chat"])
def test_a_client_that_does_not_offer_mqtt_is_refused(server: RunningServer, offer: str | None) -> None:
    assert answer(server, upgrade(protocol=offer)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (upgrade("/other"), b"404"),
        (upgrade("/mqtt/"), b"404"),
        (upgrade().replace(b"Version: 13", b"Version: 8"), b"400"),
        (upgrade().replace(KEY.encode(), b"short"), b"400"),
        (b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\n\r\n", b"426"),
    ],
)
def test_what_opens_no_websocket_gets_an_http_answer(
    server: RunningServer, request_: bytes, status: bytes
) -> None:
    assert answer(server, request_).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    "request_",
    [
        CONNECT,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"POST / HTTP/1.1\r\n\r\n",
        upgrade(more="X: " + "x" * 20_000 + "\r\n"),
        upgrade(more="X: x\r\n" * 3000),
        b"GET /" + b"x" * 100_000,
    ],
)
def test_what_is_no_request_is_closed(server: RunningServer, request_: bytes) -> None:
    assert b"101" not in answer(server, request_)


@pytest.mark.parametrize("sent", [b"", upgrade()[:-2]])
def test_a_handshake_that_does_not_end_is_closed(server: RunningServer, sent: bytes) -> None:
    assert answer(server, sent) == b""


def test_a_websocket_without_connect_is_closed(server: RunningServer) -> None:
    with WebSocket(server) as peer:
        peer.assert_closed(1000)


@pytest.mark.clause("v5", "MQTT-6.0.0-2")
@pytest.mark.clause("v3.1.1", "MQTT-6.0.0-2")
@pytest.mark.parametrize("step", [1, 3, 100])
def test_packets_may_be_cut_into_frames_anywhere(server: RunningServer, step: int) -> None:
    data = CONNECT + PING + PING
    with WebSocket(server) as peer:
        peer.socket.sendall(b"".join(frame(data[at : at + step]) for at in range(0, len(data), step)))
        got = b""
        while len(got) < 8:
            opcode, payload = peer.receive()
            assert opcode == BINARY
            got += payload
        assert got == CONNACK + PONG + PONG


def test_a_message_may_be_fragmented_with_pings_in_between(server: RunningServer) -> None:
    with WebSocket(server) as peer:
        peer.send(CONNECT[:5], BINARY)
        peer.send(b"are you there", FINAL | WS_PING)
        assert peer.receive() == (WS_PONG, b"are you there")
        peer.send(b"", CONTINUATION)
        peer.send(CONNECT[5:], FINAL | CONTINUATION)
        assert peer.receive() == (BINARY, CONNACK)


def test_what_belongs_to_one_turn_is_one_frame(server: RunningServer) -> None:
    with WebSocket(server) as peer:
        peer.send(CONNECT)
        peer.receive()
        peer.send(PING * 20)
        assert peer.receive() == (BINARY, PONG * 20)


@pytest.mark.clause("v5", "MQTT-6.0.0-1")
@pytest.mark.clause("v3.1.1", "MQTT-6.0.0-1")
def test_a_text_frame_closes_the_connection(server: RunningServer) -> None:
    with WebSocket(server) as peer:
        peer.send(CONNECT, FINAL | TEXT)
        peer.assert_closed(1003)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x82\x02" + PING, 1002),
        (frame(PING, 0xC2), 1002),
        (frame(PING, FINAL | 0x3), 1002),
        (frame(PING, FINAL | CONTINUATION), 1002),
        (frame(bytes(126), FINAL | WS_PING), 1002),
        (frame(b"", WS_PING), 1002),
        (b"\x82\xff" + (1 << 62).to_bytes(8, "big") + bytes(4), 1009),
        (b"\x82\xff" + (17 << 20).to_bytes(8, "big") + bytes(4), 1009),
    ],
)
def test_frames_that_break_the_rules_close_the_connection(
    server: RunningServer, data: bytes, code: int
) -> None:
    with WebSocket(server) as peer:
        peer.socket.sendall(data)
        peer.assert_closed(code)


def test_before_connect_a_frame_is_no_larger_than_a_connect_may_be(server: RunningServer) -> None:
    with WebSocket(server) as peer:
        peer.socket.sendall(frame(bytes(8 << 20))[: 600 << 10])
        peer.assert_closed(1009)


def test_after_connect_a_frame_may_be_as_large_as_a_packet(server: RunningServer) -> None:
    size = 4 << 20
    with WebSocket(server) as peer:
        peer.send(CONNECT)
        peer.receive()
        body = b"\x00\x01t\x00\x07" + bytes(size)
        length = len(body)
        head = bytearray(b"\x32")
        while length:
            head.append((length & 0x7F) | (0x80 if length > 0x7F else 0))
            length >>= 7
        peer.send(bytes(head) + body)
        assert peer.receive() == (BINARY, bytes.fromhex("40020007"))


@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x03\xe9going"])
def test_a_close_is_answered_and_then_the_connection_ends(server: RunningServer, payload: bytes) -> None:
    with WebSocket(server) as peer:
        peer.send(CONNECT)
        peer.receive()
        peer.send(payload, FINAL | CLOSE)
        assert peer.receive() == (CLOSE, payload)
        assert read_to_end(peer.socket) == b""


def test_the_server_s_last_packet_comes_before_its_close(server: RunningServer) -> None:
    with WebSocket(server) as peer:
        peer.send(CONNECT_V5)
        assert peer.receive()[1][3] == 0
        peer.send(CONNECT_V5)
        assert peer.receive() == (BINARY, bytes.fromhex("e00182"))
        assert peer.receive() == (CLOSE, b"\x03\xe8")
        peer.send(PING)
        peer.send(b"\x03\xe8", FINAL | CLOSE)
        assert read_to_end(peer.socket) == b""


def test_frames_behind_a_request_that_is_refused_reach_nobody(server: RunningServer) -> None:
    got = answer(server, upgrade("/other") + frame(CONNECT))
    assert got.startswith(b"HTTP/1.1 404 ")
    assert CONNACK not in got


def test_pings_of_a_client_that_does_not_read_do_not_pile_up(server: RunningServer) -> None:
    with WebSocket(server) as peer:
        peer.send(CONNECT)
        peer.receive()
        pings = frame(bytes(125), FINAL | WS_PING) * 1000
        before = resident(server)
        peer.socket.settimeout(2)
        # 50 MB, unless the server stops reading from who does not read.
        with contextlib.suppress(TimeoutError):
            for _ in range(400):
                peer.socket.sendall(pings)
        assert resident(server) - before < 16 << 20


def resident(server: RunningServer) -> int:
    """Memory of the server in bytes."""
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_closed_or_waited_for(server: RunningServer, seed: int) -> None:
    noise = random.Random(seed).randbytes(2000)
    with WebSocket(server) as peer:
        peer.socket.sendall(frame(noise) if seed % 2 else noise)
        peer.socket.shutdown(socket.SHUT_WR)
        read_to_end(peer.socket)
