"""Shadows: which there are, their history, what they were, which drift.

Knows: what each request answers.
Does not know: how requests travel, journals, stores.
Spec: AWS IoT device shadow service, ListNamedShadowsForThing.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import json, to_builtins

from shadow import Document, Drift, JournalEntry, ShadowKey

from .answers import fitting
from .requests import (
    AdminError,
    ListDrift,
    ListShadows,
    ListThings,
    Requester,
    ShowHistory,
    ShowVersion,
)


class Shadows(Protocol):
    """Where the shadows of one tenant are: its shadow service."""

    async def things(self, *, after: str = "", limit: int = 25) -> list[str]:
        """Return the things that have a shadow, in order; those after a name."""

    async def names(self, thing_name: str, *, after: str = "", limit: int = 25) -> list[str]:
        """Return the named shadows of a thing, in order; those after a name."""

    async def as_of(self, key: ShadowKey, version: int) -> Document | None:
        """Return the document of a version, None where nobody knows it."""

    async def history(
        self, key: ShadowKey, *, limit: int, before_version: int | None = None
    ) -> list[JournalEntry]:
        """Return the latest changes, newest first."""

    def drift(self, *, limit: int) -> list[Drift]:
        """Return the shadows that have a delta for the longest time."""


class ShadowHandlers:
    """One method per verb of the area `shadow`, over the shadows of the requester's tenant."""

    def __init__(self, shadows: Shadows) -> None:
        self._shadows = shadows

    async def things(self, _requester: Requester, request: ListThings) -> dict[str, Any]:
        """Return a page of thing names, and the cursor of the next one or None."""
        found = await self._shadows.things(after=request.cursor, limit=request.limit + 1)
        return {"things": found[: request.limit], "cursor": _cursor(found, request.limit)}

    async def names(self, _requester: Requester, request: ListShadows) -> dict[str, Any]:
        """Return a page of shadow names, and the cursor of the next one or None."""
        found = await self._shadows.names(request.thing_name, after=request.cursor, limit=request.limit + 1)
        return {"shadows": found[: request.limit], "cursor": _cursor(found, request.limit)}

    async def show(self, _requester: Requester, request: ShowVersion) -> dict[str, Any]:
        """Return the document of a version.

        Raises:
            AdminError: NotFound.
        """
        document = await self._shadows.as_of(
            ShadowKey(request.thing_name, request.shadow_name), request.version
        )
        if document is None:
            raise AdminError(
                "NotFound", "no update made this version, or it is older than what the journal keeps"
            )
        return {"state": document.state, "metadata": document.metadata, "version": document.version}

    async def history(self, _requester: Requester, request: ShowHistory) -> dict[str, Any]:
        """Return a page of changes, newest first, and below which version the next one begins or None."""
        entries = await self._shadows.history(
            ShadowKey(request.thing_name, request.shadow_name),
            limit=request.limit + 1,
            before_version=request.before_version,
        )
        page = fitting([_told(entry) for entry in entries[: request.limit]])
        has_more = len(page) < len(entries)
        return {"entries": page, "before_version": page[-1]["version"] if has_more else None}

    async def drift(self, _requester: Requester, request: ListDrift) -> dict[str, Any]:
        """Return the shadows that drift, the longest first."""
        return {"shadows": to_builtins(self._shadows.drift(limit=request.limit))}


def _told(entry: JournalEntry) -> dict[str, Any]:
    is_delete = entry.patch is None
    return {
        "version": entry.version,
        "at": entry.at,
        "author": {
            "client_id": entry.author.client_id,
            "identity": entry.author.identity,
            "certificate": entry.author.certificate,
        },
        "topic": entry.topic,
        "client_token": entry.client_token,
        "operation": "delete" if is_delete else "update",
        "state": None if entry.patch is None else json.decode(entry.patch),
    }


def _cursor(found: Sequence[str], limit: int) -> str | None:
    return found[limit - 1] if len(found) > limit else None
