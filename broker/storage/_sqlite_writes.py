"""One commit as statements: one for each table and kind of change.

Knows: the tables, and the order in which the changes of a commit are made.
Does not know: transactions, who waits.
Spec: none; design: rows go in and out in few statements, since each must wait for Python's lock.
"""

import sqlite3
from collections.abc import Collection, Mapping
from typing import Final

from storage import MultiRowInsert, json_array

from ..session.records import Changes, DeliveryRow, SessionRow
from ._values import (
    delivery_columns,
    message_columns,
    message_rare,
    shared_messages,
    subscription_columns,
)

_PUT_SESSIONS: Final = MultiRowInsert(
    "INSERT INTO session (number, tenant, client_id, expiry_interval, disconnected_at, identity, dropped)",
    7,
    "ON CONFLICT (number) DO UPDATE SET tenant = excluded.tenant, client_id = excluded.client_id,"
    " expiry_interval = excluded.expiry_interval, disconnected_at = excluded.disconnected_at,"
    " identity = excluded.identity, dropped = excluded.dropped",
)
_DROP_SESSIONS: Final = "DELETE FROM session WHERE number IN (SELECT value FROM json_each(?))"
_REMEMBER_DROPPED: Final = "INSERT OR IGNORE INTO dropped_session SELECT value FROM json_each(?)"

_PUT_SUBSCRIPTIONS: Final = MultiRowInsert(
    "INSERT INTO subscription"
    " (session, filter, qos, is_no_local, is_retain_as_published, retain_handling, identifier)",
    7,
    "ON CONFLICT (session, filter) DO UPDATE SET qos = excluded.qos, is_no_local = excluded.is_no_local,"
    " is_retain_as_published = excluded.is_retain_as_published, retain_handling = excluded.retain_handling,"
    " identifier = excluded.identifier",
)
# SQLite looks row values up by scanning the table; a join from the keys uses the index.
_DROP_SUBSCRIPTIONS: Final = MultiRowInsert(
    "DELETE FROM subscription WHERE id IN (SELECT s.id FROM (",
    2,
    ") AS key CROSS JOIN subscription AS s ON s.session = key.column1 AND s.filter = key.column2)",
)

_PUT_MESSAGES: Final = MultiRowInsert("INSERT INTO message (id, topic, payload, rare)", 4)
_LAST_MESSAGE: Final = "SELECT ifnull(max(id), 0) FROM message"
_PUT_DELIVERIES: Final = MultiRowInsert(
    "INSERT INTO delivery"
    " (row, session, packet_id, flow, flags, size, expires_at, rare, message, topic, payload)",
    11,
    "ON CONFLICT (row) DO UPDATE SET session = excluded.session, packet_id = excluded.packet_id,"
    " flow = excluded.flow, flags = excluded.flags, size = excluded.size, expires_at = excluded.expires_at,"
    " rare = excluded.rare, message = excluded.message, topic = excluded.topic, payload = excluded.payload",
)
_MOVE_DELIVERIES: Final = (
    "UPDATE delivery SET packet_id = move.value ->> 1, flow = move.value ->> 2"
    " FROM json_each(?) AS move WHERE delivery.row = move.value ->> 0"
)
DROP_DELIVERIES: Final = "DELETE FROM delivery WHERE row IN (SELECT value FROM json_each(?))"

_PUT_INBOUND: Final = (
    "INSERT OR IGNORE INTO inbound (session, packet_id) SELECT value ->> 0, value ->> 1 FROM json_each(?)"
)
_DROP_INBOUND: Final = (
    "DELETE FROM inbound WHERE id IN (SELECT i.id FROM json_each(?) AS key CROSS JOIN inbound AS i"
    " ON i.session = key.value ->> 0 AND i.packet_id = key.value ->> 1)"
)

_PUT_WILLS: Final = MultiRowInsert(
    "INSERT INTO will (tenant, client_id, delay_s, topic, payload, flags, expires_at, rare)",
    8,
    "ON CONFLICT (tenant, client_id) DO UPDATE SET delay_s = excluded.delay_s, topic = excluded.topic,"
    " payload = excluded.payload, flags = excluded.flags, expires_at = excluded.expires_at,"
    " rare = excluded.rare",
)
_DROP_WILLS: Final = MultiRowInsert(
    "DELETE FROM will WHERE id IN (SELECT w.id FROM (",
    2,
    ") AS key CROSS JOIN will AS w ON w.tenant = key.column1 AND w.client_id = key.column2)",
)
_PUT_RETAINED: Final = MultiRowInsert(
    "INSERT INTO retained (tenant, topic, payload, flags, expires_at, rare)",
    6,
    "ON CONFLICT (tenant, topic) DO UPDATE SET payload = excluded.payload, flags = excluded.flags,"
    " expires_at = excluded.expires_at, rare = excluded.rare",
)
_DROP_RETAINED: Final = MultiRowInsert(
    "DELETE FROM retained WHERE id IN (SELECT r.id FROM (",
    2,
    ") AS key CROSS JOIN retained AS r ON r.tenant = key.column1 AND r.topic = key.column2)",
)

_COUNT: Final = (
    "UPDATE session_counters SET next_row = max(next_row, ?), next_session = max(next_session, ?),"
    " at = max(at, ?)"
)


class MessageNumbers:
    """Numbers of rows in table `message`, asked from it only once. Of the writing thread alone."""

    def __init__(self) -> None:
        self._next: int | None = None

    def take(self, connection: sqlite3.Connection, count: int) -> range:
        """Return numbers that no row has; those of a transaction that is rolled back are left out."""
        if self._next is None:
            self._next = connection.execute(_LAST_MESSAGE).fetchone()[0] + 1
        numbers = range(self._next, self._next + count)
        self._next = numbers.stop
        return numbers


def write(connection: sqlite3.Connection, changes: Changes, numbers: MessageNumbers) -> None:
    """Make the changes, inside a transaction that the caller ends.

    Raises:
        sqlite3.Error: as SQLite says; the caller rolls back.
    """
    if changes.dropped:  # First of all: on a full disk this makes room.
        connection.execute(DROP_DELIVERIES, [json_array(changes.dropped)])
    _write_sessions(connection, changes)
    if changes.put:
        _put_deliveries(connection, changes.put.values(), numbers)
    if changes.moved:
        moves = [(row, packet_id, flow.value) for row, (packet_id, flow) in changes.moved.items()]
        connection.execute(_MOVE_DELIVERIES, [json_array(moves)])
    if changes.inbound:
        _write_inbound(connection, changes.inbound)
    if changes.wills or changes.retained:
        _write_wills_and_retained(connection, changes)
    counters = (max(changes.put, default=0) + 1, max(changes.sessions, default=0) + 1, changes.at)
    connection.execute(_COUNT, counters)


def _write_sessions(connection: sqlite3.Connection, changes: Changes) -> None:
    _PUT_SESSIONS(connection, [_session_columns(row) for row in changes.sessions.values() if row is not None])
    dropped = [number for number, row in changes.sessions.items() if row is None]
    if dropped:
        numbers = [json_array(dropped)]
        connection.execute(_DROP_SESSIONS, numbers)
        connection.execute(_REMEMBER_DROPPED, numbers)
    subscriptions = changes.subscriptions
    if subscriptions:
        _PUT_SUBSCRIPTIONS(
            connection,
            [
                (session, *subscription_columns(value))
                for (session, _), value in subscriptions.items()
                if value is not None
            ],
        )
        _DROP_SUBSCRIPTIONS(connection, [key for key, value in subscriptions.items() if value is None])


def _session_columns(row: SessionRow) -> tuple[int, str, str, int, float | None, str | None, int]:
    return (
        row.number,
        row.tenant,
        row.client_id,
        row.expiry_interval,
        row.disconnected_at,
        row.identity,
        row.dropped,
    )


def _put_deliveries(
    connection: sqlite3.Connection, deliveries: Collection[DeliveryRow], numbers: MessageNumbers
) -> None:
    ids = _put_shared_messages(connection, deliveries, numbers)
    _PUT_DELIVERIES(
        connection, [delivery_columns(delivery, ids.get(id(delivery.message))) for delivery in deliveries]
    )


def _put_shared_messages(
    connection: sqlite3.Connection, deliveries: Collection[DeliveryRow], numbers: MessageNumbers
) -> Mapping[int, int]:
    """Store the messages that several deliveries have; returns their numbers in the table by identity."""
    shared = shared_messages(deliveries)
    ids = dict(zip(map(id, shared), numbers.take(connection, len(shared)), strict=True))
    _PUT_MESSAGES(
        connection,
        [(ids[id(message)], message.topic, message.payload, message_rare(message)) for message in shared],
    )
    return ids


def _write_inbound(connection: sqlite3.Connection, inbound: Mapping[tuple[int, int], bool]) -> None:
    held = [key for key, is_held in inbound.items() if is_held]
    released = [key for key, is_held in inbound.items() if not is_held]
    if held:
        connection.execute(_PUT_INBOUND, [json_array(held)])
    if released:
        connection.execute(_DROP_INBOUND, [json_array(released)])


def _write_wills_and_retained(connection: sqlite3.Connection, changes: Changes) -> None:
    _PUT_WILLS(
        connection,
        [
            (*key, will.delay_s, *message_columns(will.message))
            for key, will in changes.wills.items()
            if will is not None
        ],
    )
    _DROP_WILLS(connection, [key for key, will in changes.wills.items() if will is None])
    _PUT_RETAINED(
        connection,
        [
            (tenant, *message_columns(message))
            for (tenant, _), message in changes.retained.items()
            if message is not None
        ],
    )
    _DROP_RETAINED(connection, [key for key, message in changes.retained.items() if message is None])
