"""One client's socket: non-blocking, with or without TLS, on epoll, through the project's own codec.

Knows: connecting, the TLS handshake, CONNECT and CONNACK, partial writes.
Does not know: what is published or counted (clients).
Spec: v3.1.1 §3.1, §3.2, §4.2.
"""

import errno
import select
import socket
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from broker.protocol.codec import encode_packet
from broker.protocol.packets import V3_1_1, ClientId, ConnAck, Connect, ControlPacket
from broker.protocol.reason_codes import ReasonCode
from broker.protocol.stream import PacketStream

_READ_SIZE: Final = 256 * 1024
_PACKETS_PER_READ: Final = 1 << 30
_MAXIMUM_PACKET_SIZE: Final = 1 << 20
_WOULD_BLOCK: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_READ: Final = select.EPOLLIN
_READ_AND_WRITE: Final = select.EPOLLIN | select.EPOLLOUT


class TLSFiles(Struct, frozen=True, kw_only=True):
    """PEM files of a client: its certificate, its key, and the authority that it trusts."""

    certificate: Path
    key: Path
    authority: Path

    def context(self) -> ssl.SSLContext:
        """Return what makes TLS connections of it."""
        context = ssl.create_default_context(cafile=str(self.authority))
        context.load_cert_chain(self.certificate, self.key)
        return context


class PeerBrokeError(Exception):
    """The broker under test closed a connection or refused what every broker must accept."""


class Client:
    """A client that connects and then keeps still; its subclasses do more.

    `is_ready` turns true once everything that belongs to connecting is done, `ready_after_ns` later.
    """

    def __init__(
        self, poller: select.epoll, address: tuple[str, int], tls: ssl.SSLContext | None, client_id: str
    ) -> None:
        self.is_ready = False
        self.ready_after_ns = 0
        self._poller = poller
        self._address = address
        self._tls = tls
        self._client_id = client_id
        self._socket: socket.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._stream = PacketStream(maximum_packet_size=_MAXIMUM_PACKET_SIZE)
        self._unsent = b""
        self._is_open = False
        self._is_connected = False
        self._begun_ns = 0

    @property
    def is_blocked(self) -> bool:
        """Whether the socket takes no more bytes now."""
        return bool(self._unsent)

    def open(self) -> int:
        """Begin to connect; returns the file descriptor that `handle` is for."""
        self._begun_ns = time.monotonic_ns()
        sock = self._socket
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex(self._address)
        if code not in (0, errno.EINPROGRESS):
            raise PeerBrokeError(f"{self._client_id}: {errno.errorcode.get(code, code)} on connect")
        self._poller.register(sock.fileno(), _READ_AND_WRITE)
        return sock.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def handle(self, mask: int) -> None:
        """Serve what epoll reported.

        Raises:
            PeerBrokeError: the connection is gone, or the broker refused something.
        """
        try:
            if not self._is_open and not self._try_open():
                return
            if self._unsent and mask & select.EPOLLOUT:
                self._flush()
            if mask & ~select.EPOLLOUT:
                self._read()
        except OSError as error:  # ssl's errors are among them
            raise PeerBrokeError(f"{self._client_id}: {error}") from error

    def send(self, data: bytes | memoryview) -> None:
        """Write bytes, or keep what the socket does not take now."""
        if self._unsent:
            self._unsent += bytes(data)
            return
        try:
            sent = self._socket.send(data)
        except _WOULD_BLOCK:
            sent = 0
        except OSError as error:
            raise PeerBrokeError(f"{self._client_id}: {error}") from error
        if sent < len(data):
            self._unsent = bytes(data[sent:])
            self._poller.modify(self._socket.fileno(), _READ_AND_WRITE)

    # For subclasses.

    def connected(self) -> None:
        """CONNACK is here."""
        self.set_ready()

    def set_ready(self) -> None:
        """Nothing is left to do before the load may begin."""
        self.is_ready = True
        self.ready_after_ns = time.monotonic_ns() - self._begun_ns

    def acknowledge_read(self) -> None:
        """Let the kernel acknowledge at once what was read.

        A broker that leaves Nagle's algorithm on (mosquitto) otherwise waits for delayed
        acknowledgements of 40 ms whenever the load is small beside the segment size of loopback.
        """
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def received(self, packets: Sequence[ControlPacket]) -> None:
        """Packets came after CONNACK."""

    # Private.

    def _try_open(self) -> bool:
        """Go on connecting; says whether the way for MQTT is open."""
        sock = self._socket
        if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise PeerBrokeError(f"{self._client_id}: {errno.errorcode.get(code, code)} on connect")
        if self._tls is not None:
            if not isinstance(sock, ssl.SSLSocket):
                sock = self._tls.wrap_socket(sock, server_hostname="localhost", do_handshake_on_connect=False)
                self._socket = sock
            try:
                sock.do_handshake()
            except _WOULD_BLOCK as reason:
                is_write = isinstance(reason, ssl.SSLWantWriteError)
                self._poller.modify(sock.fileno(), _READ_AND_WRITE if is_write else _READ)
                return False
        self._is_open = True
        self._poller.modify(sock.fileno(), _READ)
        connect = Connect(version=V3_1_1, client_id=ClientId(self._client_id), keep_alive=300)
        self.send(encode_packet(connect, V3_1_1))
        return True

    def _flush(self) -> None:
        data, self._unsent = self._unsent, b""
        self.send(data)
        if not self._unsent:
            self._poller.modify(self._socket.fileno(), _READ)

    def _read(self) -> None:
        sock = self._socket
        while True:
            try:
                data = sock.recv(_READ_SIZE)
            except _WOULD_BLOCK:
                return
            if not data:
                raise PeerBrokeError(f"{self._client_id}: the broker closed the connection")
            self._take(data)
            # What OpenSSL holds already is not reported by epoll again.
            if not isinstance(sock, ssl.SSLSocket) or not sock.pending():
                return

    def _take(self, data: bytes) -> None:
        stream = self._stream
        stream.feed(data)
        packets = stream.read(_PACKETS_PER_READ)
        if stream.failure is not None:
            raise PeerBrokeError(f"{self._client_id}: {stream.failure}")
        if packets and not self._is_connected:
            first = packets.pop(0)
            if not isinstance(first, ConnAck) or first.reason_code is not ReasonCode.SUCCESS:
                raise PeerBrokeError(f"{self._client_id}: {first} instead of an accepting CONNACK")
            self._is_connected = True
            self.connected()
        if packets:
            self.received(packets)
