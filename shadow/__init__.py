"""Device shadows: desired and reported state, delta, metadata, versions.

Knows: documents and commands, their journal, and the broker by `broker.api`.
Does not know: sockets, sessions, other services.
Spec: AWS IoT device shadow service.
"""

from .commands import Command, Delete, Get, Update, parse
from .document import Document, Stored, Tombstone, restore_document
from .durations import quantile
from .engine import Decision, ShadowMessage, decide, reject
from .errors import RequestError, ShadowError, ShadowStoreError
from .journal import replay
from .memory_store import MemoryShadowStore
from .postgresql_shared import PostgresqlSharedStore
from .postgresql_store import PostgresqlShadowStore
from .reconciler import Drift, Presence
from .records import Author, Changes, Drifting, JournalEntry, Row
from .rows import MIGRATIONS
from .service import ShadowService
from .settings import ShadowSettings
from .sharing import Done, SharedChanges, SharedShadowStore, Sharing
from .sqlite_store import SqliteShadowStore
from .stats import ShadowStats
from .store import ShadowStore
from .topics import Operation, Reply, ShadowKey, ShadowTopics

__all__ = [
    "MIGRATIONS",
    "Author",
    "Changes",
    "Command",
    "Decision",
    "Delete",
    "Document",
    "Done",
    "Drift",
    "Drifting",
    "Get",
    "JournalEntry",
    "MemoryShadowStore",
    "Operation",
    "PostgresqlShadowStore",
    "PostgresqlSharedStore",
    "Presence",
    "Reply",
    "RequestError",
    "Row",
    "ShadowError",
    "ShadowKey",
    "ShadowMessage",
    "ShadowService",
    "ShadowSettings",
    "ShadowStats",
    "ShadowStore",
    "ShadowStoreError",
    "ShadowTopics",
    "SharedChanges",
    "SharedShadowStore",
    "Sharing",
    "SqliteShadowStore",
    "Stored",
    "Tombstone",
    "Update",
    "decide",
    "parse",
    "quantile",
    "reject",
    "replay",
    "restore_document",
]
