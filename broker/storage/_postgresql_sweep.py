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

#: Parameter: now. Whether there is anything to sweep (NULL for no); readers may ask.
LOOK: Final = (
    "SELECT EXISTS (SELECT FROM dropped_session) OR EXISTS (SELECT FROM released_message)"
    " OR (SELECT min(expires_at) FROM delivery WHERE packet_id = 0) <= $1"
)

_EXPIRED: Final = (
    "SELECT session, number, size FROM delivery WHERE packet_id = 0 AND expires_at <= $1"
    " AND NOT EXISTS (SELECT FROM dropped_session AS dropped WHERE dropped.number = delivery.session)"
    " ORDER BY expires_at LIMIT $2"
)
_FIRST_DROPPED: Final = "SELECT number FROM dropped_session ORDER BY number LIMIT $1"
_FIRST_RELEASED: Final = "SELECT id FROM released_message ORDER BY id LIMIT $1"

# Parameters: numbers of dropped Sessions, how many rows.
_DELETE_LEFT_BEHIND: Final = (
    "DELETE FROM delivery WHERE ctid = ANY (ARRAY("
    "SELECT ctid FROM delivery WHERE packet_id = 0 AND session = ANY ($1::bigint[])"
    " UNION ALL SELECT ctid FROM delivery WHERE packet_id > 0 AND session = ANY ($1) LIMIT $2))",
    "DELETE FROM subscription WHERE ctid = ANY (ARRAY("
    "SELECT ctid FROM subscription WHERE session = ANY ($1::bigint[]) LIMIT $2))",
    "DELETE FROM inbound WHERE ctid = ANY (ARRAY("
    "SELECT ctid FROM inbound WHERE session = ANY ($1::bigint[]) LIMIT $2))",
)
_FORGET_DROPPED: Final = "DELETE FROM dropped_session WHERE number = ANY ($1::bigint[])"
# With OFFSET 0 each is looked up; without it, the planner may join with all that the table holds.
_DELETE_UNREFERENCED: Final = (
    "DELETE FROM message WHERE id = ANY ($1::bigint[])"
    " AND NOT EXISTS (SELECT FROM delivery WHERE delivery.message = message.id OFFSET 0)"
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
        # What is looked for is mostly not there, or rare; the planner hopes to find it at once in a scan.
        await connection.execute("SET LOCAL enable_seqscan = off")
        if self._expired is None:
            rows = await connection.fetch(_EXPIRED, self._now, self._limit)
            self._expired = [SweptDelivery(*row) for row in rows]
        await run(connection, DROP_DELIVERIES, ((swept.row,) for swept in self._expired))
        await self._clear_dropped(connection)
        await self._clear_released(connection)
        await connection.execute("SET LOCAL enable_seqscan TO DEFAULT")
        return self._expired

    async def _clear_dropped(self, connection: PostgresqlConnection) -> None:
        """Others follow when nothing is left of the first."""
        numbers = [number for (number,) in await connection.fetch(_FIRST_DROPPED, self._limit)]
        if numbers:
            answers = [
                await connection.execute(statement, numbers, self._limit) for statement in _DELETE_LEFT_BEHIND
            ]
            if all(int(answer.removeprefix("DELETE ")) < self._limit for answer in answers):
                await connection.execute(_FORGET_DROPPED, numbers)

    async def _clear_released(self, connection: PostgresqlConnection) -> None:
        numbers = [number for (number,) in await connection.fetch(_FIRST_RELEASED, self._limit)]
        if numbers:
            await connection.execute(_DELETE_UNREFERENCED, numbers)
            await connection.execute(_FORGET_RELEASED, numbers)
