"""The database of one server, and the stores on it.

Knows: which components have tables, which adapter the settings ask for.
Does not know: any table, what is stored when.
Spec: none.
"""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from broker.api import MIGRATIONS as BROKER_MIGRATIONS
from broker.api import PostgresqlStore, SessionStore, SqliteStore
from shadow import MIGRATIONS as SHADOW_MIGRATIONS
from shadow import (
    MemoryShadowStore,
    PostgresqlShadowStore,
    PostgresqlSharedStore,
    ShadowStore,
    SqliteShadowStore,
)
from storage import (
    Migrations,
    PostgresqlDatabase,
    SqliteDatabase,
    StorageError,
    StorageHealth,
    StorageSettings,
    StorageStats,
)

from .errors import EnvironmentFailureError

DATABASE_FILE: Final = "gnomon.db"
#: To share, one session holds things while another reads.
_SHARED_READERS: Final = 2
#: Of every component that has tables.
MIGRATIONS: Final[Sequence[Migrations]] = (BROKER_MIGRATIONS, SHADOW_MIGRATIONS)


class Stores:
    """Where the parts of one server keep what is to outlive it."""

    def __init__(
        self, database: SqliteDatabase | PostgresqlDatabase | None, *, is_shared: bool = False
    ) -> None:
        self._database = database
        self._is_shared = is_shared

    def sessions(self) -> SessionStore | None:
        """Return the store of the broker's state, None where it lasts as long as the process."""
        match self._database:
            case SqliteDatabase() as database:
                return SqliteStore(database)
            case PostgresqlDatabase() as database:
                return PostgresqlStore(database)
            case None:
                return None

    def shadows(self, tenant: str) -> ShadowStore:
        """Return the store of a tenant's shadows; a PostgresqlSharedStore where the database is shared."""
        match self._database:
            case SqliteDatabase() as database:
                return SqliteShadowStore(database, tenant=tenant)
            case PostgresqlDatabase() as database if self._is_shared:
                return PostgresqlSharedStore(database, tenant=tenant)
            case PostgresqlDatabase() as database:
                return PostgresqlShadowStore(database, tenant=tenant)
            case None:
                return MemoryShadowStore()

    @property
    def health(self) -> StorageHealth:
        """Whether commits succeed; without a database they always do."""
        return StorageHealth() if self._database is None else self._database.health

    @property
    def stats(self) -> StorageStats:
        """Counts since the start."""
        return StorageStats() if self._database is None else self._database.stats

    async def watch(self) -> None:
        """Return only if there is nothing to watch.

        Raises:
            StorageError: the database failed for good.
        """
        if self._database is not None:
            raise await self._database.failed()


@asynccontextmanager
async def open_stores(
    settings: StorageSettings, folder: Path, *, is_shared: bool = False
) -> AsyncIterator[Stores]:
    """Open the database, and close it at the end: what was accepted is committed first.

    The caller holds the lock of the data folder, unless `settings.url` names a database elsewhere. That one
    several processes may work on where all of them say `is_shared`.

    Raises:
        EnvironmentFailureError: it cannot be opened; the text says what to do.
    """
    if settings.durability == "memory":
        yield Stores(None)
        return
    database: SqliteDatabase | PostgresqlDatabase
    try:
        if settings.url is not None:
            readers = max(settings.readers, _SHARED_READERS if is_shared else 1)
            database = await PostgresqlDatabase.open(
                settings.url,
                settings.model_copy(update={"readers": readers}),
                migrations=MIGRATIONS,
                exclusive=not is_shared,
            )
        else:
            database = await SqliteDatabase.open(folder / DATABASE_FILE, settings, migrations=MIGRATIONS)
    except StorageError as error:
        raise EnvironmentFailureError(str(error)) from error
    # Of the whole process: the loop and the threads of the database share one interpreter.
    sys.setswitchinterval(settings.switch_interval_s)
    try:
        yield Stores(database, is_shared=is_shared)
    finally:
        await database.close()
