"""The HTTP listener: one socket, one ASGI application, bounded in every direction.

Knows: uvicorn, and what it leaves unbounded.
Does not know: what the application answers.
Spec: RFC 9112.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any, Final

from starlette.types import ASGIApp
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from .errors import EnvironmentFailureError
from .http_settings import HTTPSettings, http_address, http_url

#: At the end: how long answers under way may take, in seconds.
_SHUTDOWN_S: Final = 1


class HTTPListener:
    """An open socket on which `serve` answers; made before anything else, so that its port is known.

    Raises:
        EnvironmentFailureError: the address cannot be bound.
    """

    def __init__(self, settings: HTTPSettings, url: str, app: ASGIApp) -> None:
        host, port = http_address(url)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family)
        except OSError as error:
            raise EnvironmentFailureError(
                f"cannot listen on {url}: {error}; free the port or choose another"
            ) from error
        self.url: Final = http_url(host, self._socket.getsockname()[1])
        self._server = _Server(
            Config(
                app,
                http=_protocol(settings),
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level="critical",  # Errors of the application are logged where they happen.
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=_SHUTDOWN_S,
                h11_max_incomplete_event_size=settings.header_bytes_maximum,
            )
        )

    async def serve(self) -> None:
        """Answer until `stop`."""
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            self.close()

    def stop(self) -> None:
        """Let `serve` come to its end."""
        self._server.should_exit = True

    def close(self) -> None:
        """Give the address back; `serve` does it at its end."""
        self._socket.close()


class _Server(Server):
    """Leaves signals to the program."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _protocol(settings: HTTPSettings) -> type[H11Protocol]:
    """Return uvicorn's protocol with the two limits that it lacks: connections, and their time.

    Its own time-out runs between requests only, so that half a request could stay for ever.
    """

    class BoundedProtocol(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:  # noqa: ANN401  (as uvicorn has it)
            super().connection_made(transport)
            if len(self.connections) > settings.connections_maximum:
                transport.abort()
                return
            self._deadline = self.loop.call_later(settings.connection_timeout_s, transport.abort)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
            super().connection_lost(exc)

    return BoundedProtocol
