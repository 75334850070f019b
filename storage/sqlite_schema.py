"""The table of applied migrations, and how the missing ones are applied.

Knows: the table `migration`.
Does not know: other tables, files, threads.
Spec: none.
"""

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from .migrations import Migration, Migrations, pending, statements

_TABLE: Final = """
    CREATE TABLE IF NOT EXISTS migration (
        component TEXT NOT NULL,
        number INTEGER NOT NULL,
        name TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        applied_at TEXT NOT NULL,
        PRIMARY KEY (component, number)
    ) STRICT, WITHOUT ROWID
"""


def migrate(connection: sqlite3.Connection, path: Path, known: Sequence[Migrations]) -> list[Migration]:
    """Apply what is missing, all in one transaction, and return it.

    Raises:
        DatabaseNewerError: made by a newer release.
        MigrationError: applied files differ from ours.
        sqlite3.Error: a statement failed; the database is as before.
    """
    missing = schema_pending(connection, path, known)
    if not missing:
        return []
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(_TABLE)
        for migration in missing:
            for statement in statements(migration.sql):
                connection.execute(statement)
            connection.execute(
                "INSERT INTO migration VALUES (?, ?, ?, ?, ?)",
                (
                    migration.component,
                    migration.number,
                    migration.name,
                    migration.sha256,
                    datetime.now(UTC).isoformat(timespec="seconds"),
                ),
            )
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return missing


def schema_pending(
    connection: sqlite3.Connection, path: Path, known: Sequence[Migrations]
) -> list[Migration]:
    """Return what is missing, without a change.

    Raises:
        DatabaseNewerError: made by a newer release.
        MigrationError: applied files differ from ours.
    """
    has_table = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'migration'").fetchone()
    rows = connection.execute("SELECT component, number, sha256 FROM migration") if has_table else ()
    applied = {(component, number): sha256 for component, number, sha256 in rows}
    return pending(applied, known, "sqlite", place=str(path))
