"""Copy a database while a server writes to it, and put a copy back.

Knows: SQLite's online backup, in which order files are synced and renamed.
Does not know: who holds the data folder's lock, how progress is shown.
Spec: SQLite, "Online Backup API".
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from .errors import StorageError, damaged, reason, storage_error
from .migrations import Migrations
from .sqlite_schema import schema_pending
from .sqlite_setup import check, connect, distrust_the_file, pragma, refuse_foreign, refuse_garbage

#: Bytes done, bytes in all.
Progress = Callable[[int, int], None]

_STEP_PAGES: Final = 2048
_ASIDE: Final = ".before-restore"
_COMPANIONS: Final = ("-wal", "-shm")


def backup(
    source: Path,
    target: Path,
    *,
    migrations: Sequence[Migrations],
    progress: Progress | None = None,
    overwrite: bool = False,
) -> int:
    """Copy a database into one file, as it is at this moment; a server may be writing to it.

    The copy is checked before it gets its name, so that a `target` is always whole. Until the end the
    source's WAL cannot start over, and grows with what is written meanwhile.

    Returns:
        The size of the copy in bytes.

    Raises:
        StorageError: `target` exists (unless `overwrite`) or is the source; a file cannot be read or written.
        DatabaseDamagedError, DatabaseForeignError, DatabaseNewerError, MigrationError: the source is no good.
    """
    if target.exists() and (not overwrite or target.samefile(source)):
        raise StorageError(f"{target}: exists already; choose another name")
    partial = target.with_name(f".{target.name}.partial")
    with _new_file(partial):
        _copy(source, partial, migrations, progress)
        _sync(partial)
        partial.replace(target)
        _sync(target.parent)
    return target.stat().st_size


def restore(
    source: Path, target: Path, *, migrations: Sequence[Migrations], progress: Progress | None = None
) -> Path | None:
    """Put a copy in the place of a database. The caller holds the lock of its folder.

    Nothing is changed until the copy was checked. A crash in between leaves the old database or the new one.

    Returns:
        Where the old database is now; None if there was none.

    Raises:
        StorageError: as of `backup`; or an older restore's leftover stands in the way.
    """
    partial = target.with_name(f".{target.name}.partial")
    with _new_file(partial):
        _copy(source, partial, migrations, progress)
        _sync(partial)
        aside = _put_aside(target) if target.exists() else None
        for suffix in _COMPANIONS:  # Else SQLite would replay the old WAL into the new file.
            _beside(target, suffix).unlink(missing_ok=True)
        partial.replace(target)
        _sync(target.parent)
    return aside


def _copy(source: Path, target: Path, migrations: Sequence[Migrations], progress: Progress | None) -> None:
    if not source.is_file():
        raise StorageError(f"{source}: no such file; name a database")
    refuse_garbage(source)
    try:
        with contextlib.closing(connect(source, "rw" if os.access(source, os.W_OK) else "ro")) as origin:
            distrust_the_file(origin)
            if refuse_foreign(origin, source):
                raise damaged(source, "it is empty")
            schema_pending(origin, source, migrations)
            with contextlib.closing(connect(target, "rw")) as copy:
                copy.execute("PRAGMA synchronous = OFF")  # It is synced as a whole, before it gets its name.
                # A reading transaction: all steps copy one state, and no writer makes them start over.
                origin.execute("BEGIN")
                origin.execute("SELECT count(*) FROM sqlite_schema").fetchone()
                origin.backup(copy, pages=_STEP_PAGES, progress=_in_bytes(origin, progress))
                origin.execute("ROLLBACK")
                copy.execute("PRAGMA journal_mode = DELETE")  # One file, without companions.
                check(copy, source)
    except sqlite3.Error as error:
        raise storage_error(source, error) from error


def _in_bytes(origin: sqlite3.Connection, progress: Progress | None) -> Callable[[int, int, int], None]:
    page_size = int(pragma(origin, "page_size"))

    def tell(_status: int, remaining: int, total: int) -> None:
        if progress is not None:
            progress((total - remaining) * page_size, total * page_size)

    return tell


def _put_aside(target: Path) -> Path:
    """Give the old database a second name, so that its first one can be taken in one step."""
    aside = target.with_name(f"{target.name}{_ASIDE}")
    for suffix in ("", "-wal"):
        old_name, new_name = _beside(target, suffix), _beside(aside, suffix)
        if old_name.exists() and not (new_name.exists() and new_name.samefile(old_name)):
            try:
                os.link(old_name, new_name)
            except FileExistsError:
                raise StorageError(
                    f"{new_name}: the database from before an earlier restore; move it away or delete it"
                ) from None
    _sync(target.parent)
    # Whole without its WAL, if it is not damaged. Only now: SQLite deletes the WAL of some that are.
    with contextlib.suppress(sqlite3.Error), contextlib.closing(connect(target, "rw")) as old:
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    old_wal = _beside(aside, "-wal")
    if old_wal.exists() and old_wal.stat().st_size == 0:
        old_wal.unlink()
    return aside


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}{suffix}")


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[None]:
    """Make an empty file that others cannot read; it is gone at the end, unless renamed.

    Raises:
        StorageError: a file operation failed.
    """
    try:
        path.unlink(missing_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            yield
        finally:
            for suffix in ("", "-journal", *_COMPANIONS):
                _beside(path, suffix).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{error.filename or path}: {reason(error)}") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
