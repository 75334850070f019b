"""Shadows in PostgreSQL for several processes that share the work.

Knows: advisory locks of things, the table of requests that are done.
Does not know: brokers, what a request is.
Spec: PostgreSQL 14 §13.3.5.

A thing is held by an advisory lock in a transaction of its own, which a session that dies gives back. The
transaction that writes takes a second lock, and looks whether the rows are those that were read: so even who
lost the first one unnoticed writes nothing that another process does not know of.
"""

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

import asyncpg

from storage import PostgresqlConnection, PostgresqlDatabase, StorageError

from .errors import ShadowConflictError, ShadowStoreError
from .postgresql_store import PostgresqlShadowStore
from .rows import key_of, name_of
from .sharing import Done, SharedChanges, SharedShadowStore

# In the order of the array, so that two processes never wait for each other.
_LOCK: Final = "SELECT pg_advisory_xact_lock(key) FROM unnest($1::bigint[]) AS key"
_VERSIONS: Final = """
    SELECT s.thing_name, s.shadow_name, s.numbering, s.version, s.changed_at
    FROM unnest($2::text[], $3::text[]) AS k (thing, name)
    JOIN shadow AS s ON s.tenant = $1 AND s.thing_name = k.thing AND s.shadow_name = k.name
"""
_DONE: Final = """
    SELECT request_id, numbering, version FROM shadow_done
    WHERE tenant = $1 AND request_id = ANY ($2)
    AND (request_id = ANY ($4) OR run <> $3 AND at > now() - interval '10 minutes')
"""
_PUT_DONE: Final = """
    INSERT INTO shadow_done (tenant, run, request_id, numbering, version)
    SELECT $1, $2, * FROM unnest($3::text[], $4::bigint[], $5::bigint[])
    ON CONFLICT (tenant, request_id) DO UPDATE
    SET run = excluded.run, numbering = excluded.numbering, version = excluded.version, at = excluded.at
"""
_FORGET_DONE: Final = "DELETE FROM shadow_done WHERE tenant = $1 AND run = $2 AND request_id = ANY ($3)"
_SWEEP_DONE: Final = """
    DELETE FROM shadow_done WHERE (tenant, request_id) IN (
        SELECT tenant, request_id FROM shadow_done WHERE at < now() - interval '1 day'
        LIMIT $1 FOR UPDATE SKIP LOCKED)
"""


class PostgresqlSharedStore(PostgresqlShadowStore, SharedShadowStore):
    """The shadows of one tenant; the database must be open with `exclusive=False` and two readers or more."""

    def __init__(self, database: PostgresqlDatabase, *, tenant: str = "default") -> None:
        super().__init__(database, tenant=tenant)
        #: Tells this run of this process from all others.
        self._run = secrets.token_hex(8)

    async def hold(self, things: Collection[str], body: Callable[[], Awaitable[None]]) -> None:
        """Run `body` while no other process holds any of these things.

        Raises:
            ShadowStoreError: they could not be had; `body` was not run.
        """
        keys, is_held = self._locks("turn", things), False

        async def holding(connection: PostgresqlConnection) -> None:
            nonlocal is_held
            await connection.execute(_LOCK, keys)
            is_held = True
            await body()

        try:
            await self._database.read(holding)
        except (StorageError, asyncpg.PostgresError) as error:
            if not is_held:
                raise ShadowStoreError(str(error)) from error
            # The lock was lost under way; what was written was checked when it was written.

    async def done(self, request_ids: Collection[str], *, again: Collection[str] = ()) -> Mapping[str, Done]:
        """Return which of these requests another run of some process did in the last minutes.

        Of those that came `again` also which any run did in the last day.

        Raises:
            ShadowStoreError: they could not be read.
        """
        found = await self._fetch(_DONE, self._tenant, list(request_ids), self._run, list(again))
        return {name: Done(numbering, version) for name, numbering, version in found}

    async def commit_shared(self, changes: SharedChanges) -> None:
        """Write all changes; it may run twice, and then writes the same.

        Raises:
            ShadowConflictError: another process has changed one of the shadows.
            ShadowStoreError: the database is closed or damaged; while its server fails this waits.
        """
        write_rows = self._writing(changes)
        keys = self._locks("commit", {key.thing_name for key in changes.rows})
        things, names = [key.thing_name for key in changes.rows], [name_of(key) for key in changes.rows]
        done = changes.done

        async def write(connection: PostgresqlConnection) -> None:
            await connection.execute(_LOCK, keys)
            _check(changes, await connection.fetch(_VERSIONS, self._tenant, things, names))
            await write_rows(connection)
            await connection.execute(
                _PUT_DONE,
                self._tenant,
                self._run,
                list(done),
                [each.numbering for each in done.values()],
                [each.version for each in done.values()],
            )
            await connection.execute(_FORGET_DONE, self._tenant, self._run, changes.acknowledged)

        await self._commit(write, changes)

    async def sweep(self, *, deleted_before: float, journal_before: float, limit: int) -> int:
        """Remove what is too old, of all tenants.

        Raises:
            ShadowStoreError: the database is closed or damaged; while its server fails this waits.
        """
        swept = await super().sweep(deleted_before=deleted_before, journal_before=journal_before, limit=limit)
        try:
            await self._database.commit(lambda connection: connection.execute(_SWEEP_DONE, limit))
        except (StorageError, asyncpg.PostgresError) as error:
            raise ShadowStoreError(str(error)) from error
        return swept

    def _locks(self, purpose: str, things: Collection[str]) -> list[int]:
        """One number for each thing, in order; two things with the same merely wait for each other."""
        names = (f"shadow {purpose} {self._tenant}/{thing}" for thing in things)
        digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
        return sorted({int.from_bytes(digest, "big", signed=True) for digest in digests})


def _check(changes: SharedChanges, found: Collection[asyncpg.Record]) -> None:
    """Whether the rows are those that were read, or those of this very commit, whose answer was lost."""
    stored = {key_of(thing, name): tuple(columns) for thing, name, *columns in found}
    for key, row in changes.rows.items():
        before, now = changes.before.get(key), stored.get(key)
        expected = None if before is None else (before.numbering, before.version)
        if (now and now[:2]) != expected and now != (row.numbering, row.version, row.changed_at):
            raise ShadowConflictError(f"{key.thing_name}: changed by another process")
