import asyncio
import os
import sqlite3
import threading
from functools import partial
from pathlib import Path

import pytest

from storage import (
    DatabaseDamagedError,
    DatabaseForeignError,
    DatabaseNewerError,
    Migrations,
    StorageError,
    backup,
    restore,
)
from storage_site import NUMBERS, insert, migrations, opened, stored


@pytest.fixture
def known(tmp_path: Path) -> Migrations:
    return migrations(tmp_path)


def _make(path: Path, known: Migrations, *values: int) -> Path:
    async def run() -> None:
        async with opened(path, known=[known]) as database:
            await database.commit(partial(insert, values=values))

    asyncio.run(run())
    return path


def test_a_copy_is_one_private_file_with_everything(tmp_path: Path, known: Migrations) -> None:
    source = _make(tmp_path / "test.db", known, *range(50_000))
    told: list[tuple[int, int]] = []
    size = backup(
        source, tmp_path / "copy", migrations=[known], progress=lambda done, of: told.append((done, of))
    )
    assert stored(tmp_path / "copy") == list(range(50_000))
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
    assert size == (tmp_path / "copy").stat().st_size
    assert told[-1] == (size, size)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["copy", "test.db"]


async def test_a_copy_taken_while_a_server_writes_is_one_state(tmp_path: Path, known: Migrations) -> None:
    """Each transaction puts in a hundred numbers: a copy with a part of one would show."""
    path = tmp_path / "test.db"
    steps: list[int] = []
    async with opened(path, known=[known]) as database:
        await database.commit(lambda connection: insert(connection, range(200_000)))
        copying = threading.Thread(
            target=backup,
            args=(path, tmp_path / "copy"),
            kwargs={"migrations": [known], "progress": lambda done, _: steps.append(done)},
        )
        copying.start()
        written = 200_000
        while copying.is_alive():
            await database.commit(partial(insert, values=range(written, written + 100)))
            written += 100
        copying.join()
    copied = stored(tmp_path / "copy")
    assert copied == list(range(len(copied)))
    assert len(copied) % 100 == 0
    assert steps == sorted(steps)
    assert written > 200_000
    assert stored(path) == list(range(written))


def test_a_file_that_stands_is_overwritten_only_when_told(tmp_path: Path, known: Migrations) -> None:
    source = _make(tmp_path / "test.db", known, 1)
    target = tmp_path / "copy"
    target.write_text("precious")
    with pytest.raises(StorageError, match="exists already"):
        backup(source, target, migrations=[known])
    assert target.read_text() == "precious"
    backup(source, target, migrations=[known], overwrite=True)
    assert stored(target) == [1]


def test_a_damaged_source_gives_no_copy(tmp_path: Path, known: Migrations) -> None:
    source = _make(tmp_path / "test.db", known, *range(100_000))
    with source.open("r+b") as file:
        file.seek(50 * 4096)
        file.write(os.urandom(4096))
    before = source.read_bytes()
    with pytest.raises(DatabaseDamagedError, match=r"test\.db: the database is damaged"):
        backup(source, tmp_path / "copy", migrations=[known])
    with pytest.raises(DatabaseDamagedError):
        restore(source, tmp_path / "other.db", migrations=[known])
    assert [path for path in tmp_path.iterdir() if path.is_file()] == [source]
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "kind"),
    [(None, StorageError), (b"", StorageError), (b"hello" * 1000, DatabaseDamagedError)],
)
def test_what_is_no_database_is_neither_copied_nor_restored(
    tmp_path: Path, known: Migrations, content: bytes | None, kind: type[StorageError]
) -> None:
    source, target = tmp_path / "source", tmp_path / "test.db"
    if content is not None:
        source.write_bytes(content)
    _make(target, known, 1)
    with pytest.raises(kind, match="source"):
        restore(source, target, migrations=[known])
    with pytest.raises(kind, match="source"):
        backup(source, tmp_path / "copy", migrations=[known])
    assert stored(target) == [1]
    assert not (tmp_path / "copy").exists()


def test_another_programs_database_is_not_restored(tmp_path: Path, known: Migrations) -> None:
    source = tmp_path / "source"
    connection = sqlite3.connect(source)
    connection.execute("CREATE TABLE other (id INTEGER)")
    connection.close()
    with pytest.raises(DatabaseForeignError):
        restore(source, tmp_path / "test.db", migrations=[known])


def test_a_newer_copy_is_not_restored(tmp_path: Path, known: Migrations) -> None:
    newer = migrations(tmp_path, NUMBERS | {"0002_b.sql": "CREATE TABLE b (c INTEGER);"})
    source = _make(tmp_path / "source", newer, 1)
    target = _make(tmp_path / "test.db", known, 2)
    with pytest.raises(DatabaseNewerError, match="source"):
        restore(source, target, migrations=[known])
    assert stored(target) == [2]


def test_restore_keeps_the_old_database_aside(tmp_path: Path, known: Migrations) -> None:
    source = _make(tmp_path / "source", known, 1)
    target = _make(tmp_path / "test.db", known, 2)
    aside = restore(source, target, migrations=[known])
    assert aside == tmp_path / "test.db.before-restore"
    assert stored(target) == [1]
    assert stored(aside) == [2]
    with pytest.raises(StorageError, match=r"before-restore: .*move it away"):
        restore(source, target, migrations=[known])
    assert stored(target) == [1]


def test_restore_where_nothing_was_keeps_nothing(tmp_path: Path, known: Migrations) -> None:
    source = _make(tmp_path / "source", known, 1)
    assert restore(source, tmp_path / "test.db", migrations=[known]) is None
    assert stored(tmp_path / "test.db") == [1]


def test_the_wal_of_a_killed_server_goes_aside_with_its_database(tmp_path: Path, known: Migrations) -> None:
    source = _make(tmp_path / "source", known, 1)
    target = _make(tmp_path / "test.db", known, 2)
    dead = sqlite3.connect(target, isolation_level=None)
    dead.execute("INSERT INTO number VALUES (3, NULL)")
    wal = Path(f"{target}-wal").read_bytes()
    dead.close()
    Path(f"{target}-wal").write_bytes(wal)
    aside = restore(source, target, migrations=[known])
    assert aside is not None
    assert stored(target) == [1]
    assert stored(aside) == [2, 3]


def test_the_remains_of_a_damaged_database_go_aside(tmp_path: Path, known: Migrations) -> None:
    source = _make(tmp_path / "source", known, 1)
    target = tmp_path / "test.db"
    target.write_bytes(b"not a database" * 500)
    Path(f"{target}-wal").write_bytes(b"nor a log")
    aside = restore(source, target, migrations=[known])
    assert aside is not None
    assert stored(target) == [1]
    assert aside.read_bytes() == b"not a database" * 500
    assert Path(f"{aside}-wal").read_bytes() == b"nor a log"


def test_a_restore_that_was_killed_before_its_end_can_be_repeated(tmp_path: Path, known: Migrations) -> None:
    source = _make(tmp_path / "source", known, 1)
    target = _make(tmp_path / "test.db", known, 2)
    os.link(target, tmp_path / "test.db.before-restore")
    (tmp_path / ".test.db.partial").write_bytes(b"half")
    aside = restore(source, target, migrations=[known])
    assert aside is not None
    assert (stored(target), stored(aside)) == ([1], [2])
