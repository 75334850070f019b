"""Which broker a shadow command speaks to, and as whom.

Knows: the data folder, the forms of `--url`, TLS contexts of clients.
Does not know: MQTT, what is asked.
Spec: RFC 8446.
"""

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from broker.foreign_settings import ForeignBusSettings

from .admin.client import place_of_data, place_of_url
from .errors import ConfigurationError, EnvironmentFailureError


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A broker's address, and who we are there; `context` is None for plain TCP.

    Where no `client_id` is wanted, each connection has its own.
    """

    host: str
    port: int
    context: ssl.SSLContext | None
    client_id: str | None = None
    user_name: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Return host and port for sentences."""
        return f"{self.host}:{self.port}"


def find_place(data: Path, url: str | None) -> Place:
    """Return the way to the broker at `url`, else to the server that runs on `data`.

    Raises:
        ConfigurationError: the URL has another form.
        EnvironmentFailureError: no server runs on `data`, or a file cannot be used.
    """
    if url is not None and not url.startswith("mtls:"):
        return _foreign(url)
    mutual = place_of_data(data) if url is None else place_of_url(url)
    context = _context(mutual.authority, mutual.certificate, mutual.key)
    return Place(host=mutual.host, port=mutual.port, context=context)


def _foreign(url: str) -> Place:
    try:
        settings = ForeignBusSettings(url=url)
    except ValidationError as error:
        reason = error.errors(include_url=False, include_context=False)[0]["msg"]
        raise ConfigurationError(f"--url: {reason.removeprefix('Value error, ')}") from None
    return Place(
        host=settings.host,
        port=settings.port,
        context=_context(settings.server_ca, settings.certificate, settings.key) if settings.is_tls else None,
        client_id=settings.client_id,
        user_name=settings.user_name,
        password=None if settings.password_file is None else _password(settings.password_file),
    )


def _context(authority: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=authority)
    except OSError as error:  # ssl.SSLError is one.
        raise EnvironmentFailureError(f"{authority}: no readable PEM file of certificates: {error}") from None
    if certificate is not None and key is not None:
        try:
            context.load_cert_chain(certificate, key, password="")  # Else it would ask the terminal.
        except OSError as error:
            raise EnvironmentFailureError(
                f"{certificate}, {key}: no certificate and its unencrypted key: {error}"
            ) from None
    return context


def _password(path: Path) -> str:
    try:
        return path.read_text().removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeError) as error:
        raise EnvironmentFailureError(f"{path}: the password cannot be read: {error}") from None
