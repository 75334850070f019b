"""How a SQLite connection is set up, one function per decision.

Knows: every PRAGMA that we use, and why.
Does not know: tables, transactions, threads.
Spec: SQLite, "PRAGMA Statements", "Write-Ahead Logging".
"""

import os
import sqlite3
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from .errors import DatabaseForeignError, StorageError, damaged
from .settings import Durability, StorageSettings

#: "GNOM", in the header of each of our files; `file` shows it.
APPLICATION_ID: Final = 0x474E4F4D
_MAGIC: Final = b"SQLite format 3\0"
#: STRICT tables came with 3.37.
_SQLITE_MINIMUM: Final = (3, 37)
#: Every size of every multi-row statement stays prepared.
_STATEMENTS_CACHED: Final = 512
#: How long a statement waits for another program's lock before it counts as a failure.
_BUSY_TIMEOUT_S: Final = 1.0
_CHECKED_BYTES_MAXIMUM: Final = 512 * 1024 * 1024
_CHECK_TIME_S: Final = 2.0
_WRITER_CACHE_KIB: Final = 32 * 1024
_READER_CACHE_KIB: Final = 8 * 1024
#: A checkpoint writes each changed page once, however often it changed: rarer is cheaper, but longer.
#: Measured with 300 rows a commit: 1,000 pages 117,000 rows/s, 4,000 125,000, 16,000 139,000; p99 5, 6, 7 ms.
_CHECKPOINT_PAGES: Final = 4000
_JOURNAL_BYTES: Final = 64 * 1024 * 1024


def open_writer(path: Path, settings: StorageSettings) -> sqlite3.Connection:
    """Open the one connection that writes; the file is made if missing.

    Raises:
        StorageError: SQLite is too old, or the file system has no shared memory for a WAL.
        DatabaseForeignError: the file is another program's database.
        sqlite3.Error, OSError: whatever else is wrong.
    """
    if sqlite3.sqlite_version_info < _SQLITE_MINIMUM:
        raise StorageError(f"{path}: SQLite {sqlite3.sqlite_version} is too old; 3.37 or later is needed")
    _make_private(path)
    refuse_garbage(path)
    connection = connect(path, "rw")
    try:
        is_new = refuse_foreign(connection, path)
        distrust_the_file(connection)
        if is_new:
            _make_shrinkable(connection)
        _use_wal(connection, path)
        if is_new:
            mark_as_ours(connection)
        _sync(connection, settings.durability)
        _checkpoint_rarely(connection)
        _forget_without_overwriting(connection)
        _cache(connection, _WRITER_CACHE_KIB)
        _limit_size(connection, settings.disk_bytes_maximum)
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open a connection that cannot write. To be used by one thread at a time.

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    connection = connect(path, "rw")  # "ro" could not take part in the WAL's shared memory.
    distrust_the_file(connection)
    connection.execute("PRAGMA query_only = ON")
    _cache(connection, _READER_CACHE_KIB)
    return connection


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Connect to a file that exists; transactions are begun by hand."""
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_STATEMENTS_CACHED,
    )


def pragma(connection: sqlite3.Connection, name: str) -> Any:  # noqa: ANN401  (whatever the PRAGMA holds)
    """Return the value of a PRAGMA."""
    row = connection.execute(f"PRAGMA {name}").fetchone()
    return None if row is None else row[0]


def refuse_garbage(path: Path) -> None:
    """Look at the file's first bytes before SQLite does, which would delete the WAL of such a file.

    Raises:
        DatabaseDamagedError: not a database, or an empty one with a WAL.
        OSError: the file cannot be read.
    """
    wal = path.with_name(f"{path.name}-wal")
    with path.open("rb") as file:
        start = file.read(len(_MAGIC))
    if start != _MAGIC and (start or (wal.exists() and wal.stat().st_size)):
        raise damaged(path, "it does not begin as a database")


def refuse_foreign(connection: sqlite3.Connection, path: Path) -> bool:
    """Return whether the database is empty, and so ours to set up.

    Raises:
        DatabaseForeignError: the file is another program's database.
        sqlite3.DatabaseError: it is not a database at all, or its header is damaged.
    """
    identity = pragma(connection, "application_id")
    if identity == APPLICATION_ID:
        return False
    if identity == 0 and connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
        return True
    raise DatabaseForeignError(
        f"{path}: a database of another program; move it away or choose another folder"
    )


def mark_as_ours(connection: sqlite3.Connection) -> None:
    """So that no other program's file is taken for ours, nor ours for another's."""
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def distrust_the_file(connection: sqlite3.Connection) -> None:
    """A damaged or forged file is to give an error, never to run code or to read beyond a page."""
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Look at every page and every index.

    Raises:
        DatabaseDamagedError: something is broken; the first findings are told.
    """
    _find(connection, path, "integrity_check")


def check_at_start(connection: sqlite3.Connection, path: Path) -> bool:
    """Look at the pages of a database that is not too large, for a time that a start can afford.

    Measured: 0.24 s for 207 MB in the system's cache (as after the server crashed), 2.2 s from a cold disk.
    So up to 512 MiB are looked at, for 2 s (before SQLite 3.41: until the table at hand is done). The rest is
    found when it is read: then commits end, and the server with them. `gnomon backup` looks at everything.

    Returns:
        Whether all was looked at.

    Raises:
        DatabaseDamagedError: something is broken; the first findings are told.
    """
    if int(pragma(connection, "page_count")) * int(pragma(connection, "page_size")) > _CHECKED_BYTES_MAXIMUM:
        return False
    end = time.monotonic() + _CHECK_TIME_S
    connection.set_progress_handler(lambda: time.monotonic() > end, 10_000)
    try:
        _find(connection, path, "quick_check")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return False
    finally:
        connection.set_progress_handler(None, 0)
    return True


def _find(connection: sqlite3.Connection, path: Path, kind: str) -> None:
    findings = "; ".join(str(row[0]) for row in connection.execute(f"PRAGMA {kind}(3)"))
    if findings != "ok":
        raise damaged(path, findings)


def _make_private(path: Path) -> None:
    """Others may not read it; SQLite gives -wal and -shm the same mode."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _make_shrinkable(connection: sqlite3.Connection) -> None:
    """Deleted pages go back to the disk in slices; only an empty database can be told so."""
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")


def _use_wal(connection: sqlite3.Connection, path: Path) -> None:
    """One sequential write and one fsync per commit, and readers that never wait for the writer."""
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise StorageError(f"{path}: this file system has no write-ahead log; use a local disk")


def _sync(connection: sqlite3.Connection, durability: Durability) -> None:
    """FULL syncs the WAL at each commit. NORMAL at checkpoints: a power cut may undo the last commits."""
    connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'fsync' else 'NORMAL'}")


def _checkpoint_rarely(connection: sqlite3.Connection) -> None:
    """A checkpoint runs inside a commit, which waits for it."""
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")


def _forget_without_overwriting(connection: sqlite3.Connection) -> None:
    """Some builds overwrite what is deleted with zeros; that costs writes, and the WAL has it still."""
    connection.execute("PRAGMA secure_delete = OFF")


def _cache(connection: sqlite3.Connection, kibibytes: int) -> None:
    """SQLite's default of 2 MiB holds no index of a large table; temporary tables stay in memory."""
    connection.execute(f"PRAGMA cache_size = -{kibibytes}")
    connection.execute("PRAGMA temp_store = MEMORY")


def _limit_size(connection: sqlite3.Connection, disk_bytes_maximum: int | None) -> None:
    """At the limit a write fails as on a full disk. A database that is larger already may only shrink."""
    if disk_bytes_maximum is not None:
        pages = max(1, disk_bytes_maximum // int(pragma(connection, "page_size")))
        connection.execute(f"PRAGMA max_page_count = {pages}")
