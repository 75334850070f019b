"""Where the swarm connects, and the identities that it uses there.

Knows: the server's address, the development PKI that makes certificates for all devices.
Does not know: MQTT, who connects when.
Spec: RFC 8446.
"""

import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from msgspec import Struct

from fleet import CertificateFiles, DevelopmentPKI, PKIError

from .errors import SwarmError

#: Certificates that are made between two reports of progress.
_BATCH: Final = 250
_OPERATOR: Final = "swarm"
_REACH_TIMEOUT_S: Final = 10.0


class Target(Struct, frozen=True, kw_only=True):
    """A server: with `pki`, the folder of a development PKI, by mutual TLS; without, by plain TCP.

    `authority` is the PEM file that the server's certificate is checked with, else the PKI's own.
    """

    host: str
    port: int
    pki: Path | None = None
    authority: Path | None = None

    @property
    def url(self) -> str:
        """The address for people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tcp' if self.pki is None else 'mtls'}://{host}:{self.port}"

    def resolve(self) -> str:
        """Return an address that answers now, so that no party has to look for one.

        Raises:
            SwarmError: nobody listens there.
        """
        try:
            with socket.create_connection((self.host, self.port), _REACH_TIMEOUT_S) as connection:
                return str(connection.getpeername()[0])
        except OSError as error:
            raise SwarmError(f"{self.url}: nobody can be reached there: {error}") from None

    def identities(
        self, names: Sequence[str], progress: Callable[[int], None]
    ) -> list[CertificateFiles] | None:
        """Make the certificates that do not stand yet; `progress` is told how many of all are there.

        Raises:
            SwarmError: the PKI cannot be used.
        """
        if self.pki is None:
            return None
        authority = DevelopmentPKI(self.pki)
        made: list[CertificateFiles] = []
        try:
            for batch in _batches(names):
                made += authority.ensure_devices(batch)
                progress(len(made))
        except PKIError as error:
            raise SwarmError(str(error)) from None
        return made

    def operator(self) -> CertificateFiles | None:
        """Make the swarm's operator, if there is a PKI.

        Raises:
            SwarmError: the PKI cannot be used.
        """
        try:
            return None if self.pki is None else DevelopmentPKI(self.pki).ensure_operator(_OPERATOR)
        except PKIError as error:
            raise SwarmError(str(error)) from None


def client_context(files: CertificateFiles, authority: Path | None) -> ssl.SSLContext:
    """Return what makes TLS connections of one identity.

    The identity is in the context, so two devices cannot share one: 26 KiB and 0.7 ms each.

    Raises:
        OSError: a file cannot be used (ssl.SSLError is one).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority or files.authority)
    context.load_cert_chain(files.certificate, files.key)
    return context


def _batches(names: Sequence[str]) -> Iterator[list[str]]:
    remaining = iter(names)
    while batch := list(islice(remaining, _BATCH)):
        yield batch
