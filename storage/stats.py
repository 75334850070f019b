"""What a database counts, and how it is.

Knows: counts, seconds, bytes.
Does not know: what metrics are called.
Spec: none.
"""

from msgspec import Struct


class StorageHealth(Struct, frozen=True):
    """`failing_since` (epoch seconds) is None where commits succeed; `reason` says what is wrong."""

    failing_since: float | None = None
    reason: str = ""


class StorageStats(Struct):
    """Counts since the start; the last five are of the moment (the sizes: after the last commit)."""

    commits: int = 0
    works: int = 0
    rows: int = 0
    works_refused: int = 0
    failures: int = 0
    retries: int = 0
    reads: int = 0
    reads_failed: int = 0
    vacuumed_pages: int = 0
    commit_seconds: float = 0.0
    commit_seconds_maximum: float = 0.0
    works_waiting: int = 0
    bytes_waiting: int = 0
    database_bytes: int = 0
    free_bytes: int = 0
    wal_bytes: int = 0
