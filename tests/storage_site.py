"""A database of numbers, for tests of the storage package."""

import contextlib
import itertools
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path

from storage import Migrations, MultiRowInsert, SqliteDatabase, StorageSettings

NUMBERS = {"0001_numbers.sql": "CREATE TABLE number (value INTEGER PRIMARY KEY, text TEXT) STRICT;\n"}

_packages = itertools.count(1)


def migrations(
    folder: Path, files: Mapping[str, str] = NUMBERS, component: str = "test", dialect: str = "sqlite"
) -> Migrations:
    """Make a package with these migration files below a folder, and name it."""
    package = f"migrations_of_a_test_{next(_packages)}"
    place = folder / package / "migrations" / dialect
    place.mkdir(parents=True)
    (folder / package / "__init__.py").touch()
    for name, sql in files.items():
        (place / name).write_text(sql)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return Migrations(component=component, package=package)


@contextlib.asynccontextmanager
async def opened(
    path: Path, *, settings: StorageSettings | None = None, known: Sequence[Migrations] | None = None
) -> AsyncIterator[SqliteDatabase]:
    """Open a database of numbers, and close it at the end."""
    known = [migrations(path.parent)] if known is None else known
    database = await SqliteDatabase.open(path, settings or StorageSettings(), migrations=known)
    try:
        yield database
    finally:
        await database.close()


_insert = MultiRowInsert("INSERT INTO number (value, text)", 2)


def insert(connection: sqlite3.Connection, values: Iterable[int]) -> None:
    """Insert numbers."""
    _insert(connection, [(value, None) for value in values])


def stored(path: Path) -> list[int]:
    """Return the numbers in a file, in order, as another program would read them."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [value for (value,) in connection.execute("SELECT value FROM number ORDER BY value")]
