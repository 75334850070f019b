"""The form of a listener URL.

Knows: schemes, hosts, ports, paths, the keys of a query.
Does not know: what a listener does with them, which files exist.
Spec: RFC 3986 §3.
"""

import os
import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, get_args
from urllib.parse import unquote, urlsplit

Scheme = Literal["tcp", "mtls", "tls", "ws", "wss", "unix"]

TLS_SCHEMES: Final[frozenset[Scheme]] = frozenset({"mtls", "tls", "wss"})
WEBSOCKET_SCHEMES: Final[frozenset[Scheme]] = frozenset({"ws", "wss"})

_SCHEMES: Final[Mapping[str, Scheme]] = {scheme: scheme for scheme in get_args(Scheme)}
#: Key of the query -> field of the settings.
_QUERY_FIELDS: Final[Mapping[str, str]] = {
    "cert": "certificate",
    "key": "key",
    "ca": "client_ca",
    "name": "name",
    "tenant": "tenant",
    "proxy": "proxy_protocol",
}
_HOST: Final = re.compile(r"[A-Za-z0-9._:%-]+").fullmatch
_WEB_PATH: Final = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]{0,255}").fullmatch
#: Bytes that the operating system has for the path of a Unix socket, without the zero at its end.
_SOCKET_PATH_MAXIMUM: Final = 107


class Address(NamedTuple):
    """A listener URL in parts: `unix` has no host and no port, only WebSocket and `unix` may have a path."""

    scheme: Scheme
    host: str
    port: int
    path: str


def parse_query(query: str) -> dict[str, str | bool]:
    """Return field -> value of a listener URL's query (`+` stays a plus, `%2B` and the like are decoded).

    Raises:
        ValueError: one sentence with the key and what would be right.
    """
    fields: dict[str, str | bool] = {}
    for part in query.split("&") if query else ():
        key, _, text = part.partition("=")
        field = _QUERY_FIELDS.get(key)
        if field is None:
            raise ValueError(f"unknown key {key!r} in the listener URL; known are {', '.join(_QUERY_FIELDS)}")
        if not text or field in fields:
            raise ValueError(f"key {key!r} of the listener URL needs exactly one value, as in {key}=VALUE")
        if key == "proxy" and text != "v2":
            raise ValueError("only version 2 of the PROXY protocol is spoken here; say proxy=v2")
        fields[field] = unquote(text) if key != "proxy" else True
    return fields


def parse_address(url: str) -> Address:
    """Take a listener URL without a query apart.

    Raises:
        ValueError: one sentence with the URL and what would be right.
    """
    name, separator, rest = url.partition("://")
    if name not in _SCHEMES or not separator:
        raise ValueError(
            f"{url!r} is not a listener URL; use tcp://HOST:PORT, "
            "likewise tls, mtls, ws or wss, or unix:///PATH"
        )
    scheme = _SCHEMES[name]
    if scheme == "unix":
        return Address(scheme, "", 0, _check_socket_path(url, rest))
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(
            f"{url!r} has no usable host or port; use {name}://HOST:PORT, IPv6 as [::1]"
        ) from None
    if port is None:
        raise ValueError(f"{url!r} names no port; use {name}://HOST:PORT, where port 0 takes a free one")
    is_path_wrong = bool(parts.path) and not (scheme in WEBSOCKET_SCHEMES and _WEB_PATH(parts.path))
    if not host or not _HOST(host) or parts.username is not None or is_path_wrong or parts.fragment:
        raise ValueError(f"{url!r} is not a listener URL; use {name}://HOST:PORT and nothing more")
    return Address(scheme, host, port, parts.path)


def format_address(address: Address) -> str:
    """Return the URL that `parse_address` reads as `address`."""
    scheme, host, port, path = address
    if scheme == "unix":
        return f"unix://{path}"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{path}"


def _check_socket_path(url: str, path: str) -> str:
    if not path.startswith("/") or path.endswith("/") or not path.isprintable():
        raise ValueError(f"{url!r} names no socket; use unix:///PATH with a path from the root")
    if len(os.fsencode(path)) > _SOCKET_PATH_MAXIMUM:
        raise ValueError(f"{url!r} is too long; a socket's path has at most {_SOCKET_PATH_MAXIMUM} bytes")
    return path
