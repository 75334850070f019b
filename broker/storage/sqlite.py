"""The broker's state in a SQLite database.

Knows: which part of the port is a commit, which a read.
Does not know: statements (`_sqlite_*`), files, other users of the database.
Spec: v5 §4.1; v3.1.1 §4.1.
"""

import sqlite3
from asyncio import Future
from collections.abc import Sequence
from functools import partial
from typing import Final

from storage import Migrations, SqliteDatabase

from ..session.records import Changes
from . import _sqlite_reads, _sqlite_sweep, _sqlite_writes
from .ports import Page, Snapshot, SweptDelivery

#: What the database must have been opened with.
MIGRATIONS: Final = Migrations(component="broker", package="broker.storage")


class SqliteStore:
    """A SessionStore; the database stays open when it is no longer used."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self._writer = database.batch_writer(partial(_write, _sqlite_writes.MessageNumbers()))

    async def load(self) -> Snapshot:
        """Return the state as of the last commit."""
        return await self._database.read(_sqlite_reads.load)

    def commit(self, changes: Changes) -> Future[None]:
        """Make the changes durable with the database's next transaction."""
        messages = {id(delivery.message): delivery.message for delivery in changes.put.values()}
        return self._writer.commit(
            changes,
            rows=len(changes.put) + len(changes.moved) + len(changes.dropped) + len(changes.retained),
            size_bytes=sum(message.size_bytes() for message in messages.values()),
        )

    async def read_pending(self, session: int, *, after: int, messages: int, size_bytes: int) -> Page:
        """Return the next pending deliveries."""
        parameters = (session, after, messages, size_bytes)
        (row,) = await self._database.fetch(_sqlite_reads.READ_PAGE, parameters)
        return _sqlite_reads.page_from(row, session)

    async def sweep(self, now: float, *, messages: int) -> Sequence[SweptDelivery]:
        """Forget expired pending deliveries, and what nobody needs; writes nothing if there is none."""
        ((is_due,),) = await self._database.fetch(_sqlite_sweep.LOOK, (now,))
        if not is_due:
            return ()
        return await self._database.commit(
            partial(_sqlite_sweep.sweep, now=now, limit=messages), rows=messages
        )


def _write(
    numbers: _sqlite_writes.MessageNumbers, connection: sqlite3.Connection, groups: Sequence[Changes]
) -> None:
    """Write what all groups come to: a full disk gets room by what later ones drop."""
    together = groups[0]
    if len(groups) > 1:
        together = Changes()
        for changes in groups:
            together.add(changes)
    _sqlite_writes.write(connection, together, numbers)
