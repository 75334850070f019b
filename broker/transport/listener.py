"""Listeners: from settings to a bound socket that makes shells.

Knows: how each kind of listener URL is opened.
Does not know: the engine beyond handing it on, when to stop.
Spec: v5 §4.2; v3.1.1 §4.2.
"""

import asyncio
from functools import partial
from typing import Any, Final

from msgspec import Struct

from ..settings import LimitSettings, ListenerSettings
from .shell import ConnectionShell, Host
from .tls import TLSFilesError, mutual_tls_context

#: Connections that the kernel completes before we accept them; a fleet comes back all at once.
_BACKLOG: Final = 4096


class ListenerAddress(Struct, frozen=True):
    """Where a listener really listens; port 0 in its settings became a free one."""

    name: str
    url: str


async def listen(
    settings: ListenerSettings, *, name: str, limits: LimitSettings, host: Host
) -> tuple[asyncio.Server, ListenerAddress]:
    """Open one listener.

    Raises:
        TLSFilesError: its certificate, key or authorities cannot be used.
        OSError: the address cannot be bound.
    """
    factory = partial(ConnectionShell, host, listener=name, tenant=settings.tenant)
    options: dict[str, Any] = {"backlog": _BACKLOG}
    if settings.scheme == "mtls":
        options |= _tls_options(settings, name, limits)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(factory, settings.host, settings.port, **options)
    port, *others = dict.fromkeys(each.getsockname()[1] for each in server.sockets)
    if others:
        # The host name has several addresses, and port 0 gave each a port of its own.
        server.close()
        server = await loop.create_server(factory, settings.host, port, **options)
    shown_host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return server, ListenerAddress(name, f"{settings.scheme}://{shown_host}:{port}")


def _tls_options(settings: ListenerSettings, name: str, limits: LimitSettings) -> dict[str, Any]:
    if settings.certificate is None or settings.key is None or settings.client_ca is None:
        raise TLSFilesError(f"listener {name}: certificate, key and client_ca are missing")
    return {
        "ssl": mutual_tls_context(
            certificate=settings.certificate, key=settings.key, client_ca=settings.client_ca
        ),
        "ssl_handshake_timeout": limits.handshake_timeout_s,
        "ssl_shutdown_timeout": limits.drain_s,
    }
