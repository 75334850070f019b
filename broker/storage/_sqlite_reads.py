"""What the tables hold as the values of the port.

Knows: which statements answer without a look at what they need not.
Does not know: who asks, how a connection is had.
Spec: none.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import aiosqlite
import msgspec

from storage import DatabaseDamagedError

from ..protocol.packets import ClientId, TopicFilter, TopicName
from ..protocol.subscription import Subscription
from ..session.records import SessionRow, Will
from ._values import DeliveryReader, message_from
from .ports import Page, Snapshot, StoredSession

_SESSIONS: Final = (
    "SELECT number, tenant, client_id, expiry_interval, disconnected_at, identity, dropped FROM session"
)
_SUBSCRIPTIONS: Final = (
    "SELECT session, filter, qos, is_no_local, is_retain_as_published, retain_handling, identifier"
    " FROM subscription ORDER BY id"
)
_INBOUND: Final = "SELECT session, packet_id FROM inbound"
_PENDING: Final = (
    "SELECT session, count(*), sum(size) FROM delivery INDEXED BY delivery_by_session"
    " WHERE packet_id = 0 GROUP BY session"
)
_IN_FLIGHT: Final = (
    "SELECT d.row, d.session, d.packet_id, d.flow, d.flags, d.expires_at, d.rare, d.message,"
    " ifnull(d.topic, m.topic), ifnull(d.payload, m.payload), m.rare"
    " FROM delivery AS d LEFT JOIN message AS m ON m.id = d.message"
    " WHERE d.row IN (SELECT row FROM delivery INDEXED BY delivery_by_session WHERE packet_id > 0)"
    " ORDER BY d.row"
)
_WILLS: Final = "SELECT tenant, client_id, delay_s, topic, payload, flags, expires_at, rare FROM will"
_RETAINED: Final = "SELECT tenant, topic, payload, flags, expires_at, rare FROM retained"
_COUNTERS: Final = "SELECT next_row, next_session, at FROM session_counters"

#: Parameters: session, after, messages, size_bytes.
#: A page comes as one row: numbers as JSON, all bytes joined. Rows of their own would each wait for Python's
#: lock, which takes a switch interval and more beside a busy event loop. `ahead`, read from the index alone,
#: is one row longer than the page may be. Only `quote` writes a time so that it is read as the same number.
READ_PAGE: Final = """
WITH ahead AS (
    SELECT row, sum(size) OVER places - size AS weight_before, row_number() OVER places AS place
    FROM (
        SELECT row, size FROM delivery INDEXED BY delivery_by_session
        WHERE session = ?1 AND packet_id = 0 AND row > ?2
            AND EXISTS (SELECT 1 FROM session WHERE number = ?1)
        ORDER BY row LIMIT ?3 + 1
    )
    WINDOW places AS (ORDER BY row)
)
SELECT
    (SELECT count(*) FROM ahead),
    json_group_array(json_array(
        d.row, d.flags, nullif(quote(d.expires_at), 'NULL'), d.message,
        length(ifnull(d.topic, m.topic)), length(ifnull(d.payload, m.payload)),
        ifnull(length(d.rare), 0), ifnull(length(m.rare), 0)
    )),
    CAST(group_concat(
        ifnull(d.topic, m.topic) || ifnull(d.payload, m.payload)
            || ifnull(d.rare, x'') || ifnull(m.rare, x''),
        ''
    ) AS BLOB)
FROM ahead JOIN delivery AS d ON d.row = ahead.row LEFT JOIN message AS m ON m.id = d.message
WHERE place <= ?3 AND weight_before < ?4
"""

_PageRow = tuple[int, int, str | None, int | None, int, int, int, int]
_page_decoder = msgspec.json.Decoder(list[_PageRow])

_ROWS_AT_ONCE: Final = 4096


async def load(connection: aiosqlite.Connection) -> Snapshot:
    """Return everything but the pending messages.

    Raises:
        DatabaseDamagedError: a value is not one of ours.
        sqlite3.Error: as SQLite says.
    """
    try:
        return await _load(connection)
    except (msgspec.DecodeError, TypeError, ValueError) as error:
        raise _damaged(error) from error


def page_from(row: Sequence[Any], session: int) -> Page:
    """Return the page that the row of `READ_PAGE` holds.

    Raises:
        DatabaseDamagedError: a value is not one of ours.
    """
    count, numbers, joined = row
    joined = joined or b""
    reader = DeliveryReader()
    deliveries = []
    start = 0
    try:
        for row_number, flags, expires_at, message_id, *lengths in _page_decoder.decode(numbers):
            pieces = []
            for length in lengths:
                pieces.append(joined[start : start + length])
                start += length
            topic, payload, rare, message_rare = pieces
            deliveries.append(
                reader.delivery(
                    row_number,
                    session,
                    0,
                    None,
                    flags,
                    None if expires_at is None else float(expires_at),
                    rare,
                    message_id,
                    topic,
                    payload,
                    message_rare,
                )
            )
    except (msgspec.DecodeError, ValueError) as error:
        raise _damaged(error) from error
    if start != len(joined):
        raise _damaged(f"{len(joined)} bytes where {start} were announced")
    deliveries.sort(key=lambda delivery: delivery.row)
    return Page(deliveries, len(deliveries) == count)


async def _load(connection: aiosqlite.Connection) -> Snapshot:
    snapshot = Snapshot()
    sessions = snapshot.sessions
    async for number, tenant, client_id, *values in _rows(connection, _SESSIONS):
        sessions[number] = StoredSession(SessionRow(number, tenant, ClientId(client_id), *values))
    # What dropped sessions left behind is not swept yet, perhaps.
    async for number, topic_filter, qos, is_no_local, is_retain_as_published, *rest in _rows(
        connection, _SUBSCRIPTIONS
    ):
        if (stored := sessions.get(number)) is not None:
            stored.subscriptions[TopicFilter(topic_filter)] = Subscription(
                TopicFilter(topic_filter), qos, bool(is_no_local), bool(is_retain_as_published), *rest
            )
    async for number, packet_id in _rows(connection, _INBOUND):
        if (stored := sessions.get(number)) is not None:
            stored.inbound.add(packet_id)
    async for number, count, size_bytes in _rows(connection, _PENDING):
        if (stored := sessions.get(number)) is not None:
            stored.pending_messages, stored.pending_bytes = count, size_bytes
    reader = DeliveryReader()
    async for columns in _rows(connection, _IN_FLIGHT):
        if (stored := sessions.get(columns[1])) is not None:
            stored.in_flight.append(reader.delivery(*columns))
    async for tenant, client_id, delay_s, *columns in _rows(connection, _WILLS):
        snapshot.wills[tenant, ClientId(client_id)] = Will(message_from(*columns), delay_s)
    async for tenant, *columns in _rows(connection, _RETAINED):
        message = message_from(*columns)
        snapshot.retained[tenant, TopicName(message.topic)] = message
    async for counters in _rows(connection, _COUNTERS):
        snapshot.next_row, snapshot.next_session, snapshot.at = counters
    return snapshot


async def _rows(connection: aiosqlite.Connection, statement: str) -> AsyncIterator[Sequence[Any]]:
    """Yield all rows; memory holds a few thousand at a time."""
    async with connection.execute(statement) as cursor:
        while rows := await cursor.fetchmany(_ROWS_AT_ONCE):
            for row in rows:
                yield row


def _damaged(finding: object) -> DatabaseDamagedError:
    return DatabaseDamagedError(
        f"the database holds a message or session that is none ({finding}); "
        "restore a backup with `gnomon restore FILE`"
    )
