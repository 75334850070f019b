"""Listeners: from settings to bound sockets whose peers get shells.

Knows: which of the parts of this room each kind of listener needs.
Does not know: how the parts work, when to stop.
Spec: v5 §4.2, §6; v3.1.1 §4.2, §6.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from msgspec import Struct

from ..settings import LimitSettings, ListenerSettings
from .acceptor import Acceptor
from .shell import ConnectionShell, Host
from .sockets import bind_path, bind_port, close_all, path_identity, remove_path
from .tls import ListenerTLS
from .websocket import WebSocketShell

#: Connections that the kernel completes before we accept them; a fleet comes back all at once.
_BACKLOG: Final = 4096


class ListenerAddress(Struct, frozen=True):
    """Where a listener really listens; port 0 in its settings became a free one."""

    name: str
    url: str


class Listener:
    """One open listener."""

    def __init__(
        self, address: ListenerAddress, *, tls: ListenerTLS | None, close: Callable[[], None]
    ) -> None:
        self.address = address
        self._tls = tls
        self._close = close

    def close(self) -> None:
        """Accept nobody more; connections that stand are not touched. May be repeated."""
        self._close()

    def refresh_tls(self, *, is_forced: bool = False) -> None:
        """See `ListenerTLS.refresh`."""
        if self._tls is not None:
            self._tls.refresh(is_forced=is_forced)


async def listen(settings: ListenerSettings, *, name: str, limits: LimitSettings, host: Host) -> Listener:
    """Open one listener.

    Raises:
        TLSFilesError: its certificate, key or authorities cannot be used.
        OSError: the address cannot be bound.
    """
    tls = ListenerTLS(settings, name=name) if settings.is_tls else None
    make_shell: Callable[..., ConnectionShell]
    if settings.is_websocket:
        make_shell = partial(WebSocketShell, host, listener=name, tenant=settings.tenant, path=settings.path)
    else:
        make_shell = partial(ConnectionShell, host, listener=name, tenant=settings.tenant)
    if settings.scheme == "unix":
        close = await _serve_path(settings.path, make_shell)
        return Listener(ListenerAddress(name, settings.url), tls=None, close=close)
    sockets = await bind_port(settings.host, settings.port)
    address = ListenerAddress(name, settings.with_port(sockets[0].getsockname()[1]).url)
    try:
        if tls is None and not settings.proxy_protocol:
            close = await _serve_sockets(sockets, make_shell)
        else:
            for each in sockets:
                each.listen(_BACKLOG)
            acceptor = Acceptor(
                sockets,
                name=name,
                host=host,
                limits=limits,
                make_shell=lambda peer_address: make_shell(address=peer_address),
                tls=tls,
                has_proxy_header=settings.proxy_protocol,
            )
            acceptor.start()
            close = acceptor.close
    except OSError:
        close_all(sockets)
        raise
    return Listener(address, tls=tls, close=close)


async def watch_certificates(listeners: Sequence[Listener], interval_s: float) -> None:
    """Use certificate files anew when they change, for ever."""
    while True:
        await asyncio.sleep(interval_s)
        for listener in listeners:
            listener.refresh_tls()


async def _serve_sockets(
    sockets: list[socket.socket], make_shell: Callable[[], ConnectionShell]
) -> Callable[[], None]:
    """Leave accepting to the loop: nothing comes before the shell."""
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(make_shell, sock=each, backlog=_BACKLOG) for each in sockets]

    def close() -> None:
        for server in servers:
            server.close()

    return close


async def _serve_path(path: str, make_shell: Callable[[], ConnectionShell]) -> Callable[[], None]:
    bound = bind_path(path)
    identity = path_identity(path)
    server = await asyncio.get_running_loop().create_unix_server(make_shell, sock=bound, backlog=_BACKLOG)

    def close() -> None:
        remove_path(path, identity)
        server.close()

    return close
