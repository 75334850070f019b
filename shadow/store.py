"""Where shadows are kept: the port.

Knows: rows and journal entries as values, by which order and limits they are read.
Does not know: requests, messages, when a commit is due, tables.
Spec: AWS IoT device shadow service, ListNamedShadowsForThing.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from .records import Changes, Drifting, JournalEntry, Row
from .topics import ShadowKey


class ShadowStore(Protocol):
    """The durable shadows of one tenant; one caller at a time commits, and others may read meanwhile.

    Every method but `close` raises ShadowStoreError where the store cannot do it; nothing was written then.
    """

    async def load(self, keys: Collection[ShadowKey]) -> Mapping[ShadowKey, Row]:
        """Return the rows under `keys`; a key without a row is left out."""
        ...

    async def commit(self, changes: Changes) -> None:
        """Write all changes or none, and return when they are durable."""
        ...

    async def history(
        self, key: ShadowKey, *, limit: int, before_version: int | None = None
    ) -> Sequence[JournalEntry]:
        """Return the latest entries of the latest numbering, newest first; below a version if given."""
        ...

    async def names(self, thing_name: str, *, after: str = "", limit: int) -> Sequence[str]:
        """Return the named shadows of a thing that come after a name, in order of code points."""
        ...

    async def things(self, *, after: str = "", limit: int) -> Sequence[str]:
        """Return the things that have a shadow and come after a name, in order of code points."""
        ...

    async def drifting(
        self, *, after: tuple[float, ShadowKey] | None = None, limit: int
    ) -> Sequence[tuple[ShadowKey, Drifting]]:
        """Return shadows that drift, the longest drifting first; those after (since, key) if given."""
        ...

    async def sweep(self, *, deleted_before: float, journal_before: float, limit: int) -> int:
        """Remove tombstones and journal entries older than these times, `limit` of each at most.

        Returns:
            How many were removed of the kind of which there were more.
        """
        ...
