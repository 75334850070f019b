"""Listeners: from settings to a bound socket that makes shells.

Knows: how each kind of listener URL is opened.
Does not know: the engine beyond handing it on, when to stop.
Spec: v5 §4.2; v3.1.1 §4.2.
"""

import asyncio
from functools import partial
from typing import Final

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
    loop = asyncio.get_running_loop()
    factory = partial(ConnectionShell, host, listener=name, tenant=settings.tenant)
    if settings.scheme == "mtls":
        if settings.certificate is None or settings.key is None or settings.client_ca is None:
            raise TLSFilesError(f"listener {name}: certificate, key and client_ca are missing")
        context = mutual_tls_context(
            certificate=settings.certificate, key=settings.key, client_ca=settings.client_ca
        )
        server = await loop.create_server(
            factory,
            settings.host,
            settings.port,
            ssl=context,
            ssl_handshake_timeout=limits.handshake_timeout_s,
            ssl_shutdown_timeout=limits.drain_s,
            backlog=_BACKLOG,
        )
    else:
        server = await loop.create_server(factory, settings.host, settings.port, backlog=_BACKLOG)
    port = server.sockets[0].getsockname()[1]
    shown_host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return server, ListenerAddress(name, f"{settings.scheme}://{shown_host}:{port}")
