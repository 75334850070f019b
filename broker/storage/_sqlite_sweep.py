"""Clearing away, a bounded piece at a time: what expired, what dropped Sessions left, what nobody refers to.

Knows: how to find such rows by an index.
Does not know: transactions, when it is time to sweep.
Spec: v5 §4.1, [MQTT-3.3.2-5].
"""

import sqlite3
from typing import Final

from msgspec import json

from storage import json_array

from ._sqlite_writes import DROP_DELIVERIES
from .ports import SweptDelivery

#: Parameter: now. Whether there is anything to sweep; readers may ask.
LOOK: Final = (
    "SELECT EXISTS (SELECT 1 FROM dropped_session) OR EXISTS (SELECT 1 FROM released_message)"
    " OR EXISTS (SELECT 1 FROM delivery WHERE packet_id = 0 AND expires_at <= ?)"
)

# Each answers with one row: more would each wait for Python's lock beside a busy event loop.
_EXPIRED: Final = (
    "SELECT json_group_array(json_array(session, row, size)) FROM (SELECT session, row, size FROM delivery"
    " WHERE packet_id = 0 AND expires_at <= ? AND session NOT IN (SELECT number FROM dropped_session)"
    " ORDER BY expires_at LIMIT ?)"
)
_FIRST_DROPPED: Final = (
    "SELECT json_group_array(number) FROM (SELECT number FROM dropped_session ORDER BY number LIMIT ?)"
)
_FIRST_RELEASED: Final = (
    "SELECT json_group_array(id) FROM (SELECT id FROM released_message ORDER BY id LIMIT ?)"
)

# Parameters: numbers of dropped Sessions, how many rows. Others follow when nothing is left of these.
_DELETE_LEFT_BEHIND: Final = (
    "DELETE FROM delivery WHERE row IN (SELECT d.row FROM json_each(?) AS dropped"
    " CROSS JOIN delivery AS d ON d.session = dropped.value LIMIT ?)",
    "DELETE FROM subscription WHERE id IN (SELECT s.id FROM json_each(?) AS dropped"
    " CROSS JOIN subscription AS s ON s.session = dropped.value LIMIT ?)",
    "DELETE FROM inbound WHERE id IN (SELECT i.id FROM json_each(?) AS dropped"
    " CROSS JOIN inbound AS i ON i.session = dropped.value LIMIT ?)",
)
_FORGET_DROPPED: Final = (
    "DELETE FROM dropped_session WHERE number IN (SELECT value FROM json_each(?))"
    " AND NOT EXISTS (SELECT 1 FROM delivery WHERE session = number)"
    " AND NOT EXISTS (SELECT 1 FROM subscription WHERE session = number)"
    " AND NOT EXISTS (SELECT 1 FROM inbound WHERE session = number)"
)
_DELETE_UNREFERENCED: Final = (
    "DELETE FROM message WHERE id IN (SELECT value FROM json_each(?))"
    " AND NOT EXISTS (SELECT 1 FROM delivery WHERE delivery.message = message.id)"
)
_FORGET_RELEASED: Final = "DELETE FROM released_message WHERE id IN (SELECT value FROM json_each(?))"

_NONE: Final = "[]"

_expired_decoder = json.Decoder(list[tuple[int, int, int]])


def sweep(connection: sqlite3.Connection, now: float, limit: int) -> list[SweptDelivery]:
    """Delete up to `limit` rows of each table, inside a transaction that the caller ends.

    Returns:
        The pending deliveries that had expired by `now`.

    Raises:
        sqlite3.Error: as SQLite says; the caller rolls back.
    """
    columns = _expired_decoder.decode(_one(connection, _EXPIRED, now, limit))
    expired = [SweptDelivery(*each) for each in columns]
    if expired:
        connection.execute(DROP_DELIVERIES, [json_array([swept.row for swept in expired])])
    dropped = _one(connection, _FIRST_DROPPED, limit)
    if dropped != _NONE:
        for statement in _DELETE_LEFT_BEHIND:
            connection.execute(statement, (dropped, limit))
        connection.execute(_FORGET_DROPPED, (dropped,))
    released = _one(connection, _FIRST_RELEASED, limit)
    if released != _NONE:
        connection.execute(_DELETE_UNREFERENCED, (released,))
        connection.execute(_FORGET_RELEASED, (released,))
    return expired


def _one(connection: sqlite3.Connection, statement: str, *parameters: float) -> str:
    """Return the only value of the only row."""
    value: str = connection.execute(statement, parameters).fetchone()[0]
    return value
