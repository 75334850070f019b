"""Many rows with one statement: an array for each column.

Knows: how many rows and bytes go to the server at once.
Does not know: any table.
Spec: none.

While a statement's values are encoded the event loop stands still, and a server takes no more than 1 GiB at
once: so what was gathered through an outage goes in parts.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from storage import PostgresqlConnection

_ROWS_AT_ONCE: Final = 1000
_BYTES_AT_ONCE: Final = 1024 * 1024

Row = Sequence[Any]


def unnested(columns: Mapping[str, str]) -> str:
    """Return the expression for rows that come as one array for each column, names and types given.

    >>> unnested({"number": "bigint", "topic": "bytea"})
    'unnest($1::bigint[], $2::bytea[])'
    """
    arrays = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(columns.values(), 1))
    return f"unnest({arrays})"


def upsert(table: str, conflict: str, key: Mapping[str, str], values: Mapping[str, str]) -> str:
    """Return the statement that puts rows of `key` and `values`, names and types of columns each."""
    columns = {**key, **values}
    changed = ", ".join(f"{name} = excluded.{name}" for name in values)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT * FROM {unnested(columns)}"  # noqa: S608
        f" ON CONFLICT ({conflict}) DO UPDATE SET {changed}"
    )


async def run(connection: PostgresqlConnection, statement: str, rows: Iterable[Row]) -> None:
    """Run a statement for all rows, without any for none.

    Raises:
        asyncpg.PostgresError, OSError: as the server says.
    """
    for part in parts(rows):
        await connection.execute(statement, *zip(*part, strict=True))


def parts(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Divide rows so that a statement can take each part; a single row may be larger."""
    part: list[Row] = []
    size_bytes = 0
    for row in rows:
        part.append(row)
        size_bytes += sum(len(value) for value in row if isinstance(value, bytes))
        if len(part) == _ROWS_AT_ONCE or size_bytes >= _BYTES_AT_ONCE:
            yield part
            part = []
            size_bytes = 0
    if part:
        yield part
