"""TLS contexts of listeners, and when a listener needs a new one.

Knows: what a listener's TLS must be: versions, client certificates, tickets, ALPN; its files.
Does not know: MQTT, who a certificate belongs to.
Spec: RFC 8446, RFC 5246, RFC 7301; v5 §4.2, §5.4.
"""

import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from ..protocol.errors import BrokerError
from ..settings import ListenerSettings

_log = structlog.get_logger("broker")

#: What device kits offer on shared ports; a client that offers neither, or nothing, is welcome too.
_ALPN_PROTOCOLS: Final = ("mqtt", "x-amzn-mqtt-ca")
_ALPN_WEBSOCKET: Final = ("http/1.1",)


class TLSFilesError(BrokerError):
    """Certificate, key or authorities of a listener cannot be used; the text names the file."""


class ListenerTLS:
    """The TLS context of one listener, made anew when its files change.

    A new context serves the handshakes that begin from then on; connections that stand are not
    touched. It has ticket keys of its own, so nobody resumes a session of the old one: what the new
    authorities do not vouch for is not let in. For the same reason there is a new context when an
    authority's time is over.

    Raises:
        TLSFilesError: a file is missing or is not what it should be, or key and certificate do not match.
    """

    def __init__(self, settings: ListenerSettings, *, name: str) -> None:
        self._settings = settings
        self._name = name
        self._expiries: Sequence[float] = ()
        self.context = self._load()
        self._used = self._seen = self._look()

    def refresh(self, *, is_forced: bool = False) -> None:
        """Use the files anew if they have changed, and are still as they were at the last look.

        Files that cannot be used leave everything as it is; the log says so once. `is_forced` does not
        wait for a second look, nor for a change.
        """
        look = self._look()
        is_settled = look == self._seen and look != self._used
        self._seen = look
        if not (is_settled or is_forced):
            return
        self._used = look
        try:
            self.context = self._load()
        except TLSFilesError as error:
            _log.error("listener.tls_kept", listener=self._name, reason=str(error))
            return
        self._used = self._seen = self._look()
        _log.info("listener.tls_renewed", listener=self._name)

    def _load(self) -> ssl.SSLContext:
        settings = self._settings
        if settings.certificate is None or settings.key is None:
            raise TLSFilesError(f"listener {self._name}: certificate and key are missing")
        if settings.client_ca is None and settings.scheme == "mtls":
            raise TLSFilesError(f"listener {self._name}: client_ca is missing")
        context = server_context(
            certificate=settings.certificate,
            key=settings.key,
            client_ca=settings.client_ca,
            is_certificate_optional=settings.scheme == "tls",
            has_tickets=settings.session_tickets,
            alpn_protocols=_ALPN_WEBSOCKET if settings.is_websocket else _ALPN_PROTOCOLS,
        )
        self._expiries = [
            ssl.cert_time_to_seconds(str(authority["notAfter"])) for authority in context.get_ca_certs()
        ]
        return context

    def _look(self) -> tuple[object, ...]:
        """Return what changes when a file changes or an authority's time is over."""
        settings = self._settings
        now = time.time()
        expired = sum(expiry < now for expiry in self._expiries)
        return expired, *map(_file_state, (settings.certificate, settings.key, settings.client_ca))


def server_context(
    *,
    certificate: Path,
    key: Path,
    client_ca: Path | None = None,
    is_certificate_optional: bool = False,
    has_tickets: bool = False,
    alpn_protocols: Sequence[str] = _ALPN_PROTOCOLS,
) -> ssl.SSLContext:
    """Return a server context for TLS 1.2 or later.

    With `client_ca` it insists on a client certificate issued under it, or, where that is optional,
    verifies one that is offered. Without tickets every handshake is a full one: a resumed client would
    be accepted after its certificate expired or its authority was dropped, because the chain is not
    verified again.

    Raises:
        TLSFilesError: a file is missing or is not what it should be, or key and certificate do not match.
    """
    context = (ssl.SSLContext if has_tickets else _FullHandshakeContext)(ssl.PROTOCOL_TLS_SERVER)
    if client_ca is None:
        verify_mode = ssl.CERT_NONE
    else:
        verify_mode = ssl.CERT_OPTIONAL if is_certificate_optional else ssl.CERT_REQUIRED
    _harden(context, verify_mode, has_tickets=has_tickets)
    context.set_alpn_protocols(alpn_protocols)
    try:
        if client_ca is not None:
            context.load_verify_locations(cafile=client_ca)
    except (OSError, ssl.SSLError) as error:
        raise TLSFilesError(f"{client_ca}: not a readable PEM file of certificates: {error}") from error
    try:
        context.load_cert_chain(certificate, key, password=_refuse_password)
    except (OSError, ssl.SSLError) as error:
        raise TLSFilesError(
            f"{certificate}, {key}: not a certificate chain and its unencrypted key: {error}"
        ) from error
    return context


class _FullHandshakeContext(ssl.SSLContext):
    """A context that never resumes a session.

    Without tickets, TLS 1.2 still resumes by session id, from a cache that Python's ssl cannot turn off.
    The cache belongs to the context that a connection begins with: so each begins with another one, that
    trusts nobody, has no key and is thrown away once its cache holds something, and then takes certificate
    and authorities from this one. Only who has begun before that may still resume, within the time of a
    handshake. TLS 1.3 puts nothing there, and a context costs 0.2 ms and 12 KiB.
    """

    _beginning: ssl.SSLContext | None = None

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Return the TLS state of a new connection; both event loops call this."""
        beginning = self._beginning
        if beginning is None or beginning.session_stats()["number"]:
            beginning = self._beginning = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            _harden(beginning, self.verify_mode, has_tickets=False)
        wrapped = beginning.wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        wrapped.context = self
        return wrapped


def _harden(context: ssl.SSLContext, verify_mode: ssl.VerifyMode, *, has_tickets: bool) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = verify_mode
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if not has_tickets:
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0


def _file_state(path: Path | None) -> tuple[int, int, int] | None:
    """Return what tells a file from what it was before, None where it cannot be read."""
    try:
        status = None if path is None else path.stat()
    except OSError:
        return None
    return None if status is None else (status.st_ino, status.st_size, status.st_mtime_ns)


def _refuse_password() -> str:
    """Never prompt on a terminal: an encrypted key has nobody to ask here."""
    return ""
