"""One commit as statements: one for each table and kind of change, if it is not too much for one.

Knows: the tables, and the order in which the changes of a commit are made.
Does not know: transactions, who waits.
Spec: none.

What may run again after its COMMIT puts and deletes by key. Only messages for many get new numbers each time:
then the deliveries no longer refer to those of the first time, and these are cleared away like all such.
"""

from collections.abc import Collection, Mapping
from typing import Final

from storage import PostgresqlConnection

from ..session.records import Changes, DeliveryRow, SessionRow
from ._postgresql_rows import Row, parts, run, upsert
from ._values import delivery_columns, message_columns, message_rare, shared_messages, subscription_columns

_PUT_SESSIONS: Final = upsert(
    "session",
    "number",
    {"number": "bigint"},
    {
        "tenant": "bytea",
        "client_id": "bytea",
        "expiry_interval": "bigint",
        "disconnected_at": "float8",
        "identity": "bytea",
        "dropped": "bigint",
    },
)
_DROP_SESSIONS: Final = "DELETE FROM session WHERE number = ANY ($1::bigint[])"
_REMEMBER_DROPPED: Final = (
    "INSERT INTO dropped_session SELECT * FROM unnest($1::bigint[]) ON CONFLICT DO NOTHING"
)

_PUT_SUBSCRIPTIONS: Final = upsert(
    "subscription",
    "session, filter_sha256",
    {"session": "bigint", "filter": "bytea"},
    {
        "qos": "int",
        "is_no_local": "bool",
        "is_retain_as_published": "bool",
        "retain_handling": "int",
        "identifier": "int",
    },
)
_DROP_SUBSCRIPTIONS: Final = (
    "DELETE FROM subscription AS s USING unnest($1::bigint[], $2::bytea[]) AS key (session, filter)"
    " WHERE s.session = key.session AND s.filter_sha256 = sha256(key.filter)"
)

# The numbers rise in the order of the rows.
_PUT_MESSAGES: Final = (
    "INSERT INTO message (topic, payload, rare) SELECT topic, payload, rare"
    " FROM unnest($1::bytea[], $2::bytea[], $3::bytea[]) WITH ORDINALITY AS put (topic, payload, rare, place)"
    " ORDER BY place RETURNING id"
)
_PUT_DELIVERIES: Final = upsert(
    "delivery",
    "number",
    {"number": "bigint"},
    {
        "session": "bigint",
        "packet_id": "int",
        "flow": "int",
        "flags": "int",
        "size": "int",
        "expires_at": "float8",
        "rare": "bytea",
        "message": "bigint",
        "topic": "bytea",
        "payload": "bytea",
    },
)
_MOVE_DELIVERIES: Final = (
    "UPDATE delivery AS d SET packet_id = move.packet_id, flow = move.flow"
    " FROM unnest($1::bigint[], $2::int[], $3::int[]) AS move (number, packet_id, flow)"
    " WHERE d.number = move.number"
)
DROP_DELIVERIES: Final = "DELETE FROM delivery WHERE number = ANY ($1::bigint[])"

_PUT_INBOUND: Final = (
    "INSERT INTO inbound SELECT * FROM unnest($1::bigint[], $2::int[]) ON CONFLICT DO NOTHING"
)
_DROP_INBOUND: Final = (
    "DELETE FROM inbound AS i USING unnest($1::bigint[], $2::int[]) AS key (session, packet_id)"
    " WHERE i.session = key.session AND i.packet_id = key.packet_id"
)

_MESSAGE: Final = {"payload": "bytea", "flags": "int", "expires_at": "float8", "rare": "bytea"}
_PUT_WILLS: Final = upsert(
    "will",
    "tenant, client_sha256",
    {"tenant": "bytea", "client_id": "bytea"},
    {"delay_s": "bigint", "topic": "bytea", **_MESSAGE},
)
_DROP_WILLS: Final = (
    "DELETE FROM will AS w USING unnest($1::bytea[], $2::bytea[]) AS key (tenant, client_id)"
    " WHERE w.tenant = key.tenant AND w.client_sha256 = sha256(key.client_id)"
)
_PUT_RETAINED: Final = upsert(
    "retained", "tenant, topic_sha256", {"tenant": "bytea", "topic": "bytea"}, _MESSAGE
)
_DROP_RETAINED: Final = (
    "DELETE FROM retained AS r USING unnest($1::bytea[], $2::bytea[]) AS key (tenant, topic)"
    " WHERE r.tenant = key.tenant AND r.topic_sha256 = sha256(key.topic)"
)

_COUNT: Final = (
    "UPDATE session_counters SET next_row = greatest(next_row, $1),"
    " next_session = greatest(next_session, $2), at = greatest(at, $3)"
)


async def write(connection: PostgresqlConnection, changes: Changes) -> None:
    """Make the changes, inside a transaction that the caller ends; may be repeated.

    Raises:
        asyncpg.PostgresError, OSError: as the server says; the caller rolls back.
    """
    await _write_sessions(connection, changes)
    if changes.put:
        await _put_deliveries(connection, changes.put.values())
    await run(
        connection,
        _MOVE_DELIVERIES,
        ((row, packet_id, flow.value) for row, (packet_id, flow) in changes.moved.items()),
    )
    await run(connection, DROP_DELIVERIES, ((row,) for row in changes.dropped))
    await run(connection, _PUT_INBOUND, (key for key, is_held in changes.inbound.items() if is_held))
    await run(connection, _DROP_INBOUND, (key for key, is_held in changes.inbound.items() if not is_held))
    await _write_wills_and_retained(connection, changes)
    counters = (max(changes.put, default=0) + 1, max(changes.sessions, default=0) + 1, changes.at)
    await connection.execute(_COUNT, *counters)


async def _write_sessions(connection: PostgresqlConnection, changes: Changes) -> None:
    sessions, subscriptions = changes.sessions, changes.subscriptions
    await run(
        connection, _PUT_SESSIONS, (_session_columns(row) for row in sessions.values() if row is not None)
    )
    for statement in (_DROP_SESSIONS, _REMEMBER_DROPPED):
        await run(connection, statement, ((number,) for number, row in sessions.items() if row is None))
    await run(
        connection,
        _PUT_SUBSCRIPTIONS,
        (
            (session, *subscription_columns(value))
            for (session, _), value in subscriptions.items()
            if value is not None
        ),
    )
    await run(connection, _DROP_SUBSCRIPTIONS, (key for key, value in subscriptions.items() if value is None))


def _session_columns(row: SessionRow) -> Row:
    return (
        row.number,
        row.tenant.encode(),
        row.client_id.encode(),
        row.expiry_interval,
        row.disconnected_at,
        None if row.identity is None else row.identity.encode(),
        row.dropped,
    )


async def _put_deliveries(connection: PostgresqlConnection, deliveries: Collection[DeliveryRow]) -> None:
    ids = await _put_shared_messages(connection, deliveries)
    await run(
        connection,
        _PUT_DELIVERIES,
        (delivery_columns(delivery, ids.get(id(delivery.message))) for delivery in deliveries),
    )


async def _put_shared_messages(
    connection: PostgresqlConnection, deliveries: Collection[DeliveryRow]
) -> Mapping[int, int]:
    """Store the messages that several deliveries have; returns their numbers in the table by identity."""
    shared = shared_messages(deliveries)
    columns = ((message.topic, message.payload, message_rare(message)) for message in shared)
    numbers: list[int] = []
    for part in parts(columns):
        rows = await connection.fetch(_PUT_MESSAGES, *zip(*part, strict=True))
        numbers += sorted(number for (number,) in rows)
    return dict(zip(map(id, shared), numbers, strict=True))


async def _write_wills_and_retained(connection: PostgresqlConnection, changes: Changes) -> None:
    wills, retained = changes.wills, changes.retained
    await run(
        connection,
        _PUT_WILLS,
        (
            (tenant.encode(), client_id.encode(), will.delay_s, *message_columns(will.message))
            for (tenant, client_id), will in wills.items()
            if will is not None
        ),
    )
    await run(
        connection,
        _DROP_WILLS,
        (
            (tenant.encode(), client_id.encode())
            for (tenant, client_id), will in wills.items()
            if will is None
        ),
    )
    await run(
        connection,
        _PUT_RETAINED,
        (
            (tenant.encode(), *message_columns(message))
            for (tenant, _), message in retained.items()
            if message is not None
        ),
    )
    await run(
        connection,
        _DROP_RETAINED,
        ((tenant.encode(), topic) for (tenant, topic), message in retained.items() if message is None),
    )
