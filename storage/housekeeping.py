"""What the writing connection does while nobody waits: give pages back, fold the WAL into the file.

Knows: when it is worth it, how much at a time.
Does not know: tables, who waits.
Spec: SQLite, "PRAGMA incremental_vacuum", "PRAGMA wal_checkpoint".
"""

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import Final

from .sqlite_setup import pragma
from .stats import StorageStats

#: After a commit there is something to do, but not at once: more may come.
_REST_S: Final = 1.0
#: Between two slices, so that what comes in between waits for one slice at most.
_SLICE_REST_S: Final = 0.05
_SLICE_PAGES: Final = 256
#: Free pages that stay in the file: the next rows take them, which is cheaper than growing again.
_FREE_PAGES_KEPT: Final = 2048
_FREE_PART_KEPT: Final = 0.25


class Housekeeping:
    """Of one connection and its thread."""

    def __init__(self, connection: sqlite3.Connection, path: Path, stats: StorageStats) -> None:
        self._connection = connection
        self._wal = path.with_name(f"{path.name}-wal")
        self._stats = stats
        self._page_size = int(pragma(connection, "page_size"))
        self._due_at: float | None = None
        self._rows_before = connection.total_changes
        self._measured_at = 0.0
        self._measure(time.monotonic())

    @property
    def pause_s(self) -> float | None:
        """How long until there is something to do; None if there is nothing."""
        return None if self._due_at is None else max(0.0, self._due_at - time.monotonic())

    def committed(self) -> None:
        """A commit has changed the file."""
        now = time.monotonic()
        if self._due_at is None:
            self._due_at = now + _REST_S
        self._stats.rows += self._connection.total_changes - self._rows_before
        self._rows_before = self._connection.total_changes
        if now - self._measured_at >= _REST_S:
            with contextlib.suppress(sqlite3.Error, OSError):  # The commit has succeeded, whatever this does.
                self._measure(now)

    def run(self) -> None:
        """Do one slice, of some milliseconds.

        Raises:
            sqlite3.Error: as SQLite says.
        """
        now = time.monotonic()
        self._due_at = now + _REST_S  # Should it fail.
        free, pages = self._measure(now)
        if free > max(_FREE_PAGES_KEPT, _FREE_PART_KEPT * pages):
            self._due_at = now + _SLICE_REST_S
            self._connection.execute(f"PRAGMA incremental_vacuum({_SLICE_PAGES})").fetchall()
            self._stats.vacuumed_pages += _SLICE_PAGES
        else:
            self._due_at = None
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def finish(self) -> None:
        """Leave one file without a WAL.

        Raises:
            sqlite3.Error: as SQLite says; the WAL stays, and nothing is lost.
        """
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _measure(self, now: float) -> tuple[int, int]:
        """Note the sizes; return free pages and all pages."""
        self._measured_at = now
        free, pages = (
            int(pragma(self._connection, "freelist_count")),
            int(pragma(self._connection, "page_count")),
        )
        self._stats.free_bytes = free * self._page_size
        self._stats.database_bytes = pages * self._page_size
        self._stats.wal_bytes = self._wal.stat().st_size if self._wal.exists() else 0
        return free, pages
