"""What keeps the broker's state beyond the process: the port, and its adapters."""

from .memory import MemoryStore
from .ports import SessionStore, Snapshot, StoredOutbound, StoredSession

__all__ = ["MemoryStore", "SessionStore", "Snapshot", "StoredOutbound", "StoredSession"]
