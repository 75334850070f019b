"""Accepts connections that need something before their shell: a PROXY header, a TLS handshake.

Knows: how many handshakes may be in progress and begin in one turn, how long each may take.
Does not know: certificates (tls), the header's bytes (proxy_protocol), MQTT.
Spec: RFC 8446 §4; PROXY protocol §2.2.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from ..settings import LimitSettings
from .proxy_protocol import PREFIX_SIZE, ProxyHeaderError, rest_size, source_address
from .shell import ConnectionShell, Host
from .tls import ListenerTLS

_log = structlog.get_logger("broker")

#: How long to wait when file descriptors or memory have run out, in seconds.
_SCARCITY_PAUSE_S: Final = 1.0


class Acceptor:
    """Accepts on the sockets of one listener until it is closed; owns the sockets.

    With `handshakes_maximum` in progress it stops accepting, so that the operating system holds
    further clients back: to turn a returning fleet away would only make it come again.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        *,
        name: str,
        host: Host,
        limits: LimitSettings,
        make_shell: Callable[[str], ConnectionShell],
        tls: ListenerTLS | None,
        has_proxy_header: bool,
    ) -> None:
        self._sockets = sockets
        self._name = name
        self._host = host
        self._limits = limits
        self._make_shell = make_shell
        self._tls = tls
        self._has_proxy_header = has_proxy_header
        self._loop = asyncio.get_running_loop()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._is_accepting = self._is_closed = False

    def start(self) -> None:
        """Accept, now or again."""
        if not self._is_accepting and not self._is_closed:
            self._is_accepting = True
            for listening in self._sockets:
                self._loop.add_reader(listening, self._accept, listening)

    def close(self) -> None:
        """Accept nobody more, and give up on those who are not through; may be repeated."""
        if not self._is_closed:
            self._is_closed = True
            self._pause()
            for listening in self._sockets:
                listening.close()
            for task in self._handshakes:
                task.cancel()

    def _pause(self) -> None:
        if self._is_accepting:
            self._is_accepting = False
            for listening in self._sockets:
                self._loop.remove_reader(listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(self._limits.handshakes_per_turn):
            if len(self._handshakes) >= self._limits.handshakes_maximum:
                self._host.engine.stats.handshake_holds += 1
                self._pause()
                return
            try:
                peer, address = listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                _log.warning("listener.starved", listener=self._name, reason=error.strerror)
                self._pause()
                self._loop.call_later(_SCARCITY_PAUSE_S, self.start)
                return
            peer.setblocking(False)
            task = self._host.spawn(self._lead_in(peer, str(address[0])), name=f"{self._name}:handshake")
            self._handshakes.add(task)
            task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._handshakes.discard(task)
        self.start()

    async def _lead_in(self, peer: socket.socket, address: str) -> None:
        """Bring one peer to its shell, or close it; whatever it does ends here."""
        stats = self._host.engine.stats
        try:
            await self._hand_over(peer, address)
        except ProxyHeaderError as error:
            stats.proxy_headers_refused += 1
            _log.debug("listener.proxy_header_refused", listener=self._name, peer=address, reason=str(error))
        except OSError as error:  # Time-outs and TLS alerts are OSErrors too.
            stats.handshakes_failed += 1
            _log.debug("listener.handshake_failed", listener=self._name, peer=address, reason=str(error))
        except Exception:  # noqa: BLE001  (the per-connection boundary: a peer must never end the server)
            stats.handshakes_failed += 1
            _log.exception("listener.handshake_crashed", listener=self._name)

    async def _hand_over(self, peer: socket.socket, address: str) -> None:
        timeout_s = self._limits.handshake_timeout_s
        admission = self._host.admission
        shell: ConnectionShell | None = None
        try:
            if self._has_proxy_header:
                async with asyncio.timeout(timeout_s):
                    address = await _proxied_address(self._loop, peer) or address
            if not admission.enter(address, self._host.now()):
                return
            shell = made = self._make_shell(address)
            tls = self._tls
            await self._loop.connect_accepted_socket(
                lambda: made,
                peer,
                ssl=None if tls is None else tls.context,
                ssl_handshake_timeout=None if tls is None else timeout_s,
                ssl_shutdown_timeout=None if tls is None else self._limits.drain_s,
            )
        finally:
            if shell is None:
                peer.close()
            elif not shell.was_opened:
                peer.close()
                admission.leave(address)


async def _proxied_address(loop: asyncio.AbstractEventLoop, peer: socket.socket) -> str | None:
    """Read the header and not a byte more: TLS may follow."""
    prefix = await _read_exactly(loop, peer, PREFIX_SIZE)
    return source_address(prefix, await _read_exactly(loop, peer, rest_size(prefix)))


async def _read_exactly(loop: asyncio.AbstractEventLoop, peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = await loop.sock_recv(peer, size - len(data))
        if not chunk:
            raise ProxyHeaderError("the connection ended in the header")
        data += chunk
    return data
