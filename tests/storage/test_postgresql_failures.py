"""The database behind PostgreSQL while the server fails: nobody is told what is not true."""

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import asyncpg
import pytest

from postgresql import PostgresqlServer, running_postgresql
from postgresql_site import Component, Wire, fail_with, name_of, numbers, opened, put, until
from storage import (
    DatabaseDamagedError,
    DatabaseInUseError,
    PostgresqlDatabase,
    StorageClosedError,
    StorageError,
    StorageSettings,
)

_HOLDERS = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
_WAITERS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
_END_SESSIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name LIKE 'gnomon %'"
)


@pytest.fixture
def component(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Component:
    monkeypatch.syspath_prepend(str(tmp_path))
    return Component(tmp_path)


@pytest.fixture
async def database(postgresql_url: str, component: Component) -> AsyncIterator[PostgresqlDatabase]:
    async with opened(postgresql_url, component.migrations()) as database:
        yield database


@pytest.fixture
async def wire(postgresql_server: PostgresqlServer) -> AsyncIterator[Wire]:
    async with Wire(postgresql_server) as wire:
        yield wire


async def test_nothing_acknowledged_is_lost_when_the_server_is_killed_again_and_again(
    component: Component,
) -> None:
    acknowledged: list[int] = []
    values = count()
    stop = asyncio.Event()

    async def write(database: PostgresqlDatabase) -> None:
        while not stop.is_set():
            value = next(values)
            await database.commit(put(value))
            acknowledged.append(value)

    with running_postgresql() as server:
        name = server.new_database()
        async with opened(server.url(name), component.migrations()) as database:
            async with asyncio.TaskGroup() as group:
                for _ in range(20):
                    group.create_task(write(database))
                for _ in range(5):
                    await _grown(acknowledged, by=300)
                    server.kill()
                    await until(lambda: database.health.failing_since is not None)
                    at_death = len(acknowledged)
                    server.start()
                    stored = server.query("SELECT string_agg(value::text, ' ') FROM number", name).split()
                    assert set(map(str, acknowledged[:at_death])) <= set(stored)
                stop.set()
            assert database.health.failing_since is None
            assert set(acknowledged) == set(await numbers(database))
            assert database.stats.failures == 5


async def _grown(values: list[int], *, by: int) -> None:
    enough = len(values) + by
    await until(lambda: len(values) >= enough)


async def test_a_commit_whose_answer_was_lost_is_repeated_and_told_once(
    wire: Wire, postgresql_url: str, component: Component
) -> None:
    async with opened(wire.url(name_of(postgresql_url)), component.migrations()) as database:
        wire.cut_after = b"COMMIT"
        await database.commit(put(1))
        assert wire.cut_after is None
        assert database.stats.retries == 1
        assert await numbers(database) == [1]


async def test_our_own_session_that_the_server_still_believes_in_does_not_lock_us_out(
    wire: Wire, postgresql_server: PostgresqlServer, postgresql_url: str, component: Component
) -> None:
    async with opened(wire.url(name_of(postgresql_url)), component.migrations()) as database:
        before = postgresql_server.query(_HOLDERS)
        assert before
        wire.cut()
        await database.commit(put(1))
        assert postgresql_server.query(_HOLDERS) not in ("", before)


async def test_a_server_that_does_not_answer_is_given_up_and_asked_anew(
    wire: Wire, postgresql_url: str, component: Component, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.postgresql_connection._ANSWER_TIMEOUT_S", 0.2)
    monkeypatch.setattr("storage.postgresql_connection._CONNECT_TIMEOUT_S", 0.2)
    async with opened(wire.url(name_of(postgresql_url)), component.migrations()) as database:
        wire.is_open.clear()
        future = database.commit(put(1))
        await until(lambda: database.health.failing_since is not None)
        assert "no answer in time" in database.health.reason
        with pytest.raises(StorageError, match="no answer in time"):
            await numbers(database)
        assert not future.done()
        wire.is_open.set()
        await future
        assert database.health.failing_since is None
        assert await numbers(database) == [1]


async def test_a_session_that_ends_while_nothing_is_written_is_renewed_at_once(
    database: PostgresqlDatabase, postgresql_server: PostgresqlServer, postgresql_url: str
) -> None:
    [before] = postgresql_server.query(_HOLDERS).splitlines()
    postgresql_server.query(_END_SESSIONS, name_of(postgresql_url))
    await until(lambda: postgresql_server.query(_HOLDERS) not in ("", before))
    await database.commit(put(1))


async def test_a_server_that_lost_its_database_to_another_one_stops_for_good(
    database: PostgresqlDatabase, postgresql_server: PostgresqlServer, postgresql_url: str
) -> None:
    other = await asyncpg.connect(postgresql_url)
    async with asyncio.TaskGroup() as group:
        lock = "SELECT pg_advisory_lock(classid::int, objid::int) FROM pg_locks WHERE locktype = 'advisory'"
        group.create_task(other.execute(lock))
        await until(lambda: postgresql_server.query(_WAITERS) == "1")
        postgresql_server.query(_END_SESSIONS, name_of(postgresql_url))
    waiting = database.commit(put(2))
    assert isinstance(await database.failed(), DatabaseInUseError)
    with pytest.raises(DatabaseInUseError, match="another server"):
        await waiting
    with pytest.raises(DatabaseInUseError):
        database.commit(put(3))
    assert database.health.failing_since is not None
    await other.close()


async def test_a_conflict_with_another_program_is_repeated_without_a_word(
    database: PostgresqlDatabase,
) -> None:
    future = database.commit(fail_with("40P01", times=3))
    assert await future == 4
    assert (database.stats.retries, database.stats.failures) == (3, 0)


@pytest.mark.parametrize(
    ("sqlstate", "advice"),
    [("53100", "give the server disk"), ("57014", "server's log"), ("58030", "disk or system fails")],
)
async def test_while_the_server_cannot_write_nobody_is_told_and_afterwards_everybody(
    database: PostgresqlDatabase, sqlstate: str, advice: str
) -> None:
    first = database.commit(fail_with(sqlstate, times=3))
    await until(lambda: database.health.failing_since is not None)
    later = database.commit(put(1))
    assert advice in database.health.reason
    assert not first.done()
    assert await first == 4
    await later
    assert database.health.failing_since is None
    assert (database.stats.failures, database.stats.retries) == (1, 3)


@pytest.mark.parametrize("sqlstate", ["XX001", "XX002"])
async def test_after_damage_nothing_is_written_any_more(database: PostgresqlDatabase, sqlstate: str) -> None:
    future = database.commit(fail_with(sqlstate, times=1))
    waiting = database.commit(put(1))
    assert isinstance(await database.failed(), DatabaseDamagedError)
    for each in (future, waiting):
        with pytest.raises(DatabaseDamagedError, match="restore a backup"):
            await each
    with pytest.raises(DatabaseDamagedError):
        database.commit(put(1))


async def test_damage_that_a_read_finds_ends_the_writing_too(database: PostgresqlDatabase) -> None:
    with pytest.raises(DatabaseDamagedError):
        await database.read(fail_with("XX001", times=1))
    with pytest.raises(DatabaseDamagedError):
        database.commit(put(1))


async def test_close_does_not_wait_for_ever_for_a_server_that_is_gone(
    component: Component, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.postgresql._CLOSE_TIMEOUT_S", 0.3)
    with running_postgresql() as server:
        url = server.url(server.new_database())
        database = await PostgresqlDatabase.open(url, StorageSettings(), migrations=component.migrations())
        server.stop()
        futures = [database.commit(put(value)) for value in range(3)]
        with pytest.raises(StorageError, match="see whether the server runs"):
            await numbers(database)
        await database.close()
    for future in futures:
        with pytest.raises(StorageClosedError, match="closed before it was stored"):
            await future
