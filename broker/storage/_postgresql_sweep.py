"""Clearing away, a bounded piece at a time: what expired, what dropped Sessions left, what nobody refers to.

Knows: how to find such rows by an index.
Does not know: transactions, when it is time to sweep.
Spec: v5 §4.1, [MQTT-3.3.2-5].
"""

from typing import Final

from storage import PostgresqlConnection

from ._postgresql_rows import run
from ._postgresql_writes import DROP_DELIVERIES
from .ports import SweptDelivery

#: Parameter: now. Whether there is anything to sweep; readers may ask.
LOOK: Final = (
    "SELECT EXISTS (SELECT FROM dropped_session) OR EXISTS (SELECT FROM released_message)"
    " OR EXISTS (SELECT FROM delivery WHERE packet_id = 0 AND expires_at <= $1)"
)

_EXPIRED: Final = (
    "SELECT session, number, size FROM delivery WHERE packet_id = 0 AND expires_at <= $1"
    " AND NOT EXISTS (SELECT FROM dropped_session AS dropped WHERE dropped.number = delivery.session)"
    " ORDER BY expires_at LIMIT $2"
)
_FIRST_DROPPED: Final = "SELECT number FROM dropped_session ORDER BY number LIMIT $1"
_FIRST_RELEASED: Final = "SELECT id FROM released_message ORDER BY id LIMIT $1"

# Parameters: numbers of dropped Sessions, how many rows. Others follow when nothing is left of these.
_DELETE_LEFT_BEHIND: Final = (
    "DELETE FROM delivery WHERE ctid = ANY (ARRAY("
    "SELECT ctid FROM delivery WHERE packet_id = 0 AND session = ANY ($1::bigint[])"
    " UNION ALL SELECT ctid FROM delivery WHERE packet_id > 0 AND session = ANY ($1) LIMIT $2))",
    "DELETE FROM subscription WHERE ctid = ANY (ARRAY("
    "SELECT ctid FROM subscription WHERE session = ANY ($1::bigint[]) LIMIT $2))",
    "DELETE FROM inbound WHERE ctid = ANY (ARRAY("
    "SELECT ctid FROM inbound WHERE session = ANY ($1::bigint[]) LIMIT $2))",
)
_FORGET_DROPPED: Final = (
    "DELETE FROM dropped_session AS dropped WHERE number = ANY ($1::bigint[])"
    " AND NOT EXISTS (SELECT FROM delivery WHERE packet_id = 0 AND session = dropped.number)"
    " AND NOT EXISTS (SELECT FROM delivery WHERE packet_id > 0 AND session = dropped.number)"
    " AND NOT EXISTS (SELECT FROM subscription WHERE session = dropped.number)"
    " AND NOT EXISTS (SELECT FROM inbound WHERE session = dropped.number)"
)
_DELETE_UNREFERENCED: Final = (
    "DELETE FROM message WHERE id = ANY ($1::bigint[])"
    " AND NOT EXISTS (SELECT FROM delivery WHERE delivery.message = message.id)"
)
_FORGET_RELEASED: Final = "DELETE FROM released_message WHERE id = ANY ($1::bigint[])"


class Sweep:
    """One sweep: deletes up to `limit` rows of each table, inside a transaction that the caller ends.

    It may be repeated. What it found the first time it deletes, and tells, again: were that committed without
    an answer, a second look would find others, and nobody would ever hear of the first.
    """

    def __init__(self, now: float, limit: int) -> None:
        self._now = now
        self._limit = limit
        self._expired: list[SweptDelivery] | None = None

    async def __call__(self, connection: PostgresqlConnection) -> list[SweptDelivery]:
        """Return the pending deliveries that had expired by `now`.

        Raises:
            asyncpg.PostgresError, OSError: as the server says; the caller rolls back.
        """
        limit = self._limit
        if self._expired is None:
            rows = await connection.fetch(_EXPIRED, self._now, limit)
            self._expired = [SweptDelivery(*row) for row in rows]
        await run(connection, DROP_DELIVERIES, ((swept.row,) for swept in self._expired))
        dropped = [number for (number,) in await connection.fetch(_FIRST_DROPPED, limit)]
        if dropped:
            for statement in _DELETE_LEFT_BEHIND:
                await connection.execute(statement, dropped, limit)
            await connection.execute(_FORGET_DROPPED, dropped)
        released = [number for (number,) in await connection.fetch(_FIRST_RELEASED, limit)]
        if released:
            await connection.execute(_DELETE_UNREFERENCED, released)
            await connection.execute(_FORGET_RELEASED, released)
        return self._expired
