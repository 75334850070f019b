"""What the tables hold as the values of the port.

Knows: which statements answer without a look at what they need not.
Does not know: who asks, how a connection is had.
Spec: none.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Final

import asyncpg
import msgspec

from storage import DatabaseDamagedError, PostgresqlConnection

from ..protocol.packets import ClientId
from ..protocol.subscription import Subscription
from ..session.records import SessionRow, Will
from ._values import DeliveryReader, message_from
from .ports import Page, Snapshot, StoredSession

_SESSIONS: Final = (
    "SELECT number, tenant, client_id, expiry_interval, disconnected_at, identity, dropped FROM session"
    " ORDER BY number"
)
_SUBSCRIPTIONS: Final = (
    "SELECT session, filter, qos, is_no_local, is_retain_as_published, retain_handling, identifier"
    " FROM subscription"
)
_INBOUND: Final = "SELECT session, packet_id FROM inbound"
_PENDING: Final = "SELECT session, count(*), sum(size) FROM delivery WHERE packet_id = 0 GROUP BY session"
_DELIVERY: Final = (
    "d.number, d.session, d.packet_id, d.flow, d.flags, d.expires_at, d.rare, d.message,"
    " coalesce(d.topic, m.topic), coalesce(d.payload, m.payload), m.rare"
)
_IN_FLIGHT: Final = (
    f"SELECT {_DELIVERY} FROM delivery AS d LEFT JOIN message AS m ON m.id = d.message"  # noqa: S608
    " WHERE d.packet_id > 0 ORDER BY d.number"
)
_WILLS: Final = "SELECT tenant, client_id, delay_s, topic, payload, flags, expires_at, rare FROM will"
_RETAINED: Final = "SELECT tenant, topic, payload, flags, expires_at, rare FROM retained"
_COUNTERS: Final = "SELECT next_row, next_session, at FROM session_counters"

#: Parameters: session, after, messages, size_bytes. `total` is how many rows there are for the page, or one
#: more than it may have.
READ_PAGE: Final = f"""
SELECT d.total, {_DELIVERY}
FROM (
    SELECT *, count(*) OVER () AS total, row_number() OVER places AS place,
        sum(size) OVER places - size AS weight_before
    FROM (
        SELECT * FROM delivery
        WHERE session = $1 AND packet_id = 0 AND number > $2
            AND EXISTS (SELECT FROM session WHERE number = $1)
        ORDER BY number LIMIT $3::bigint + 1
    ) AS ahead
    WINDOW places AS (ORDER BY number)
) AS d LEFT JOIN message AS m ON m.id = d.message
WHERE d.place <= $3 AND (d.place = 1 OR d.weight_before < $4::bigint)
ORDER BY d.number
"""  # noqa: S608  (no value in it)

_ROWS_AT_ONCE: Final = 4096
#: Even with all in a cold cache; the server's usual limit is for reads that come often.
_LOAD_TIMEOUT_S: Final = 3600.0


async def load(connection: PostgresqlConnection) -> Snapshot:
    """Return everything but the pending messages; inside a transaction, of whose state it is.

    Raises:
        DatabaseDamagedError: a value is not one of ours.
        asyncpg.PostgresError, OSError: as the server says.
    """
    await connection.execute("SET LOCAL statement_timeout = 0")
    try:
        return await _load(connection)
    except (msgspec.DecodeError, TypeError, ValueError) as error:
        raise _damaged(error) from error


def page_from(rows: Sequence[asyncpg.Record]) -> Page:
    """Return the page that the rows of `READ_PAGE` hold.

    Raises:
        DatabaseDamagedError: a value is not one of ours.
    """
    reader = DeliveryReader()
    try:
        deliveries = [reader.delivery(*columns) for _, *columns in rows]
    except (msgspec.DecodeError, TypeError, ValueError) as error:
        raise _damaged(error) from error
    return Page(deliveries, not rows or rows[0][0] == len(rows))


async def _load(connection: PostgresqlConnection) -> Snapshot:
    snapshot = Snapshot()
    sessions = snapshot.sessions
    async for number, tenant, client_id, expiry_interval, disconnected_at, identity, dropped in _rows(
        connection, _SESSIONS
    ):
        sessions[number] = StoredSession(
            SessionRow(
                number,
                tenant.decode(),
                ClientId(client_id.decode()),
                expiry_interval,
                disconnected_at,
                None if identity is None else identity.decode(),
                dropped,
            )
        )
    # What dropped sessions left behind is not swept yet, perhaps.
    async for number, *values in _rows(connection, _SUBSCRIPTIONS):
        if (stored := sessions.get(number)) is not None:
            subscription = Subscription(*values)
            stored.subscriptions[subscription.topic_filter] = subscription
    async for number, packet_id in _rows(connection, _INBOUND):
        if (stored := sessions.get(number)) is not None:
            stored.inbound.add(packet_id)
    async for number, count, size_bytes in _rows(connection, _PENDING):
        if (stored := sessions.get(number)) is not None:
            stored.pending_messages, stored.pending_bytes = count, size_bytes
    reader = DeliveryReader()
    async for row in _rows(connection, _IN_FLIGHT):
        delivery = reader.delivery(*row)
        if (stored := sessions.get(delivery.session)) is not None:
            stored.in_flight.append(delivery)
    async for tenant, client_id, delay_s, *columns in _rows(connection, _WILLS):
        key = (tenant.decode(), ClientId(client_id.decode()))
        snapshot.wills[key] = Will(message_from(*columns), delay_s)
    async for tenant, *columns in _rows(connection, _RETAINED):
        message = message_from(*columns)
        snapshot.retained[tenant.decode(), message.topic] = message
    async for counters in _rows(connection, _COUNTERS):
        snapshot.next_row, snapshot.next_session, snapshot.at = counters
    return snapshot


async def _rows(connection: PostgresqlConnection, statement: str) -> AsyncIterator[asyncpg.Record]:
    """Yield all rows; memory holds a few thousand at a time."""
    async for row in connection.cursor(statement, prefetch=_ROWS_AT_ONCE, timeout=_LOAD_TIMEOUT_S):
        yield row


def _damaged(finding: object) -> DatabaseDamagedError:
    return DatabaseDamagedError(
        f"the database holds a message or session that is none ({finding}); restore a backup of it"
    )
