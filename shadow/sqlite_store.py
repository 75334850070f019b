"""Shadows in SQLite.

Knows: the statements, one per table and commit.
Does not know: when a commit is due, what a document means.
Spec: none.
"""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import msgspec

from storage import MultiRowInsert, SqliteDatabase, StorageError, json_array

from .errors import ShadowStoreError
from .records import Changes, Drifting, JournalEntry, Row
from .rows import (
    ENTRY_COLUMNS,
    ROW_COLUMNS,
    VERSION_MAXIMUM,
    entries_of,
    key_of,
    name_of,
    read_drift,
    read_entry,
    read_row,
    rows_of,
    size_of,
)
from .store import ShadowStore
from .topics import ShadowKey

_ROW: Final = ", ".join(ROW_COLUMNS)
_ENTRY: Final = ", ".join(ENTRY_COLUMNS)
_KEY: Final = "tenant, thing_name, shadow_name"

_put_rows: Final = MultiRowInsert(
    f"INSERT INTO shadow ({_KEY}, {_ROW})",
    3 + len(ROW_COLUMNS),
    f"ON CONFLICT ({_KEY}) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in ROW_COLUMNS)}",
)
_put_entries: Final = MultiRowInsert(
    f"INSERT OR REPLACE INTO shadow_journal ({_KEY}, {_ENTRY})", 3 + len(ENTRY_COLUMNS)
)
#: Of (tenant, JSON array of [thing_name, shadow_name, numbering, version]).
_FORGET: Final = """
    DELETE FROM shadow_journal WHERE id IN (
        SELECT j.id FROM json_each(?2) AS o CROSS JOIN shadow_journal AS j
        ON j.tenant = ?1 AND j.thing_name = json_extract(o.value, '$[0]')
        AND j.shadow_name = json_extract(o.value, '$[1]')
        AND j.numbering = json_extract(o.value, '$[2]') AND j.version < json_extract(o.value, '$[3]'))
"""
_LOAD: Final = f"""
    SELECT s.thing_name, s.shadow_name, {_ROW} FROM json_each(?2) AS k CROSS JOIN shadow AS s
    ON s.tenant = ?1 AND s.thing_name = json_extract(k.value, '$[0]')
    AND s.shadow_name = json_extract(k.value, '$[1]')
"""  # noqa: S608 - columns of our own
_HISTORY: Final = f"""
    SELECT {_ENTRY} FROM shadow_journal
    WHERE tenant = ?1 AND thing_name = ?2 AND shadow_name = ?3 AND version < ?4 AND numbering = (
        SELECT max(numbering) FROM shadow_journal WHERE tenant = ?1 AND thing_name = ?2 AND shadow_name = ?3)
    ORDER BY version DESC LIMIT ?5
"""  # noqa: S608 - columns of our own
_NAMES: Final = """
    SELECT shadow_name FROM shadow
    WHERE tenant = ?1 AND thing_name = ?2 AND shadow_name > ?3 AND document IS NOT NULL
    ORDER BY shadow_name LIMIT ?4
"""
_THINGS: Final = """
    SELECT DISTINCT thing_name FROM shadow
    WHERE tenant = ?1 AND thing_name > ?2 AND document IS NOT NULL
    ORDER BY thing_name LIMIT ?3
"""
_DRIFTING: Final = """
    SELECT thing_name, shadow_name, drift_since, told_at, tellings, drift_keys FROM shadow
    WHERE tenant = ?1 AND drift_since IS NOT NULL AND (drift_since, thing_name, shadow_name) > (?2, ?3, ?4)
    ORDER BY drift_since, thing_name, shadow_name LIMIT ?5
"""
_SWEEP_ROWS: Final = """
    DELETE FROM shadow WHERE rowid IN (
        SELECT rowid FROM shadow WHERE document IS NULL AND changed_at < ?1 LIMIT ?2)
"""
_SWEEP_JOURNAL: Final = """
    DELETE FROM shadow_journal WHERE at < ?1 AND id IN (SELECT id FROM shadow_journal ORDER BY id LIMIT ?2)
"""


class SqliteShadowStore(ShadowStore):
    """The shadows of one tenant in a database that others may share."""

    def __init__(self, database: SqliteDatabase, *, tenant: str = "default") -> None:
        self._database = database
        self._tenant = tenant

    async def load(self, keys: Collection[ShadowKey]) -> Mapping[ShadowKey, Row]:
        """Return the rows under `keys`.

        Raises:
            ShadowStoreError: they could not be read.
        """
        wanted = json_array([[key.thing_name, name_of(key)] for key in keys])
        found = await self._fetch(_LOAD, self._tenant, wanted)
        return {key_of(thing, name): read_row(columns) for thing, name, *columns in found}

    async def commit(self, changes: Changes) -> None:
        """Write all changes.

        Raises:
            ShadowStoreError: the database is closed or damaged; while its disk fails this waits.
        """
        rows, entries = rows_of(self._tenant, changes), entries_of(self._tenant, changes)
        numberings = {key: changes.rows[key].numbering for key in changes.obsolete}
        obsolete = json_array(
            [
                [key.thing_name, name_of(key), numberings[key], version]
                for key, version in changes.obsolete.items()
            ]
        )

        def write(connection: sqlite3.Connection) -> None:
            if numberings:
                connection.execute(_FORGET, (self._tenant, obsolete))
            _put_rows(connection, rows)
            _put_entries(connection, entries)

        try:
            await self._database.commit(write, rows=len(rows) + len(entries), size_bytes=size_of(changes))
        except (StorageError, sqlite3.Error) as error:
            raise ShadowStoreError(str(error)) from error

    async def history(
        self, key: ShadowKey, *, limit: int, before_version: int | None = None
    ) -> Sequence[JournalEntry]:
        """Return the latest entries.

        Raises:
            ShadowStoreError: they could not be read, or are damaged.
        """
        before = VERSION_MAXIMUM if before_version is None else min(before_version, VERSION_MAXIMUM)
        found = await self._fetch(_HISTORY, self._tenant, key.thing_name, name_of(key), before, limit)
        try:
            return [read_entry(columns) for columns in found]
        except msgspec.MsgspecError as error:
            raise ShadowStoreError(f"{self._database.path}: the journal is damaged: {error}") from error

    async def names(self, thing_name: str, *, after: str = "", limit: int) -> Sequence[str]:
        """Return the named shadows of a thing.

        Raises:
            ShadowStoreError: they could not be read.
        """
        return [name for (name,) in await self._fetch(_NAMES, self._tenant, thing_name, after, limit)]

    async def things(self, *, after: str = "", limit: int) -> Sequence[str]:
        """Return the things that have a shadow.

        Raises:
            ShadowStoreError: they could not be read.
        """
        return [name for (name,) in await self._fetch(_THINGS, self._tenant, after, limit)]

    async def drifting(
        self, *, after: tuple[float, ShadowKey] | None = None, limit: int
    ) -> Sequence[tuple[ShadowKey, Drifting]]:
        """Return shadows that drift.

        Raises:
            ShadowStoreError: they could not be read.
        """
        since, key = (-1.0, ShadowKey("")) if after is None else after
        found = await self._fetch(_DRIFTING, self._tenant, since, key.thing_name, name_of(key), limit)
        return [(key_of(thing, name), read_drift(drift)) for thing, name, *drift in found]

    async def sweep(self, *, deleted_before: float, journal_before: float, limit: int) -> int:
        """Remove what is too old, of all tenants.

        Raises:
            ShadowStoreError: the database is closed or damaged; while its disk fails this waits.
        """

        def remove(connection: sqlite3.Connection) -> int:
            rows = connection.execute(_SWEEP_ROWS, (deleted_before, limit)).rowcount
            return max(rows, connection.execute(_SWEEP_JOURNAL, (journal_before, limit)).rowcount)

        try:
            return await self._database.commit(remove, rows=2 * limit)
        except (StorageError, sqlite3.Error) as error:
            raise ShadowStoreError(str(error)) from error

    async def _fetch(self, sql: str, *parameters: Any) -> list[Any]:  # noqa: ANN401 - whatever SQLite binds
        try:
            return await self._database.fetch(sql, parameters)
        except StorageError as error:
            raise ShadowStoreError(str(error)) from error
