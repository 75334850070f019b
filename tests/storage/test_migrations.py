import hashlib
import sqlite3
from pathlib import Path

import pytest

from storage import (
    DatabaseNewerError,
    MigrationError,
    Migrations,
    SqliteDatabase,
    StorageSettings,
    statements,
)
from storage_site import NUMBERS, migrations, opened, stored

_SECOND = {"0002_second.sql": "CREATE TABLE second (id INTEGER) STRICT;\nINSERT INTO second VALUES (1);\n"}


async def _open(path: Path, *known: Migrations) -> None:
    async with opened(path, known=known):
        pass


def _applied(path: Path) -> list[tuple[str, int, str]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT component, number, name FROM migration ORDER BY 1, 2").fetchall()
    finally:
        connection.close()


async def test_each_component_is_brought_up_to_date_once(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    await _open(path, migrations(tmp_path))
    both = migrations(tmp_path, NUMBERS | _SECOND)
    other = migrations(tmp_path, {"0001_other.sql": "CREATE TABLE other (id INTEGER) STRICT;"}, "other")
    for _ in range(2):
        await _open(path, both, other)
    assert _applied(path) == [("other", 1, "other"), ("test", 1, "numbers"), ("test", 2, "second")]


async def test_the_digest_of_a_file_is_kept(tmp_path: Path) -> None:
    (first,) = migrations(tmp_path).load("sqlite")
    assert first.sha256 == hashlib.sha256(NUMBERS["0001_numbers.sql"].encode()).hexdigest()


async def test_a_newer_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    older = migrations(tmp_path)
    await _open(path, migrations(tmp_path, NUMBERS | _SECOND))
    before = path.read_bytes()
    with pytest.raises(
        DatabaseNewerError, match=r"test\.db: made by a newer gnomon \(test 2 .* restore FILE"
    ):
        await _open(path, older)
    assert path.read_bytes() == before


async def test_a_component_that_this_release_does_not_know_makes_a_database_newer(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    known = migrations(tmp_path)
    await _open(path, known, migrations(tmp_path, {"0001_a.sql": "CREATE TABLE a (b);"}, "later"))
    with pytest.raises(DatabaseNewerError, match="later 1"):
        await _open(path, known)


async def test_an_edited_migration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    await _open(path, migrations(tmp_path))
    edited = {"0001_numbers.sql": NUMBERS["0001_numbers.sql"] + "-- a harmless remark\n"}
    with pytest.raises(MigrationError, match="another form"):
        await _open(path, migrations(tmp_path, edited))


async def test_a_migration_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    await _open(path, migrations(tmp_path))
    broken = {"0002_broken.sql": "CREATE TABLE half (id INTEGER);\nINSERT INTO missing VALUES (1);\n"}
    other = migrations(tmp_path, {"0001_other.sql": "CREATE TABLE other (id INTEGER);"}, "another")
    with pytest.raises(Exception, match="no such table: missing"):
        await _open(path, other, migrations(tmp_path, NUMBERS | broken))
    assert _applied(path) == [("test", 1, "numbers")]
    await _open(path, migrations(tmp_path, NUMBERS | _SECOND))
    assert stored(path) == []


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({}, id="none"),
        pytest.param({"0002_second.sql": ""}, id="gap"),
        pytest.param({"0001_a.sql": "", "0001_b.sql": ""}, id="twice"),
        pytest.param({"1_first.sql": ""}, id="name"),
        pytest.param({"0001_a.sql": "CREATE TABLE a (b)"}, id="no end"),
    ],
)
async def test_wrong_files_are_a_broken_installation(tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(MigrationError, match="install again"):
        await SqliteDatabase.open(
            tmp_path / "test.db", StorageSettings(), migrations=[migrations(tmp_path, files)]
        )


def test_a_script_is_split_where_statements_end() -> None:
    trigger = "CREATE TRIGGER t AFTER INSERT ON a BEGIN\n  DELETE FROM b;\n  DELETE FROM c;\nEND;"
    script = f"-- A remark; with a semicolon.\nCREATE TABLE a (b);\n\n{trigger}\n-- The end.\n"
    first, second = statements(script)
    assert first.endswith("CREATE TABLE a (b);")
    assert second.strip() == trigger
