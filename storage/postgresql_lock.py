"""One server per database: an advisory lock that lives as long as the session that commits.

Knows: PostgreSQL's advisory locks, whose session holds one.
Does not know: what is committed.
Spec: PostgreSQL 14 §13.3.5.

A COMMIT that succeeds proves that the lock was still ours, because both belong to one session: whoever lost
the session lost the lock, and cannot acknowledge anything either.
"""

from typing import Final

import asyncpg

from .errors import DatabaseInUseError, StorageError
from .postgresql_connection import Connection, Server

#: The first number of our advisory locks: "gnom". The second says which.
_SPACE: Final = 0x676E6F6D
_ONE_SERVER: Final = 1
_ONE_MIGRATION: Final = 2

#: How long the sessions of a process that was killed a moment ago may take to end.
_WAIT_S: Final = 3

# Where the network failed, the server may not have noticed yet that our session before this one is dead.
_END_OWN: Final = """
    SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND classid = $1 AND objid = $2 AND application_name = $3
"""
_HOLDER: Final = """
    SELECT application_name, client_addr::text, pid FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND classid = $1 AND objid = $2 AND granted AND datname = current_database()
"""


async def lock_database(connection: Connection, server: Server) -> None:
    """Become the one server of this database, until the session ends.

    Raises:
        DatabaseInUseError: another one is.
        asyncpg.PostgresError, OSError: the connection fails.
    """
    await connection.fetch(_END_OWN, _SPACE, _ONE_SERVER, server.application_name)
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{_WAIT_S}s'")
            await connection.execute("SELECT pg_advisory_lock($1, $2)", _SPACE, _ONE_SERVER)
    except asyncpg.LockNotAvailableError:
        holder = await connection.fetchrow(_HOLDER, _SPACE, _ONE_SERVER)
    else:
        return
    if holder is None or holder["application_name"] == server.application_name:
        raise StorageError(f"{server.place}: our earlier session is still ending")
    who = " ".join(str(word) for word in (holder["application_name"], holder["client_addr"]) if word)
    raise DatabaseInUseError(
        f"{server.place}: in use by another server ({who or 'of another role'}, session {holder['pid']}); "
        "stop that one, or name another database in storage.url"
    )


async def lock_migrations(connection: Connection, *, timeout_s: float) -> None:
    """Wait until nobody else migrates this database; held until the end of the transaction."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock($1, $2)", _SPACE, _ONE_MIGRATION, timeout=timeout_s
    )
