"""TLS contexts of listeners.

Knows: what a listener's TLS must be: versions, client certificates, tickets, ALPN.
Does not know: MQTT, who a certificate belongs to.
Spec: RFC 8446, RFC 5246, RFC 7301; v5 §4.2, §5.4.
"""

import ssl
from pathlib import Path
from typing import Final

from ..protocol.errors import BrokerError

#: What device kits offer on shared ports; a client that offers neither, or nothing, is welcome too.
_ALPN_PROTOCOLS: Final = ("mqtt", "x-amzn-mqtt-ca")


class TLSFilesError(BrokerError):
    """Certificate, key or authorities of a listener cannot be used; the text names the file."""


def mutual_tls_context(*, certificate: Path, key: Path, client_ca: Path) -> ssl.SSLContext:
    """Return a server context that insists on a client certificate issued under `client_ca`.

    TLS 1.2 or later. No session tickets: a resumed client would be accepted after its certificate
    expired or its authority was dropped, because the chain is not verified again.

    Raises:
        TLSFilesError: a file is missing or is not what it should be, or key and certificate do not match.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.num_tickets = 0
    context.set_alpn_protocols(_ALPN_PROTOCOLS)
    try:
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


def _refuse_password() -> str:
    """Never prompt on a terminal: an encrypted key has nobody to ask here."""
    return ""
