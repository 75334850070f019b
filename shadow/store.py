"""Where shadows are kept: the port, and an adapter in memory.

Knows: keys, documents and tombstones as values.
Does not know: requests, messages, when a commit is due.
Spec: AWS IoT device shadow service, the version counter of a deleted shadow.
"""

from collections.abc import Collection, Mapping
from typing import Protocol

from .document import Stored
from .errors import ShadowStoreError
from .topics import ShadowKey


class ShadowStore(Protocol):
    """Durable shadows; one caller at a time commits, and may load other keys meanwhile."""

    async def load(self, keys: Collection[ShadowKey]) -> Mapping[ShadowKey, Stored]:
        """Return what is stored under `keys`; a key without a row is left out.

        Raises:
            ShadowStoreError: the store could not be read.
        """
        ...

    async def commit(self, rows: Mapping[ShadowKey, Stored]) -> None:
        """Replace all rows or none, and return when they are durable.

        Raises:
            ShadowStoreError: nothing was written.
        """
        ...


class MemoryShadowStore:
    """Shadows that last as long as the process."""

    def __init__(self, *, rows_maximum: int = 1_000_000) -> None:
        self._rows: dict[ShadowKey, Stored] = {}
        self._rows_maximum = rows_maximum

    async def load(self, keys: Collection[ShadowKey]) -> Mapping[ShadowKey, Stored]:
        """Return what is stored under `keys`."""
        return {key: self._rows[key] for key in keys if key in self._rows}

    async def commit(self, rows: Mapping[ShadowKey, Stored]) -> None:
        """Replace all rows.

        Raises:
            ShadowStoreError: there would be more than `rows_maximum`.
        """
        if len(self._rows) + len(rows.keys() - self._rows.keys()) > self._rows_maximum:
            raise ShadowStoreError("the store in memory is full")
        self._rows.update(rows)
