"""What goes wrong with a database, in words that say what to do.

Knows: which kinds of failure there are, how SQLite numbers them.
Does not know: who is told.
Spec: SQLite result codes.
"""

import errno
import sqlite3
from pathlib import Path
from typing import Final


class StorageError(Exception):
    """Root: the environment's fault. The text names the file (or the server) and what to do."""


class DatabaseDamagedError(StorageError):
    """The content cannot be trusted any more; nothing is read or written after it."""


class DatabaseForeignError(StorageError):
    """A database, and not one of ours."""


class DatabaseInUseError(StorageError):
    """Another server works on the database."""


class DatabaseNewerError(StorageError):
    """A newer release has changed the database in a way that this one does not know."""


class MigrationError(StorageError):
    """The migrations that were applied are not those that this release has."""


class StorageClosedError(StorageError):
    """The database was closed before this was done."""


#: Primary result codes after which the same statements may succeed later, and what to do until then.
TRANSIENT: Final = {
    sqlite3.SQLITE_BUSY: "another program holds the database's write lock; end that program",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened; check permissions and free file descriptors",
    sqlite3.SQLITE_FULL: "no room is left on the disk, or storage.disk_bytes_maximum is reached; make room",
    sqlite3.SQLITE_IOERR: "the disk fails; look at the system's log",
    sqlite3.SQLITE_LOCKED: "another program holds the database's write lock; end that program",
    sqlite3.SQLITE_NOMEM: "no memory is left; free some",
    sqlite3.SQLITE_PERM: "permission is missing; give it back",
    sqlite3.SQLITE_PROTOCOL: "another program disturbs the database's locks; end that program",
    sqlite3.SQLITE_READONLY: "the file or its file system is read-only; make it writable",
}
_OF_SYSTEM: Final = {
    errno.EACCES: sqlite3.SQLITE_PERM,
    errno.EDQUOT: sqlite3.SQLITE_FULL,
    errno.EIO: sqlite3.SQLITE_IOERR,
    errno.EMFILE: sqlite3.SQLITE_CANTOPEN,
    errno.ENFILE: sqlite3.SQLITE_CANTOPEN,
    errno.ENOSPC: sqlite3.SQLITE_FULL,
    errno.EPERM: sqlite3.SQLITE_PERM,
    errno.EROFS: sqlite3.SQLITE_READONLY,
}
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def primary_code(error: BaseException) -> int | None:
    """Return SQLite's primary result code, or the one that fits an error of the system; None for others."""
    if isinstance(error, MemoryError):  # What Python makes of SQLITE_NOMEM.
        return sqlite3.SQLITE_NOMEM
    if isinstance(error, OSError):
        return _OF_SYSTEM.get(error.errno or 0)
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def is_transient(error: BaseException) -> bool:
    """Whether the disk (or another program) is to blame, and a repetition may succeed."""
    return isinstance(error, sqlite3.Error | MemoryError) and primary_code(error) in TRANSIENT


def is_damage(error: BaseException) -> bool:
    """Whether the database's content is broken."""
    return primary_code(error) in _DAMAGED


def damaged(path: Path, finding: str) -> DatabaseDamagedError:
    """Return the error for a database with broken content."""
    return DatabaseDamagedError(
        f"{path}: the database is damaged ({finding}); restore a backup with `gnomon restore FILE`, "
        f"or save what can be read with `sqlite3 {path} .recover | sqlite3 recovered.db`"
    )


def storage_error(path: Path, error: BaseException) -> StorageError:
    """Return what to tell about an error of SQLite or of the operating system."""
    if isinstance(error, StorageError):
        return error
    if is_damage(error):
        return damaged(path, str(error))
    return StorageError(f"{path}: {reason(error)}")


def reason(error: BaseException) -> str:
    """Return one clause: what is wrong, and what to do where that is known."""
    advice = TRANSIENT.get(primary_code(error) or 0)
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{text or type(error).__name__}: {advice}" if advice else text or type(error).__name__
