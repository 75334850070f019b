"""One connection to the foreign broker: socket, TLS, the wait for its CONNACK, silence.

Knows: asyncio transports and their flow control, TLS contexts of clients.
Does not know: messages, when to connect again.
Spec: v5 §3.1.2.10, §3.2, §4.2, §5.4; RFC 8446.
"""

import asyncio
import ssl
from pathlib import Path
from typing import Protocol, cast

from ..foreign_settings import ForeignBusSettings
from ..protocol.client_connection import ClientConnection, ClientState
from ..protocol.errors import BrokerError
from ..protocol.packets import ControlPacket
from .errors import ForeignFilesError


class Owner(Protocol):
    """Whoever uses the link."""

    def packets_received(self, packets: list[ControlPacket]) -> None:
        """Packets came, the CONNACK first of all.

        Raises:
            BrokerError: the connection must end.
        """

    def writable(self) -> None:
        """The socket takes more again."""


class Link(asyncio.Protocol):
    """Bytes of one connection in and out.

    `lost` is set at its end; `detail` says why, and `error` holds what the broker did wrong, if it did.
    """

    def __init__(self, connection: ClientConnection, owner: Owner) -> None:
        self.connection = connection
        #: CONNACK is here, or will never be.
        self.answered = asyncio.Event()
        self.lost = asyncio.Event()
        self.is_writable = True
        self.is_reading = True
        self.detail = ""
        self.error: BrokerError | None = None
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands, its TLS handshake done."""
        # Both loops hand a Transport to a Protocol; the type says less.
        self._transport = cast("asyncio.Transport", transport)
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        connection = self.connection
        connection.receive(data, now=self._loop.time())
        try:
            self._owner.packets_received(connection.events())
            if connection.failure is not None:
                raise connection.failure
        except BrokerError as error:
            self.error = error
            self.abort(str(error))
        if connection.state is not ClientState.AWAIT_CONNACK:
            self.answered.set()

    def pause_writing(self) -> None:
        """The write buffer is full."""
        self.is_writable = False

    def resume_writing(self) -> None:
        """The write buffer has room again."""
        self.is_writable = True
        self._owner.writable()

    def connection_lost(self, exc: Exception | None) -> None:
        """The broker is gone, or we closed."""
        if not self.detail:
            self.detail = "closed by the broker" if exc is None else f"{type(exc).__name__}: {exc}"
        self.connection.close()
        self._transport = None
        self.answered.set()
        self.lost.set()

    # The owner's side.

    def flush(self) -> None:
        """Write what waits."""
        if self.connection.outgoing and self._transport is not None and not self._transport.is_closing():
            self._transport.write(self.connection.data_to_send())

    def set_reading(self, *, is_reading: bool) -> None:
        """Read from the broker, or leave it to wait."""
        if is_reading is self.is_reading or self._transport is None or self._transport.is_closing():
            return
        self.is_reading = is_reading
        if is_reading:
            self.connection.last_received = self._loop.time()  # Its silence was our doing.
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    async def watch(self) -> None:
        """Ping when it is due, until the connection is lost; a broker that stays silent is given up.

        v5 §3.1.2.10: the broker ends after one and a half Keep Alive periods of our silence.
        """
        period = self.connection.keep_alive
        while not self.lost.is_set():
            try:
                async with asyncio.timeout(period / 2 if period else None):
                    await self.lost.wait()
            except TimeoutError:
                if self.is_reading and self._loop.time() - self.connection.last_received > 1.5 * period:
                    self.abort(f"silent for {1.5 * period:.0f} s")
                    return
                self.connection.ping()
                self.flush()

    def close(self) -> None:
        """Write what waits, then close."""
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self, detail: str) -> None:
        """Close at once."""
        self.detail = self.detail or detail
        self.connection.close()
        if self._transport is not None:
            self._transport.abort()


def tls_context(settings: ForeignBusSettings) -> ssl.SSLContext | None:
    """Return what makes TLS connections to the broker, None for plain TCP.

    TLS 1.2 or later; the broker's certificate must be valid for the host of the URL.

    Raises:
        ForeignFilesError: a file is missing or is not what it should be, or key and certificate do not match.
    """
    if not settings.is_tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.server_ca)
    except (OSError, ssl.SSLError) as error:
        raise ForeignFilesError(
            f"{settings.server_ca}: not a readable PEM file of certificates: {error}"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.certificate is not None:
        try:
            context.load_cert_chain(settings.certificate, settings.key, password=_refuse_password)
        except (OSError, ssl.SSLError) as error:
            raise ForeignFilesError(
                f"{settings.certificate}, {settings.key}: "
                f"not a certificate chain and its unencrypted key: {error}"
            ) from error
    return context


def read_password(path: Path | None) -> bytes | None:
    """Return the password of a file without its last line end, None for no file.

    Raises:
        ForeignFilesError: it cannot be read, is empty or too long for a CONNECT.
    """
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            password = file.read(0x1_0000).removesuffix(b"\n").removesuffix(b"\r")
    except OSError as error:
        raise ForeignFilesError(f"{path}: cannot be read: {error.strerror}") from None
    if not 0 < len(password) < 0x1_0000:
        raise ForeignFilesError(f"{path}: must hold a password of 1 to 65,535 bytes")
    return password


def _refuse_password() -> str:
    """Never prompt on a terminal: an encrypted key has nobody to ask here."""
    return ""
