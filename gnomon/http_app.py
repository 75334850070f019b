"""What the HTTP listener answers: /live, /ready, /metrics.

Knows: paths and status codes.
Does not know: what metrics there are, when the server is ready, sockets.
Spec: RFC 9110.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from .figures import Figures
from .health import Health
from .metrics import prometheus_text

_log = structlog.get_logger("gnomon")

_FRESH: Final = {"cache-control": "no-store"}


def monitoring_app(health: Health, figures: Callable[[], Awaitable[Figures]]) -> Starlette:
    """Return the ASGI application."""

    async def live(_: Request) -> Response:
        # That this runs is the answer: the loop turns.
        return JSONResponse({"live": True}, headers=_FRESH)

    async def ready(_: Request) -> Response:
        reasons = health.reasons
        status = 503 if reasons else 200
        return JSONResponse({"ready": not reasons, "reasons": reasons}, status_code=status, headers=_FRESH)

    async def metrics(_: Request) -> Response:
        text = prometheus_text(await figures())
        return Response(text, headers={**_FRESH, "content-type": CONTENT_TYPE_PLAIN_0_0_4})

    return Starlette(
        routes=[Route("/live", live), Route("/ready", ready), Route("/metrics", metrics)],
        exception_handlers={Exception: _failed},
    )


async def _failed(request: Request, error: Exception) -> Response:
    _log.error("http.failed", path=request.url.path, exc_info=error)
    return PlainTextResponse("Internal Server Error", status_code=500)
