"""A peer of any listener that sends the bytes that a test gives it, well-formed or not.

Knows: the ways to a listener (TCP, Unix socket, TLS, WebSocket), frames of WebSocket.
Does not know: MQTT.
"""

import contextlib
import socket
import ssl
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from fleet import DevelopmentPKI
from paho_peer import client_context
from running_server import RunningServer

TIMEOUT_S = 10.0
KINDS = ("tcp", "tls", "mtls", "ws", "wss", "unix")
_UPGRADE = (
    b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
)
#: A message of bytes, masked with four zeros (RFC 6455 §5.2).
_BINARY, _MASKED, _MASK = 0x82, 0x80, bytes(4)


def plain_socket(server: RunningServer, kind: str, *, receive_buffer: int = 0) -> socket.socket:
    """Connect to the listener of this name, and say nothing."""
    url = urlsplit(next(str(item["url"]) for item in server.ready["listeners"] if item["name"] == kind))
    peer = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
    peer.settimeout(TIMEOUT_S)
    if receive_buffer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    peer.connect(url.path if kind == "unix" else ("127.0.0.1", url.port))
    if kind != "unix":
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peer


class RawPeer:
    """One connection on which MQTT may begin: TLS and WebSocket have been agreed on."""

    def __init__(
        self, server: RunningServer, kind: str, *, device: str = "raw", receive_buffer: int = 0
    ) -> None:
        self._is_websocket = kind in ("ws", "wss")
        self._socket = plain_socket(server, kind, receive_buffer=receive_buffer)
        self._received = b""
        if kind in ("tls", "mtls", "wss"):
            pki = DevelopmentPKI(server.data / "pki")
            if kind == "mtls":
                context = client_context(pki.ensure_device(device))
            else:
                context = ssl.create_default_context(cafile=pki.authority)
            self._socket = context.wrap_socket(self._socket, server_hostname="localhost")
        if self._is_websocket:
            self._socket.sendall(_UPGRADE)
            assert b" 101 " in self.expect(b"\r\n\r\n")

    def send(self, data: bytes) -> None:
        """Send the bytes, as one message over WebSocket."""
        if self._is_websocket:
            length = len(data)
            if length < 126:
                header = bytes((_BINARY, _MASKED | length))
            elif length < 65_536:
                header = bytes((_BINARY, _MASKED | 126)) + length.to_bytes(2, "big")
            else:
                header = bytes((_BINARY, _MASKED | 127)) + length.to_bytes(8, "big")
            data = header + _MASK + data
        self._socket.sendall(data)

    def offer(self, data: bytes) -> None:
        """Send the bytes as far as the server takes them; it may close meanwhile."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            self.send(data)

    def expect(self, data: bytes) -> bytes:
        """Read until these bytes have come; everything up to their end."""
        while data not in self._received:
            read = self._socket.recv(65_536)
            assert read, f"closed after {self._received!r}"
            self._received += read
        before, _, self._received = self._received.partition(data)
        return before + data

    def wait_closed(self) -> None:
        """Read until the server has closed."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while self._socket.recv(65_536):
                pass

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
