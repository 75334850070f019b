"""Shadows in PostgreSQL.

Knows: the statements, one per table and commit.
Does not know: when a commit is due, what a document means.
Spec: none.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final

import asyncpg
import msgspec

from storage import PostgresqlConnection, PostgresqlDatabase, StorageError

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


def _upsert(table: str, key: str, columns: Sequence[str], types: str) -> str:
    """A statement that takes one array per column."""
    arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(types.split(), 1))
    changed = ", ".join(f"{name} = excluded.{name}" for name in columns)
    return (
        f"INSERT INTO {table} ({_KEY}, {', '.join(columns)}) SELECT * FROM unnest({arrays}) "  # noqa: S608
        f"ON CONFLICT ({key}) DO UPDATE SET {changed}"
    )


_PUT_ROWS: Final = _upsert(
    "shadow", _KEY, ROW_COLUMNS,
    "text text text bigint bigint float8 bigint float8 float8 float8 int int text",
)  # fmt: skip
_PUT_ENTRIES: Final = _upsert(
    "shadow_journal", f"{_KEY}, numbering, version", ENTRY_COLUMNS,
    "text text text bigint bigint float8 text text text",
)  # fmt: skip
_FORGET: Final = """
    DELETE FROM shadow_journal AS j
    USING unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[]) AS o (thing, name, numbering, version)
    WHERE j.tenant = $1 AND j.thing_name = o.thing AND j.shadow_name = o.name
    AND j.numbering = o.numbering AND j.version < o.version
"""
_LOAD: Final = f"""
    SELECT s.thing_name, s.shadow_name, {_ROW} FROM unnest($2::text[], $3::text[]) AS k (thing, name)
    JOIN shadow AS s ON s.tenant = $1 AND s.thing_name = k.thing AND s.shadow_name = k.name
"""  # noqa: S608 - columns of our own
_HISTORY: Final = f"""
    SELECT {_ENTRY} FROM shadow_journal
    WHERE tenant = $1 AND thing_name = $2 AND shadow_name = $3 AND version < $4 AND numbering = (
        SELECT max(numbering) FROM shadow_journal WHERE tenant = $1 AND thing_name = $2 AND shadow_name = $3)
    ORDER BY version DESC LIMIT $5
"""  # noqa: S608 - columns of our own
_NAMES: Final = """
    SELECT shadow_name FROM shadow
    WHERE tenant = $1 AND thing_name = $2 AND shadow_name > $3 AND document IS NOT NULL
    ORDER BY shadow_name LIMIT $4
"""
_THINGS: Final = """
    SELECT DISTINCT thing_name FROM shadow
    WHERE tenant = $1 AND thing_name > $2 AND document IS NOT NULL
    ORDER BY thing_name LIMIT $3
"""
_DRIFTING: Final = """
    SELECT thing_name, shadow_name, drift_since, told_at, tellings, drift_keys FROM shadow
    WHERE tenant = $1 AND drift_since IS NOT NULL AND (drift_since, thing_name, shadow_name) > ($2, $3, $4)
    ORDER BY drift_since, thing_name, shadow_name LIMIT $5
"""
_SWEEP_ROWS: Final = """
    WITH old AS (SELECT tenant, thing_name, shadow_name FROM shadow
        WHERE document IS NULL AND changed_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)
    DELETE FROM shadow AS s USING old
    WHERE (s.tenant, s.thing_name, s.shadow_name) = (old.tenant, old.thing_name, old.shadow_name)
"""
_SWEEP_JOURNAL: Final = """
    DELETE FROM shadow_journal WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM shadow_journal WHERE at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))
"""


class PostgresqlShadowStore(ShadowStore):
    """The shadows of one tenant in a database that others may share."""

    def __init__(self, database: PostgresqlDatabase, *, tenant: str = "default") -> None:
        self._database = database
        self._tenant = tenant

    async def load(self, keys: Collection[ShadowKey]) -> Mapping[ShadowKey, Row]:
        """Return the rows under `keys`.

        Raises:
            ShadowStoreError: they could not be read.
        """
        things, names = [key.thing_name for key in keys], [name_of(key) for key in keys]
        found = await self._fetch(_LOAD, self._tenant, things, names)
        return {key_of(thing, name): read_row(columns) for thing, name, *columns in found}

    async def commit(self, changes: Changes) -> None:
        """Write all changes; it may run twice, and then writes the same.

        Raises:
            ShadowStoreError: the database is closed or damaged; while its server fails this waits.
        """
        await self._commit(self._writing(changes), changes)

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
            return [read_entry(list(columns)) for columns in found]
        except msgspec.MsgspecError as error:
            raise ShadowStoreError(f"the journal is damaged: {error}") from error

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
            ShadowStoreError: the database is closed or damaged; while its server fails this waits.
        """

        async def remove(connection: PostgresqlConnection) -> int:
            rows = await connection.execute(_SWEEP_ROWS, deleted_before, limit)
            entries = await connection.execute(_SWEEP_JOURNAL, journal_before, limit)
            return max(int(status.rpartition(" ")[2]) for status in (rows, entries))

        try:
            return await self._database.commit(remove, rows=2 * limit)
        except (StorageError, asyncpg.PostgresError) as error:
            raise ShadowStoreError(str(error)) from error

    def _writing(self, changes: Changes) -> Callable[[PostgresqlConnection], Awaitable[None]]:
        """What writes these changes inside a transaction."""
        rows, entries = _columns(rows_of(self._tenant, changes)), _columns(entries_of(self._tenant, changes))
        obsolete = _columns(
            [
                (key.thing_name, name_of(key), changes.rows[key].numbering, version)
                for key, version in changes.obsolete.items()
            ]
        )

        async def write(connection: PostgresqlConnection) -> None:
            if obsolete:
                await connection.execute(_FORGET, self._tenant, *obsolete)
            if rows:
                await connection.execute(_PUT_ROWS, *rows)
            if entries:
                await connection.execute(_PUT_ENTRIES, *entries)

        return write

    async def _commit(
        self, write: Callable[[PostgresqlConnection], Awaitable[None]], changes: Changes
    ) -> None:
        count = len(changes.rows) + len(changes.entries)
        try:
            await self._database.commit(write, rows=count, size_bytes=size_of(changes))
        except (StorageError, asyncpg.PostgresError) as error:
            raise ShadowStoreError(str(error)) from error

    async def _fetch(self, sql: str, *parameters: Any) -> list[asyncpg.Record]:  # noqa: ANN401
        try:
            return await self._database.fetch(sql, parameters)
        except (StorageError, asyncpg.PostgresError) as error:
            raise ShadowStoreError(str(error)) from error


def _columns(rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """One array for each column."""
    return list(zip(*rows, strict=True))
