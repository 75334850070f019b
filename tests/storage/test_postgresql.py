"""The database behind PostgreSQL while the server works; test_postgresql_failures.py has the rest."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from postgresql import PASSWORD, ROLE, PostgresqlServer
from postgresql_site import Component, name_of, numbers, opened, put
from storage import (
    DatabaseInUseError,
    DatabaseNewerError,
    MigrationError,
    PostgresqlDatabase,
    StorageClosedError,
    StorageError,
    StorageSettings,
)
from storage.postgresql_connection import Connection, Server

_SETTINGS = StorageSettings()


@pytest.fixture
def component(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Component:
    monkeypatch.syspath_prepend(str(tmp_path))
    return Component(tmp_path)


@pytest.fixture
async def database(postgresql_url: str, component: Component) -> AsyncIterator[PostgresqlDatabase]:
    async with opened(postgresql_url, component.migrations()) as database:
        yield database


# ------------------------------------------------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:secret@host/gnomon",
        "postgresql://user@host/gnomon?password=secret",
        "postgresql://user@host/gnomon?sslkey=k&sslpassword=secret",
        "postgresql://user@host/gnomon?p%61ssword=secret",
    ],
)
def test_a_url_with_a_password_is_refused_and_the_password_not_repeated(url: str) -> None:
    with pytest.raises(StorageError, match="passfile") as refusal:
        Server.parse(url, _SETTINGS)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://host/gnomon",
        "postgresql:///gnomon",
        "postgresql://host",
        "postgresql://[::1/gnomon",
        "gnomon.db",
        "",
    ],
)
def test_a_url_that_names_no_host_or_no_database_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(StorageError, match="postgresql://USER@HOST/DATABASE"):
        Server.parse(url, _SETTINGS)


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        ("postgresql://u@db.example/gnomon", "?sslmode=verify-full"),
        ("postgresql://u@db1,db2:5433/gnomon?passfile=/p", "&sslmode=verify-full"),
        ("postgresql://u@/gnomon?host=db.example", "&sslmode=verify-full"),
        ("postgresql://u@/gnomon?host=/run/postgresql,db.example", "&sslmode=verify-full"),
        ("postgresql://u@db.example/gnomon?sslmode=disable", ""),
        ("postgresql://u@/gnomon?host=/run/postgresql", ""),
        ("postgresql://u@%2Frun%2Fpostgresql/gnomon", ""),
    ],
)
def test_over_tcp_the_server_must_prove_who_it_is_until_it_is_typed_otherwise(url: str, mode: str) -> None:
    assert Server.parse(url, _SETTINGS).url == url + mode


# ------------------------------------------------------------------------------------------------- migrations


async def test_a_new_database_gets_all_migrations_and_an_old_one_those_that_it_lacks(
    postgresql_server: PostgresqlServer, postgresql_url: str, component: Component
) -> None:
    async with opened(postgresql_url, component.migrations()) as database:
        await database.commit(put(1))
    component.add("0002_more.sql", "ALTER TABLE number ADD COLUMN more TEXT;\nCREATE TABLE other (a INT);")
    for _ in range(2):
        async with opened(postgresql_url, component.migrations()) as database:
            assert [tuple(row) for row in await database.fetch("SELECT value, more FROM number")] == [
                (1, None)
            ]
            rows = await database.fetch("SELECT component, number, name FROM migration ORDER BY number")
            assert [tuple(row) for row in rows] == [("test", 1, "first"), ("test", 2, "more")]


async def test_a_newer_database_is_refused(postgresql_url: str, component: Component) -> None:
    component.add("0002_more.sql", "CREATE TABLE more (a INT);")
    async with opened(postgresql_url, component.migrations()):
        pass
    component.remove("0002_more.sql")
    with pytest.raises(DatabaseNewerError, match="newer gnomon"):
        await PostgresqlDatabase.open(postgresql_url, _SETTINGS, migrations=component.migrations())


async def test_a_migration_that_was_changed_after_it_was_applied_is_refused(
    postgresql_url: str, component: Component
) -> None:
    async with opened(postgresql_url, component.migrations()):
        pass
    component.add("0001_first.sql", "CREATE TABLE another (a INT);")
    with pytest.raises(MigrationError, match="another form"):
        await PostgresqlDatabase.open(postgresql_url, _SETTINGS, migrations=component.migrations())


async def test_a_migration_that_fails_half_way_leaves_nothing(
    postgresql_server: PostgresqlServer, postgresql_url: str, component: Component
) -> None:
    component.add("0002_wrong.sql", "CREATE TABLE more (a INT);\nINSERT INTO more VALUES ('x');")
    with pytest.raises(StorageError, match="invalid input syntax"):
        await PostgresqlDatabase.open(postgresql_url, _SETTINGS, migrations=component.migrations())
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert postgresql_server.query(tables, name_of(postgresql_url)) == "0"


async def test_servers_that_start_together_migrate_once(postgresql_url: str, component: Component) -> None:
    migrations = component.migrations()
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(
                PostgresqlDatabase.open(postgresql_url, _SETTINGS, migrations=migrations, exclusive=False)
            )
            for _ in range(5)
        ]
    for task in tasks:
        await task.result().close()


# -------------------------------------------------------------------------------------------- who may connect


async def test_a_second_server_is_refused_and_told_who_the_first_is(
    database: PostgresqlDatabase, postgresql_url: str, component: Component
) -> None:
    with pytest.raises(DatabaseInUseError, match=r"in use by another server \(gnomon .*stop that one"):
        await PostgresqlDatabase.open(postgresql_url, _SETTINGS, migrations=component.migrations())
    await database.close()
    async with opened(postgresql_url, component.migrations()) as second:
        await second.commit(put(1))


async def test_several_may_share_a_database_that_nobody_has_for_himself(
    postgresql_url: str, component: Component
) -> None:
    migrations = component.migrations()
    async with (
        opened(postgresql_url, migrations, exclusive=False) as one,
        opened(postgresql_url, migrations, exclusive=False) as other,
    ):
        await one.commit(put(1))
        await other.commit(put(2))
        assert await numbers(one) == [1, 2]


async def test_over_tcp_with_a_passfile_and_the_servers_authority_everything_is_encrypted(
    postgresql_server: PostgresqlServer, postgresql_url: str, component: Component, tmp_path: Path
) -> None:
    passfile = tmp_path / "passfile"
    passfile.write_text(f"127.0.0.1:{postgresql_server.port}:*:{ROLE}:{PASSWORD}\n")
    passfile.chmod(0o600)
    authority = tmp_path / "authority.pem"
    authority.write_bytes(postgresql_server.certificate.read_bytes())
    url = f"{_tcp(postgresql_server, postgresql_url)}?passfile={passfile}&sslrootcert={authority}"
    async with opened(url, component.migrations()) as database:
        [row] = await database.fetch("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        assert row["ssl"]


async def test_a_server_whose_authority_is_not_known_gets_no_password(
    postgresql_server: PostgresqlServer, postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StorageError, match="root certificate file"):
        await PostgresqlDatabase.open(_tcp(postgresql_server, postgresql_url), _SETTINGS, migrations=())


@pytest.mark.parametrize(
    ("replaced", "by", "advice"),
    [
        ("/test_", "/missing_", "CREATE DATABASE"),
        ("host=/", "host=/nowhere/", "see whether the server runs"),
        ("gnomon@", "stranger@", "passfile"),
        ("?host=", "?sslmode=never&host=", "sslmode"),
    ],
)
async def test_an_error_of_opening_says_what_to_do(
    postgresql_url: str, replaced: str, by: str, advice: str
) -> None:
    with pytest.raises(StorageError, match=advice):
        await PostgresqlDatabase.open(postgresql_url.replace(replaced, by, 1), _SETTINGS, migrations=())


async def test_a_database_that_takes_no_writes_is_refused(
    postgresql_server: PostgresqlServer, postgresql_url: str
) -> None:
    postgresql_server.query(
        f"ALTER DATABASE {name_of(postgresql_url)} SET default_transaction_read_only = on"
    )
    with pytest.raises(StorageError, match="name the primary"):
        await PostgresqlDatabase.open(postgresql_url, _SETTINGS, migrations=())


async def test_a_database_that_cannot_hold_every_character_is_refused(
    postgresql_server: PostgresqlServer,
) -> None:
    postgresql_server.query(f"CREATE DATABASE latin OWNER {ROLE} ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(StorageError, match="ENCODING 'UTF8'"):
        await PostgresqlDatabase.open(postgresql_server.url("latin"), _SETTINGS, migrations=())
    postgresql_server.drop_database("latin")


# ---------------------------------------------------------------------------------------------------- commits


async def test_works_that_come_while_a_commit_runs_share_the_next_one(database: PostgresqlDatabase) -> None:
    futures = [database.commit(put(value)) for value in range(1000)]
    assert database.stats.works_waiting == 1000
    for future in futures:
        await future
    assert await numbers(database) == list(range(1000))
    assert (database.stats.works, database.stats.commits, database.stats.works_waiting) == (1000, 1, 0)


@pytest.mark.parametrize(
    ("settings", "commits"),
    [(StorageSettings(commit_rows_maximum=8), 10), (StorageSettings(commit_bytes_maximum=1024), 20)],
)
async def test_a_commit_takes_no_more_than_it_may(
    postgresql_url: str, component: Component, settings: StorageSettings, commits: int
) -> None:
    async with opened(postgresql_url, component.migrations(), settings=settings) as database:
        futures = [database.commit(put(value), rows=2, size_bytes=500) for value in range(40)]
        too_large = database.commit(put(40), rows=100, size_bytes=10_000)
        for future in (*futures, too_large):
            await future
        assert database.stats.commits == commits + 1


async def test_works_run_in_the_order_of_the_calls_and_their_results_come_back(
    database: PostgresqlDatabase,
) -> None:
    async def read_and_add(connection: Connection) -> int:
        value: int = await connection.fetchval("UPDATE counter SET value = value + 1 RETURNING value")
        return value

    futures = [database.commit(read_and_add) for _ in range(50)]
    assert [await future for future in futures] == list(range(1, 51))


async def _raise(_connection: Connection) -> None:
    raise ValueError("a defect")


async def _go_on_after_a_failed_statement(connection: Connection) -> None:
    with suppress(asyncpg.DivisionByZeroError):
        await connection.execute("SELECT 1 / 0")


async def _send_what_no_text_can_be(connection: Connection) -> None:
    await connection.execute("SELECT $1::text", "\x00")


async def _use_a_table_that_is_not_there(connection: Connection) -> None:
    await connection.execute("SELECT * FROM nothing")


@pytest.mark.parametrize(
    ("guilty", "error"),
    [
        (_raise, ValueError),
        (put(-1), asyncpg.CheckViolationError),
        (_go_on_after_a_failed_statement, asyncpg.InFailedSQLTransactionError),
        (_send_what_no_text_can_be, asyncpg.CharacterNotInRepertoireError),
        (_use_a_table_that_is_not_there, asyncpg.UndefinedTableError),
    ],
)
async def test_only_the_guilty_work_of_a_batch_fails(
    database: PostgresqlDatabase,
    guilty: Callable[[Connection], Awaitable[None]],
    error: type[Exception],
) -> None:
    before, wrong, after = database.commit(put(1)), database.commit(guilty), database.commit(put(2))
    await before
    await after
    with pytest.raises(error):
        await wrong
    assert await numbers(database) == [1, 2]
    assert database.stats.works_refused == 1
    assert database.health.failing_since is None


async def test_a_commit_that_the_server_turned_into_a_rollback_is_no_success(
    database: PostgresqlDatabase,
) -> None:
    with pytest.raises(asyncpg.InFailedSQLTransactionError):
        await database.commit(_go_on_after_a_failed_statement)


async def test_a_waiter_that_is_cancelled_takes_nobody_with_it(database: PostgresqlDatabase) -> None:
    cancelled, other = database.commit(put(1)), database.commit(put(2))
    cancelled.cancel()
    await other
    assert await numbers(database) == [1, 2]


async def test_the_items_of_a_batch_writer_are_written_together_after_the_works(
    database: PostgresqlDatabase,
) -> None:
    calls: list[list[int]] = []

    async def write(connection: Connection, values: Sequence[int]) -> None:
        assert await connection.fetchval("SELECT count(*) FROM number WHERE value = 100") == 1
        calls.append(list(values))
        await connection.execute("INSERT INTO number SELECT unnest($1::bigint[])", values)

    writer = database.batch_writer(write)
    futures = [writer.commit(value) for value in range(10)]
    futures.append(database.commit(put(100)))
    for future in futures:
        await future
    assert calls == [list(range(10))]
    assert await numbers(database) == [*range(10), 100]


async def test_only_the_guilty_item_of_a_batch_writer_fails(database: PostgresqlDatabase) -> None:
    async def write(connection: Connection, values: Sequence[int]) -> None:
        await connection.execute("INSERT INTO number SELECT unnest($1::bigint[])", values)

    writer = database.batch_writer(write)
    futures = [writer.commit(value) for value in (1, -1, 2)]
    await futures[0]
    await futures[2]
    with pytest.raises(asyncpg.CheckViolationError):
        await futures[1]
    assert await numbers(database) == [1, 2]


@pytest.mark.parametrize(("durability", "setting"), [("fsync", "on"), ("os", "off")])
async def test_a_commit_waits_for_the_servers_disk_if_the_settings_say_so(
    postgresql_url: str, component: Component, durability: str, setting: str
) -> None:
    settings = StorageSettings.model_validate({"durability": durability})
    async with opened(postgresql_url, component.migrations(), settings=settings) as database:
        assert (
            await database.commit(lambda connection: connection.fetchval("SHOW synchronous_commit"))
            == setting
        )


async def test_close_commits_what_waits_and_takes_nothing_after_it(
    postgresql_url: str, component: Component
) -> None:
    database = await PostgresqlDatabase.open(postgresql_url, _SETTINGS, migrations=component.migrations())
    futures = [database.commit(put(value)) for value in range(100)]
    await database.close()
    assert all(future.done() for future in futures)
    await database.close()
    with pytest.raises(StorageClosedError):
        database.commit(put(1))
    with pytest.raises(StorageClosedError):
        await database.fetch("SELECT 1")
    async with opened(postgresql_url, component.migrations()) as again:
        assert await numbers(again) == list(range(100))


# ------------------------------------------------------------------------------------------------------ reads


async def test_a_read_sees_one_state_of_the_database_to_its_end(database: PostgresqlDatabase) -> None:
    await database.commit(put(1))

    async def count_twice(connection: Connection) -> tuple[int, int]:
        before = await connection.fetchval("SELECT count(*) FROM number")
        await database.commit(put(2))
        return before, await connection.fetchval("SELECT count(*) FROM number")

    assert await database.read(count_twice) == (1, 1)
    assert await numbers(database) == [1, 2]
    assert database.stats.reads == 2


async def test_reads_cannot_write(database: PostgresqlDatabase) -> None:
    with pytest.raises(StorageError, match="read-only"):
        await database.fetch("INSERT INTO number VALUES (1)")
    with pytest.raises(StorageError, match="read-only"):
        await database.read(put(1))
    assert await numbers(database) == []


async def test_a_query_that_is_wrong_tells_so_and_the_session_is_used_again(
    postgresql_url: str, component: Component
) -> None:
    settings = StorageSettings(readers=1)
    async with opened(postgresql_url, component.migrations(), settings=settings) as database:
        for _ in range(3):
            with pytest.raises(asyncpg.UndefinedTableError):
                await database.read(_use_a_table_that_is_not_there)
            with pytest.raises(ValueError, match="a defect"):
                await database.read(_raise)
        assert await numbers(database) == []


async def test_more_reads_than_sessions_wait_for_each_other(database: PostgresqlDatabase) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(database.fetch("SELECT pg_backend_pid() AS pid")) for _ in range(50)]
    assert len({task.result()[0]["pid"] for task in tasks}) <= _SETTINGS.readers


def _tcp(server: PostgresqlServer, url: str) -> str:
    return f"postgresql://{ROLE}@127.0.0.1:{server.port}/{name_of(url)}"
