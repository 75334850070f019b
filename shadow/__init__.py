"""Device shadows: desired and reported state, delta, metadata, versions.

Knows: documents and commands, and the broker by `broker.api`.
Does not know: sockets, sessions, other services.
Spec: AWS IoT device shadow service.
"""

from .commands import Command, Delete, Get, Update, parse
from .document import Document, Stored, Tombstone, restore_document
from .engine import Decision, ShadowMessage, decide, reject
from .errors import RequestError, ShadowError, ShadowStoreError
from .service import ShadowService, ShadowStats
from .settings import ShadowSettings
from .store import MemoryShadowStore, ShadowStore
from .topics import Operation, Reply, ShadowKey, ShadowTopics

__all__ = [
    "Command",
    "Decision",
    "Delete",
    "Document",
    "Get",
    "MemoryShadowStore",
    "Operation",
    "Reply",
    "RequestError",
    "ShadowError",
    "ShadowKey",
    "ShadowMessage",
    "ShadowService",
    "ShadowSettings",
    "ShadowStats",
    "ShadowStore",
    "ShadowStoreError",
    "ShadowTopics",
    "Stored",
    "Tombstone",
    "Update",
    "decide",
    "parse",
    "reject",
    "restore_document",
]
