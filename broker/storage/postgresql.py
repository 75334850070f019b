"""The broker's state in a PostgreSQL database.

Knows: which part of the port is a commit, which a read.
Does not know: statements (`_postgresql_*`), connections, other users of the database.
Spec: v5 §4.1; v3.1.1 §4.1.
"""

from asyncio import Future
from collections.abc import Sequence
from functools import partial
from typing import Final

from storage import Migrations, PostgresqlDatabase

from ..session.records import Changes
from . import _postgresql_reads, _postgresql_sweep, _postgresql_writes
from .ports import Page, Snapshot, SweptDelivery

#: What the database must have been opened with.
MIGRATIONS: Final = Migrations(component="broker", package="broker.storage")


class PostgresqlStore:
    """A SessionStore; the database must be opened as exclusive, and stays open when it is no longer used."""

    def __init__(self, database: PostgresqlDatabase) -> None:
        self._database = database

    async def load(self) -> Snapshot:
        """Return the state as of the last commit."""
        return await self._database.read(_postgresql_reads.load)

    def commit(self, changes: Changes) -> Future[None]:
        """Make the changes durable with the database's next transaction."""
        messages = {id(delivery.message): delivery.message for delivery in changes.put.values()}
        return self._database.commit(
            partial(_postgresql_writes.write, changes=changes),
            rows=len(changes.put) + len(changes.moved) + len(changes.dropped) + len(changes.retained),
            size_bytes=sum(message.size_bytes() for message in messages.values()),
        )

    async def read_pending(self, session: int, *, after: int, messages: int, size_bytes: int) -> Page:
        """Return the next pending deliveries."""
        parameters = (session, after, messages, size_bytes)
        return _postgresql_reads.page_from(
            await self._database.fetch(_postgresql_reads.READ_PAGE, parameters)
        )

    async def sweep(self, now: float, *, messages: int) -> Sequence[SweptDelivery]:
        """Forget expired pending deliveries, and what nobody needs; writes nothing if there is none."""
        ((is_due,),) = await self._database.fetch(_postgresql_sweep.LOOK, (now,))
        if not is_due:
            return ()
        return await self._database.commit(_postgresql_sweep.Sweep(now, messages), rows=messages)
