"""What keeps the broker's state beyond the process: the port, and its adapters."""

from .memory import MemoryStore
from .ports import Page, SessionStore, Snapshot, StoredSession, SweptDelivery
from .postgresql import PostgresqlStore
from .sqlite import MIGRATIONS, SqliteStore

__all__ = [
    "MIGRATIONS",
    "MemoryStore",
    "Page",
    "PostgresqlStore",
    "SessionStore",
    "Snapshot",
    "SqliteStore",
    "StoredSession",
    "SweptDelivery",
]
