"""Sessions: listed, shown, kicked.

Knows: what each request answers, how large an answer may become.
Does not know: how requests travel.
Spec: v5 §3.14, §4.1; v3.1.1 §4.1.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import to_builtins

from broker.api import SessionInfo, Subscription

from .answers import fitting
from .requests import AdminError, KickSession, ListSessions, Requester, ShowSession


class Sessions(Protocol):
    """Where sessions are: the broker."""

    async def sessions(self, tenant: str, *, after: str = "", limit: int) -> Sequence[SessionInfo]:
        """Return the first `limit` sessions whose client ids come after `after`."""

    def session(self, tenant: str, client_id: str) -> SessionInfo | None:
        """Return one session, None where there is none."""

    def subscriptions(self, tenant: str, client_id: str) -> Sequence[Subscription]:
        """Return the subscriptions of a session."""

    def kick(self, tenant: str, client_id: str, *, end: bool = False) -> bool:
        """Close a client's connection, with `end` its session too; False where there is none."""


class SessionHandlers:
    """One method per verb of the area `session`; each stays inside the requester's tenant."""

    def __init__(self, broker: Sessions) -> None:
        self._broker = broker

    async def list(self, requester: Requester, request: ListSessions) -> dict[str, Any]:
        """Return a page of sessions, and the cursor of the next one or None."""
        found = await self._broker.sessions(requester.tenant, after=request.cursor, limit=request.limit + 1)
        page = fitting([to_builtins(info) for info in found[: request.limit]])
        has_more = len(page) < len(found)
        return {"sessions": page, "cursor": page[-1]["client_id"] if has_more else None}

    async def show(self, requester: Requester, request: ShowSession) -> dict[str, Any]:
        """Return one session, with as many of its subscriptions as an answer holds.

        Raises:
            AdminError: NotFound.
        """
        info = self._found(requester, request.client_id)
        subscriptions = self._broker.subscriptions(requester.tenant, request.client_id)
        return {
            "session": to_builtins(info),
            "subscriptions": fitting([_told(subscription) for subscription in subscriptions]),
        }

    async def kick(self, requester: Requester, request: KickSession) -> dict[str, Any]:
        """Close the client's connection; tell whether it had one, and whether its session ended.

        Raises:
            AdminError: NotFound.
        """
        info = self._found(requester, request.client_id)
        self._broker.kick(requester.tenant, request.client_id, end=request.end)
        is_ended = self._broker.session(requester.tenant, request.client_id) is None
        return {"client_id": info.client_id, "was_connected": info.is_connected, "session_ended": is_ended}

    def _found(self, requester: Requester, client_id: str) -> SessionInfo:
        info = self._broker.session(requester.tenant, client_id)
        if info is None:
            raise AdminError("NotFound", "there is no session of this client id")
        return info


def _told(subscription: Subscription) -> dict[str, Any]:
    return {
        "topic_filter": subscription.topic_filter.decode(),
        "qos": subscription.qos,
        "no_local": subscription.is_no_local,
        "retain_as_published": subscription.is_retain_as_published,
        "retain_handling": subscription.retain_handling,
        "identifier": subscription.identifier,
    }
