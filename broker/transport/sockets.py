"""Listening sockets: of a port on every address of a host, or of a path.

Knows: how addresses are bound, who may open a Unix socket, when a stale one may go.
Does not know: what is spoken on them.
Spec: tcp(7), ipv6(7), unix(7).
"""

import asyncio
import contextlib
import errno
import os
import socket
import stat
from pathlib import Path
from typing import Final

#: The owner and the group may connect.
_SOCKET_MODE: Final = 0o660


async def bind_port(host: str, port: int) -> list[socket.socket]:
    """Bind `port` on every address of `host`; port 0 takes one that is free on the first.

    Raises:
        OSError: there is no such host, or an address cannot be bound.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    bound: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            made = socket.socket(family, kind, protocol)
            bound.append(made)
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind((address[0], port, *address[2:]))
            port = made.getsockname()[1]
    except OSError:
        close_all(bound)
        raise
    return bound


def bind_path(path: str) -> socket.socket:
    """Bind a Unix socket that its owner and group may open; one that nobody listens on is replaced.

    Raises:
        OSError: something else stands at `path`, somebody listens there, or it cannot be written.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        _remove_stale(path)
        made.bind(path)
        Path(path).chmod(_SOCKET_MODE)  # Nobody can connect before somebody listens.
    except OSError as error:
        made.close()
        raise OSError(error.errno, f"{path}: {error.strerror}") from error
    return made


def remove_path(path: str, identity: tuple[int, int]) -> None:
    """Remove a Unix socket that is still the one of `path_identity`."""
    with contextlib.suppress(OSError):
        if path_identity(path) == identity:
            Path(path).unlink()


def path_identity(path: str) -> tuple[int, int]:
    """Return what tells the file at `path` from one that another server put there later."""
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def close_all(sockets: list[socket.socket]) -> None:
    """Close every socket."""
    for each in sockets:
        each.close()


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "is not a socket; remove it or name another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        if probe.connect_ex(path) != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, "somebody listens there")
    Path(path).unlink()
