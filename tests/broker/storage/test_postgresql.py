"""What only the PostgreSQL adapter does: what stands in its tables, and what a repeated commit leaves."""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import pytest
from asyncpg.connection import LoggedQuery

from broker.protocol.packets import ClientId, TopicFilter, TopicName
from broker.protocol.subscription import Subscription
from broker.session.flow import Flow
from broker.session.message import ApplicationMessage
from broker.session.records import Changes, DeliveryRow, SessionRow, Will
from broker.storage import SweptDelivery, _postgresql_reads, _postgresql_sweep
from broker.storage.postgresql import MIGRATIONS, PostgresqlStore
from postgresql import PostgresqlServer
from postgresql_site import Wire, name_of, opened
from storage import DatabaseDamagedError, PostgresqlConnection, PostgresqlDatabase, StorageClosedError

_TABLES = ("delivery", "inbound", "message", "retained", "session", "subscription", "will")


@pytest.fixture
async def database(postgresql_url: str) -> AsyncIterator[PostgresqlDatabase]:
    async with opened(postgresql_url, [MIGRATIONS]) as database:
        yield database


@pytest.fixture
def store(database: PostgresqlDatabase) -> PostgresqlStore:
    return PostgresqlStore(database)


def _message(payload: bytes = b"p", expires_at: float | None = None) -> ApplicationMessage:
    return ApplicationMessage(TopicName(b"t"), payload, 1, expires_at=expires_at)


def _sessions(*numbers: int) -> Changes:
    return Changes(
        sessions={
            number: SessionRow(number, "red", ClientId(f"c{number}"), 60, None, None) for number in numbers
        }
    )


def _put(rows: Iterable[int], session: int = 1, message: ApplicationMessage | None = None) -> Changes:
    return Changes(put={row: DeliveryRow(row, session, message or _message(), 1, False, ()) for row in rows})


async def _counts(database: PostgresqlDatabase) -> dict[str, int]:
    """How many rows each table has, without the empty ones."""
    tables = (*_TABLES, "dropped_session", "released_message")
    counts = {name: (await database.fetch(f"SELECT count(*) FROM {name}"))[0][0] for name in tables}  # noqa: S608
    return {name: count for name, count in counts.items() if count}


def _everything(number: int, rows: int = 20) -> Changes:
    """Every kind of change, for the session of this number and the one before it."""
    message = _message(expires_at=5.0)
    first = number * rows
    changes = _sessions(number)
    changes.sessions[number - 2] = None
    for place in range(rows):
        topic = TopicName(b"%d/%d" % (number, place))
        before = TopicName(b"%d/%d" % (number - 1, place))
        changes.put[first + place] = DeliveryRow(
            first + place, number, message if place % 2 else _message(), 1, False, ()
        )
        changes.subscriptions[number, TopicFilter(topic)] = Subscription(TopicFilter(topic))
        changes.subscriptions[number - 1, TopicFilter(before)] = None
        changes.inbound |= {(number, place + 1): True, (number - 1, place + 1): False}
        changes.wills["red", ClientId(f"{number}/{place}")] = Will(message, 0)
        changes.wills["red", ClientId(f"{number - 1}/{place}")] = None
        changes.retained |= {("red", topic): ApplicationMessage(topic, b""), ("red", before): None}
    changes.moved = {first - rows + place: (1, Flow.AWAIT_PUBACK) for place in range(5)}
    changes.dropped = [first - rows + place for place in range(5, 10)]
    return changes


async def test_a_message_for_many_stands_once_and_goes_with_its_last_delivery(
    database: PostgresqlDatabase, store: PostgresqlStore
) -> None:
    await store.commit(_sessions(1))
    await store.commit(_put(range(1, 4), message=_message(b"first")))
    await store.commit(_put(range(4, 7), message=_message(b"second")))
    await store.commit(Changes(dropped=[1, 2]))
    await store.sweep(0.0, messages=10)
    assert await _counts(database) == {"session": 1, "delivery": 4, "message": 2}
    await store.commit(_put([3], message=_message(b"replaced")))
    await store.sweep(0.0, messages=10)
    assert await _counts(database) == {"session": 1, "delivery": 4, "message": 1}
    page = await store.read_pending(1, after=0, messages=10, size_bytes=1000)
    assert [each.message.payload for each in page.deliveries] == [b"replaced", *[b"second"] * 3]


async def test_dropped_sessions_and_their_messages_are_cleared_a_few_rows_at_a_time(
    database: PostgresqlDatabase, store: PostgresqlStore
) -> None:
    await store.commit(_sessions(1, 2, 3))
    for first in range(1, 11, 2):
        await store.commit(_put([first, first + 1], 1, _message()))
    await store.commit(_put(range(11, 21), 2, _message()))
    await store.commit(Changes(moved={1: (1, Flow.AWAIT_PUBACK), 20: (1, Flow.AWAIT_PUBACK)}))
    await store.commit(Changes(sessions={1: None, 2: None, 3: None}))
    assert await _counts(database) == {"delivery": 20, "message": 6, "dropped_session": 3}
    left = []
    for _ in range(8):
        await store.sweep(0.0, messages=3)
        left.append((await _counts(database)).get("delivery", 0))
    assert left == [17, 14, 11, 8, 5, 2, 0, 0]
    assert await _counts(database) == {}


async def test_a_sweep_without_anything_to_do_writes_nothing(
    database: PostgresqlDatabase, store: PostgresqlStore
) -> None:
    await store.commit(_sessions(1))
    await store.commit(_put([1], message=_message(expires_at=5.0)))
    before = database.stats.commits
    assert list(await store.sweep(4.0, messages=10)) == []
    assert database.stats.commits == before
    assert len(await store.sweep(5.0, messages=10)) == 1


async def test_in_the_end_nothing_is_left_of_any_change(
    database: PostgresqlDatabase, store: PostgresqlStore
) -> None:
    for number in range(3, 9):
        await store.commit(_everything(number))
    assert (await _counts(database)).keys() == {*_TABLES, "dropped_session", "released_message"}
    undone = Changes(sessions=dict.fromkeys(range(1, 9)))
    undone.wills = dict.fromkeys(_everything(8).wills)
    undone.retained = dict.fromkeys(_everything(8).retained)
    await store.commit(undone)
    for _ in range(40):
        assert list(await store.sweep(1e12, messages=5)) == []
    assert await _counts(database) == {}


async def test_a_commit_without_an_answer_is_repeated_and_leaves_the_same(
    postgresql_server: PostgresqlServer, postgresql_url: str
) -> None:
    async with (
        Wire(postgresql_server) as wire,
        opened(wire.url(name_of(postgresql_url)), [MIGRATIONS]) as database,
    ):
        store = PostgresqlStore(database)
        await store.commit(_everything(3))
        before = await store.load()
        wire.cut_after = b"COMMIT"
        await store.commit(_everything(3))
        assert database.stats.retries == 1
        assert await store.load() == before
        await store.sweep(0.0, messages=10)
        assert (await _counts(database))["message"] == 1


async def test_a_sweep_without_an_answer_tells_what_it_deleted(
    postgresql_server: PostgresqlServer, postgresql_url: str
) -> None:
    async with (
        Wire(postgresql_server) as wire,
        opened(wire.url(name_of(postgresql_url)), [MIGRATIONS]) as database,
    ):
        store = PostgresqlStore(database)
        await store.commit(_sessions(1))
        for row in range(1, 5):
            await store.commit(_put([row], message=_message(expires_at=float(row))))
        wire.cut_after = b"COMMIT"
        assert list(await store.sweep(9.0, messages=2)) == [SweptDelivery(1, 1, 2), SweptDelivery(1, 2, 2)]
        assert database.stats.retries == 1
        assert (await _counts(database))["delivery"] == 2


async def test_no_statement_looks_at_a_whole_table(
    postgresql_server: PostgresqlServer, postgresql_url: str
) -> None:
    """At a million rows a scan inside a commit is an outage; the server knew small tables."""
    setting = "SET LOCAL enable_seqscan TO DEFAULT"
    seen: dict[str, tuple[str, Sequence[Any]]] = {
        _postgresql_reads.READ_PAGE: (setting, (1_000, 0, 10, 100)),
        _postgresql_sweep.LOOK: (setting, (0.0,)),
    }

    def see(query: LoggedQuery) -> None:
        nonlocal setting
        if query.query.startswith("SET LOCAL"):
            setting = query.query
        elif query.query.startswith(("INSERT", "UPDATE", "DELETE", "SELECT")):
            seen[query.query] = (setting, query.args)

    async def plans(connection: PostgresqlConnection) -> list[tuple[str, str]]:
        connection.remove_query_logger(see)
        found = []
        for statement, (its_setting, parameters) in seen.items():
            await connection.execute(its_setting)
            for (line,) in await connection.fetch(f"EXPLAIN {statement}", *parameters):
                found.append((line.strip(), statement))
        return found

    async def begin(connection: PostgresqlConnection) -> None:
        connection.add_query_logger(see)

    async with opened(f"{postgresql_url}", [MIGRATIONS]) as database:
        store = PostgresqlStore(database)
        for number in range(3, 6):
            await store.commit(_everything(number))
            await store.sweep(10.0, messages=5)
        postgresql_server.query("VACUUM ANALYZE", name_of(postgresql_url))
        many = _everything(100, 20_000)
        many.sessions |= _sessions(*range(1_000, 21_000)).sessions
        for row in range(3_000_000, 3_020_000, 2):
            many.put |= _put([row, row + 1], 1_000, _message()).put
        await store.commit(many)
        await database.commit(begin)
        for number in range(500_000, 500_003):
            await store.commit(_everything(number, 10))
            await store.sweep(10.0, messages=5)
        found = await database.commit(plans)
    assert all(any(f" on {table} " in line for line, _ in found) for table in _TABLES)
    assert [each for each in found if any(f"Seq Scan on {table} " in each[0] for table in _TABLES)] == []


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE delivery SET rare = '\\xc1'",
        "UPDATE delivery SET topic = NULL",
        "UPDATE delivery SET message = 77, topic = NULL, payload = NULL",
        "UPDATE delivery SET flow = 77, packet_id = 1",
        "UPDATE session SET client_id = '\\xff'",
    ],
)
async def test_values_that_are_none_of_ours_count_as_damage(
    database: PostgresqlDatabase, store: PostgresqlStore, damage: str
) -> None:
    await store.commit(_sessions(1))
    await store.commit(_put([1]))
    await database.commit(lambda connection: connection.execute(damage))
    is_loaded = "packet_id" in damage or "client_id" in damage
    read = store.load() if is_loaded else store.read_pending(1, after=0, messages=1, size_bytes=1)
    with pytest.raises(DatabaseDamagedError, match="restore a backup"):
        await read


async def test_a_closed_database_takes_and_gives_nothing(
    database: PostgresqlDatabase, store: PostgresqlStore
) -> None:
    await database.close()
    with pytest.raises(StorageClosedError):
        store.commit(_sessions(1))
    with pytest.raises(StorageClosedError):
        await store.load()
    with pytest.raises(StorageClosedError):
        await store.read_pending(1, after=0, messages=1, size_bytes=1)
    with pytest.raises(StorageClosedError):
        await store.sweep(0.0, messages=1)
