"""Settings of the HTTP listener.

Knows: every key of the `[http]` section, the form of its URL.
Does not know: what is served.
Spec: RFC 9110 §4.2.1.
"""

from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

_EXAMPLE: Final = "http://127.0.0.1:9464"


class HTTPSettings(BaseModel):
    """The `[http]` section: metrics and health for machines that watch. Nobody has to prove who they are."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    url: str | None = None
    """Address, such as http://127.0.0.1:9464; port 0 takes a free one. Absent: no HTTP listener."""
    connections_maximum: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Connections at one time; beyond it a new one is closed at once."""
    connection_timeout_s: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)] = 10.0
    """Longest life of a connection in seconds, whatever it does: time to send requests and take answers."""
    header_bytes_maximum: Annotated[int, Field(ge=1024, le=1024 * 1024)] = 16 * 1024
    """Request line and header fields that may be incomplete, in bytes; beyond it 400 and the end."""

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        host, port = http_address(url)
        return http_url(host, port)


def http_address(url: str) -> tuple[str, int]:
    """Return host (IPv6 without brackets) and port of an `http://HOST:PORT` URL.

    Raises:
        ValueError: it has another form.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{url!r} has no usable host or port; use a URL such as {_EXAMPLE}") from None
    is_more = bool(parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None)
    if parts.scheme != "http" or not host or port is None or is_more:
        raise ValueError(f"{url!r} is not http://HOST:PORT; use a URL such as {_EXAMPLE}")
    return host, port


def http_url(host: str, port: int) -> str:
    """Return the URL of an address."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
