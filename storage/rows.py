"""Many rows with one statement.

Knows: how many rows SQLite takes at once, which statement sizes keep its statement cache warm.
Does not know: any table.
Spec: none; benchmarks/load/storage_commit.py measures it.

Every statement gives the GIL away and must get it back from a busy event loop, which takes up to one switch
interval. So one statement per table and commit, and never `executemany`, which does that on every row.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final

import msgspec

#: What SQLite allows by default (SQLITE_MAX_VARIABLE_NUMBER), whatever this build does.
_VARIABLES_MAXIMUM: Final = 32_766
_ROWS_MINIMUM: Final = 8
_ROWS_MAXIMUM: Final = 4096

_json = msgspec.json.Encoder()


class MultiRowInsert:
    """`INSERT` of any number of rows.

    There is one statement for each power of two, so that all stay compiled; what is left of its size is
    filled with rows of NULL, which its LIMIT keeps out. That beats several smaller statements, and one of
    exactly the right size that must be compiled each time.

    >>> insert = MultiRowInsert("INSERT INTO message (id, payload)", 2, "ON CONFLICT DO NOTHING")
    >>> insert(connection, [(1, b"a"), (2, b"b"), (3, b"c")])
    """

    def __init__(self, head: str, columns: int, tail: str = "") -> None:
        row = f"({','.join('?' * columns)})"
        self._columns = columns
        self._statements: dict[int, str] = {}
        size = _ROWS_MINIMUM
        while size <= _ROWS_MAXIMUM and size * columns < _VARIABLES_MAXIMUM:
            values = ",".join([row] * size)
            # WHERE keeps the parser from taking the ON of an upsert for that of a join.
            rest = f"SELECT * FROM (VALUES {values}) WHERE TRUE LIMIT ? {tail}"  # noqa: S608  (no value in it)
            self._statements[size] = f"{head} {rest}"
            self._rows_maximum = size
            size *= 2

    def __call__(self, connection: sqlite3.Connection, rows: Sequence[Sequence[Any]]) -> None:
        """Insert the rows, in order.

        Raises:
            sqlite3.Error: as SQLite says; some rows may be in, until the transaction is rolled back.
        """
        for start in range(0, len(rows), self._rows_maximum):
            part = rows[start : start + self._rows_maximum]
            size = max(_ROWS_MINIMUM, 1 << (len(part) - 1).bit_length())
            values = list(chain.from_iterable(part))
            values += [None] * ((size - len(part)) * self._columns)
            values.append(len(part))
            connection.execute(self._statements[size], values)


def json_array(values: Iterable[Any]) -> str:
    """Return integers or texts, or arrays of them, as the one parameter of a statement with `json_each(?)`.

    >>> delete = "DELETE FROM message WHERE id IN (SELECT value FROM json_each(?))"
    >>> connection.execute(delete, [json_array(ids)])
    """
    return _json.encode(values if isinstance(values, list | tuple) else list(values)).decode()
