"""Listeners, TLS and the shells of connections: with `server`, the only rooms that know asyncio and ssl."""

from .listener import ListenerAddress, listen
from .shell import ConnectionShell, Host
from .tls import TLSFilesError

__all__ = ["ConnectionShell", "Host", "ListenerAddress", "TLSFilesError", "listen"]
