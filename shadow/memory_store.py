"""Shadows that last as long as the process.

Knows: the port.
Does not know: who asks.
Spec: none.
"""

import heapq
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from itertools import islice

from .errors import ShadowStoreError
from .records import Changes, Drifting, JournalEntry, Row
from .store import ShadowStore
from .topics import ShadowKey


class MemoryShadowStore(ShadowStore):
    """The store without a disk; beyond `entries_maximum` its journal forgets the oldest entry of all."""

    def __init__(self, *, rows_maximum: int = 1_000_000, entries_maximum: int = 100_000) -> None:
        self._rows: dict[ShadowKey, Row] = {}
        self._journal: dict[ShadowKey, deque[JournalEntry]] = {}
        #: Every entry in the order of commits, and some that were forgotten since.
        self._order: deque[tuple[ShadowKey, JournalEntry]] = deque()
        self._rows_maximum = rows_maximum
        self._entries_maximum = entries_maximum

    async def load(self, keys: Collection[ShadowKey]) -> Mapping[ShadowKey, Row]:
        """Return the rows under `keys`."""
        return {key: self._rows[key] for key in keys if key in self._rows}

    async def commit(self, changes: Changes) -> None:
        """Write all changes.

        Raises:
            ShadowStoreError: there would be more than `rows_maximum`.
        """
        if len(self._rows) + len(changes.rows.keys() - self._rows.keys()) > self._rows_maximum:
            raise ShadowStoreError("the store in memory is full")
        self._rows.update(changes.rows)
        for key, version in changes.obsolete.items():
            numbering = changes.rows[key].numbering
            entries = self._journal.get(key, deque())
            while entries and entries[0].numbering == numbering and entries[0].version < version:
                entries.popleft()
        for key, entry in changes.entries:
            self._journal.setdefault(key, deque()).append(entry)
            self._order.append((key, entry))
        while len(self._order) > self._entries_maximum:
            key, entry = self._order.popleft()
            entries = self._journal.get(key, deque())
            if entries and entries[0] is entry:
                entries.popleft()
            if not entries:
                self._journal.pop(key, None)

    async def history(
        self, key: ShadowKey, *, limit: int, before_version: int | None = None
    ) -> Sequence[JournalEntry]:
        """Return the latest entries."""
        entries = self._journal.get(key, ())
        latest = entries[-1].numbering if entries else 0
        wanted = (
            entry
            for entry in reversed(entries)
            if entry.numbering == latest and (before_version is None or entry.version < before_version)
        )
        return list(islice(wanted, limit))

    async def names(self, thing_name: str, *, after: str = "", limit: int) -> Sequence[str]:
        """Return the named shadows of a thing."""
        return heapq.nsmallest(
            limit,
            (
                key.shadow_name
                for key, row in self._rows.items()
                if key.thing_name == thing_name
                and key.shadow_name is not None
                and key.shadow_name > after
                and row.document is not None
            ),
        )

    async def things(self, *, after: str = "", limit: int) -> Sequence[str]:
        """Return the things that have a shadow."""
        found = {key.thing_name for key, row in self._rows.items() if row.document is not None}
        return heapq.nsmallest(limit, (name for name in found if name > after))

    async def drifting(
        self, *, after: tuple[float, ShadowKey] | None = None, limit: int
    ) -> Sequence[tuple[ShadowKey, Drifting]]:
        """Return shadows that drift."""
        drifting = ((key, row.drift) for key, row in self._rows.items() if row.drift is not None)
        wanted = (item for item in drifting if after is None or _place(item) > _order(*after))
        return heapq.nsmallest(limit, wanted, key=_place)

    async def sweep(self, *, deleted_before: float, journal_before: float, limit: int) -> int:
        """Remove what is too old."""
        rows = self._rows.items()
        expired = (key for key, row in rows if row.document is None and row.changed_at < deleted_before)
        keys = list(islice(expired, limit))
        for key in keys:
            del self._rows[key]
        entries = 0
        for key, journal in list(self._journal.items()):
            while journal and journal[0].at < journal_before and entries < limit:
                journal.popleft()
                entries += 1
            if not journal:
                del self._journal[key]
        return max(len(keys), entries)


def _place(item: tuple[ShadowKey, Drifting]) -> tuple[float, str, str]:
    return _order(item[1].since, item[0])


def _order(since: float, key: ShadowKey) -> tuple[float, str, str]:
    return since, key.thing_name, key.shadow_name or ""
