"""Listeners, TLS and the shells of connections: with `server`, the only rooms that know asyncio and ssl."""

from .admission import Admission
from .listener import Listener, ListenerAddress, listen, watch_certificates
from .shell import ConnectionShell, Host
from .tls import TLSFilesError

__all__ = [
    "Admission",
    "ConnectionShell",
    "Host",
    "Listener",
    "ListenerAddress",
    "TLSFilesError",
    "listen",
    "watch_certificates",
]
