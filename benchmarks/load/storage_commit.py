"""What a commit costs beside a busy event loop: rows a second by kind of statement and switch interval.

    python benchmarks/load/storage_commit.py [--seconds 1] [--folder /var/tmp]

One thread commits rows with fsync, as the committer does; the main thread spins in Python, as a saturated
loop does. Every statement gives the GIL away, and gets it back after up to one switch interval: hence one
statement per table and commit, and a shorter interval than Python's 5 ms. The last column says what the loop
pays: how many turns it did beside the commits, as a share of those it does alone.
"""

import argparse
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

from storage import MultiRowInsert, StorageSettings
from storage.sqlite_setup import open_writer

Row = tuple[int, int, bytes]
Write = Callable[[sqlite3.Connection, Sequence[Row]], object]

_HEAD: Final = "INSERT INTO message (id, session, payload)"
_PAYLOAD: Final = b"x" * 64
_INTERVALS_S: Final = (5e-3, 1e-3, 5e-4, 2e-4, 1e-4)
_BATCHES: Final = (20, 100, 300, 2000)


def _executemany(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    connection.executemany(f"{_HEAD} VALUES (?,?,?)", rows)


def _exact(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """One statement of just the right size, compiled anew for each new size."""
    connection.execute(f"{_HEAD} VALUES {','.join(['(?,?,?)'] * len(rows))}", list(chain.from_iterable(rows)))


_WAYS: Final[dict[str, Write]] = {
    "executemany": _executemany,
    "exact": _exact,
    "padded": MultiRowInsert(_HEAD, 3),
}


class Committing(threading.Thread):
    """Commits batches until told to stop; sizes vary by some rows, as they do in life."""

    def __init__(self, path: Path, write: Write, batch: int) -> None:
        super().__init__(daemon=True)
        self.rows = 0
        self.is_stopped = False
        self._path, self._write, self._batch = path, write, batch

    def run(self) -> None:
        """Commit."""
        connection = open_writer(self._path, StorageSettings())
        connection.execute(
            "CREATE TABLE message (id INTEGER PRIMARY KEY, session INTEGER, payload BLOB) STRICT"
        )
        turn = 0
        while not self.is_stopped:
            count = self._batch + turn * 7 % 13
            turn += 1
            rows = [(self.rows + number, number, _PAYLOAD) for number in range(count)]
            connection.execute("BEGIN IMMEDIATE")
            self._write(connection, rows)
            connection.execute("COMMIT")
            self.rows += count
        connection.close()


def _spin(seconds: float) -> int:
    """Keep the GIL as a busy loop does; return the number of turns."""
    turns, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        turns += 1
        sum(range(100))
    return turns


def _measure(folder: Path, write: Write, batch: int, seconds: float, *, is_busy: bool) -> tuple[float, int]:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        thread = Committing(Path(place) / "test.db", write, batch)
        thread.start()
        turns = 0
        if is_busy:
            turns = _spin(seconds)
        else:
            time.sleep(seconds)
        rows = thread.rows
        thread.is_stopped = True
        thread.join()
    return rows / seconds, turns


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="on the disk to measure")  # noqa: S108
    options = parser.parse_args()
    alone = max(_spin(options.seconds) for _ in range(3))
    print(f"{'statement':<16}{'rows/commit':>12}{'interval':>10}{'rows/s':>12}{'the loop keeps':>16}")
    for name, write in _WAYS.items():
        for batch in _BATCHES:
            rows, _ = _measure(options.folder, write, batch, options.seconds, is_busy=False)
            print(f"{name:<16}{batch:>12}{'idle loop':>10}{rows:>12,.0f}")
            for interval_s in _INTERVALS_S:
                sys.setswitchinterval(interval_s)
                rows, turns = _measure(options.folder, write, batch, options.seconds, is_busy=True)
                print(f"{name:<16}{batch:>12}{interval_s * 1e3:>7.1f} ms{rows:>12,.0f}{turns / alone:>16.0%}")
            sys.setswitchinterval(5e-3)


if __name__ == "__main__":
    main()
