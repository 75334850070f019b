"""The table of applied migrations in PostgreSQL, and how the missing ones are applied.

Knows: the table `migration`.
Does not know: other tables.
Spec: none.
"""

from collections.abc import Sequence
from typing import Final

from .migrations import Migration, Migrations, pending
from .postgresql_connection import Connection
from .postgresql_lock import lock_migrations

_TABLE: Final = """
    CREATE TABLE IF NOT EXISTS migration (
        component TEXT NOT NULL,
        number INTEGER NOT NULL,
        name TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        PRIMARY KEY (component, number)
    )
"""
#: Rewriting a large table takes as long as it takes, and so does waiting for one who does it.
_TIMEOUT_S: Final = 24 * 3600.0


async def migrate(connection: Connection, place: str, known: Sequence[Migrations]) -> list[Migration]:
    """Apply what is missing, all in one transaction, and return it.

    Raises:
        DatabaseNewerError: made by a newer release.
        MigrationError: applied files differ from ours.
        asyncpg.PostgresError: a statement failed; the database is as before.
    """
    # Read committed: what another one did while we waited for the lock must be seen.
    async with connection.transaction(isolation="read_committed"):
        await connection.execute("SET LOCAL statement_timeout = 0")
        await lock_migrations(connection, timeout_s=_TIMEOUT_S)
        await connection.execute(_TABLE)
        rows = await connection.fetch("SELECT component, number, sha256 FROM migration")
        applied = {(row["component"], row["number"]): row["sha256"] for row in rows}
        missing = pending(applied, known, "postgresql", place=place)
        for migration in missing:
            await connection.execute(migration.sql, timeout=_TIMEOUT_S)
            await connection.execute(
                "INSERT INTO migration (component, number, name, sha256) VALUES ($1, $2, $3, $4)",
                migration.component,
                migration.number,
                migration.name,
                migration.sha256,
            )
    return missing
