"""One database, one group committer, numbered migrations.

Knows: how changes become durable together, how a database is opened, checked, copied and closed.
Does not know: any word of a domain; each package brings its tables as `Migrations` and its own statements.
Spec: none.
"""

from .backup import Progress, backup, restore
from .errors import (
    DatabaseDamagedError,
    DatabaseForeignError,
    DatabaseInUseError,
    DatabaseNewerError,
    MigrationError,
    StorageClosedError,
    StorageError,
)
from .migrations import Migration, Migrations, pending, statements
from .postgresql import PostgresqlBatchWriter, PostgresqlDatabase
from .postgresql_connection import Connection as PostgresqlConnection
from .rows import MultiRowInsert, json_array
from .settings import Durability, StorageSettings
from .sqlite import BatchWriter, SqliteDatabase
from .stats import StorageHealth, StorageStats

__all__ = [
    "BatchWriter",
    "DatabaseDamagedError",
    "DatabaseForeignError",
    "DatabaseInUseError",
    "DatabaseNewerError",
    "Durability",
    "Migration",
    "MigrationError",
    "Migrations",
    "MultiRowInsert",
    "PostgresqlBatchWriter",
    "PostgresqlConnection",
    "PostgresqlDatabase",
    "Progress",
    "SqliteDatabase",
    "StorageClosedError",
    "StorageError",
    "StorageHealth",
    "StorageSettings",
    "StorageStats",
    "backup",
    "json_array",
    "pending",
    "restore",
    "statements",
]
