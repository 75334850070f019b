"""The socket side of one Network Connection: bytes to the engine, frames to the transport.

Knows: asyncio transports, their flow control, where a client certificate is found.
Does not know: what the bytes mean.
Spec: v5 §4.2; v3.1.1 §4.2.
"""

import asyncio
import ssl
from collections.abc import Coroutine
from typing import Any, Protocol, cast

from ..access.ports import AccessRefusedError
from ..access.principal import ClientCertificate
from ..access.x509 import client_certificate
from ..engine import Engine, ServedConnection
from ..protocol.reason_codes import ReasonCode
from .admission import Admission


class Host(Protocol):
    """The runner of the engine that a shell belongs to."""

    @property
    def engine(self) -> Engine:
        """The engine."""

    @property
    def admission(self) -> Admission:
        """Who may connect at all."""

    def now(self) -> float:
        """Return seconds of the engine's clock."""

    def admit(self, shell: "ConnectionShell") -> bool:
        """Keep a new connection; False where the server is about to end."""

    def dismiss(self, shell: "ConnectionShell") -> None:
        """Forget a connection that is gone."""

    def spawn(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Start a task that ends with the server."""

    def linger(self, shell: "ConnectionShell") -> None:
        """Close a connection a little later, if its peer does not: it was told the last thing."""

    def settle(self) -> None:
        """Do what the engine asks for, now or at the end of the turn."""


class ConnectionShell(asyncio.Protocol):
    """Feeds one connection's bytes to the engine, and nothing else.

    With `address`, somebody has entered the peer with `Admission` already; the shell takes it out.
    """

    __slots__ = ("_address", "_connection", "_host", "_is_finished", "_listener", "_tenant", "_transport")

    def __init__(self, host: Host, *, listener: str, tenant: str, address: str | None = None) -> None:
        self._host = host
        self._address = address
        self._listener = listener
        self._tenant = tenant
        self._connection: ServedConnection | None = None
        self._transport: asyncio.Transport | None = None
        self._is_finished = False

    @property
    def was_opened(self) -> bool:
        """Whether the transport was handed over, and `connection_lost` has come or will."""
        return self._transport is not None

    @property
    def connection(self) -> ServedConnection | None:
        """The engine's side, while there is one."""
        return self._connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer connected, its TLS handshake done."""
        # Both loops hand a Transport to a Protocol; the type says less.
        self._transport = tcp = cast("asyncio.Transport", transport)
        host = self._host
        now = host.now()
        if self._address is None:
            address = _peer_address(tcp)
            if not host.admission.enter(address, now):
                tcp.abort()
                return
            self._address = address
        if not host.admit(self):
            tcp.abort()
            return
        try:
            certificate = _certificate(tcp)
        except AccessRefusedError:
            # The chain was verified, but what we would decide by cannot be read: fail closed.
            tcp.abort()
            return
        limits = host.engine.state.limits
        tcp.set_write_buffer_limits(high=limits.write_buffer_high_bytes)
        connection = host.engine.open(
            listener=self._listener,
            tenant=self._tenant,
            peer_address=self._address,
            certificate=certificate,
            now=now,
        )
        connection.shell = self
        self._connection = connection

    def data_received(self, data: bytes) -> None:
        """Bytes came; after our last frames nobody wants them."""
        connection = self._connection
        if connection is not None and not self._is_finished:
            host = self._host
            host.engine.receive(connection, data, host.now())
            host.settle()

    def pause_writing(self) -> None:
        """The write buffer is full."""
        self._set_writable(is_writable=False)

    def resume_writing(self) -> None:
        """The write buffer has room again."""
        self._set_writable(is_writable=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer is gone, or we closed."""
        host = self._host
        host.dismiss(self)
        if self._address is not None:
            host.admission.leave(self._address)
        connection = self._connection
        if connection is not None:
            self._connection = None
            detail = (
                "connection closed by the peer" if exc is None else f"connection lost: {type(exc).__name__}"
            )
            host.engine.lost(connection, detail, host.now())
            connection.shell = None
            host.settle()

    # What the runner asks for. The transport may be closing already; then there is nothing to do.

    def write(self, data: bytes) -> None:
        """Hand frames to the transport."""
        if self._transport is not None and not self._is_finished and not self._transport.is_closing():
            self._transport.write(data)

    def finish(self, data: bytes) -> None:
        """Write the last frames, then drop what still comes until the peer closes.

        To close at once would reset a connection on which the peer is sending, and a reset overtakes
        the frames that tell the peer why. `close` is for those who do not close by themselves.
        """
        self.write(data)
        self._is_finished = True
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.resume_reading()
            if transport.can_write_eof():
                self._write_eof(transport)

    @staticmethod
    def _write_eof(transport: asyncio.Transport) -> None:
        try:
            transport.write_eof()
        except OSError:  # The peer has reset the connection, and the loop does not know yet.
            transport.abort()

    def close(self) -> None:
        """Close once everything is out."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once; what was not written is lost."""
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        """Take nothing more from the peer."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read from the peer again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def shut_down(self, now: float) -> None:
        """Tell the peer that the Server ends (v5 §3.14.2.1: 0x8B), and close."""
        if self._connection is not None:
            detail = "the server shuts down"
            self._host.engine.close(self._connection, ReasonCode.SERVER_SHUTTING_DOWN, detail, now)

    def _set_writable(self, *, is_writable: bool) -> None:
        connection = self._connection
        if connection is not None:
            host = self._host
            host.engine.set_writable(connection, is_writable, host.now())
            host.settle()


def _certificate(transport: asyncio.Transport) -> ClientCertificate | None:
    """Return the verified client certificate, None without TLS.

    Raises:
        AccessRefusedError: there is one, and it cannot be read.
    """
    ssl_object = transport.get_extra_info("ssl_object")
    if not isinstance(ssl_object, ssl.SSLObject | ssl.SSLSocket):
        return None
    der = ssl_object.getpeercert(binary_form=True)
    return None if der is None else client_certificate(der)


def _peer_address(transport: asyncio.Transport) -> str:
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) and peer else ""
