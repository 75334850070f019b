"""What only the SQLite adapter does: what stands in its tables, and how it gets there and away."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from broker.protocol.packets import ClientId, TopicFilter, TopicName
from broker.protocol.subscription import Subscription
from broker.session.flow import Flow
from broker.session.message import ApplicationMessage
from broker.session.records import Changes, DeliveryRow, SessionRow, Will
from broker.storage import _sqlite_reads, _sqlite_sweep
from broker.storage.sqlite import MIGRATIONS, SqliteStore
from storage import DatabaseDamagedError, SqliteDatabase, StorageClosedError, StorageSettings

_TABLES = ("session", "subscription", "inbound", "delivery", "message", "will", "retained")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = await SqliteDatabase.open(
        tmp_path / "gnomon.db", StorageSettings(durability="os"), migrations=[MIGRATIONS]
    )
    yield database
    await database.close()


@pytest.fixture
def store(database: SqliteDatabase) -> SqliteStore:
    return SqliteStore(database)


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


async def _counts(database: SqliteDatabase) -> dict[str, int]:
    """How many rows each table has, without the empty ones."""
    tables = (*_TABLES, "dropped_session", "released_message")
    counts = {name: (await database.fetch(f"SELECT count(*) FROM {name}"))[0][0] for name in tables}  # noqa: S608
    return {name: count for name, count in counts.items() if count}


def _everything(number: int) -> Changes:
    """Every kind of change, puts and drops; `number` is that of the session and of the first row."""
    kept, gone = number % 2 == 0, number % 2 == 1
    shared = _message(expires_at=5.0)
    topic_filters = [TopicFilter(b"f%d" % each) for each in range(20)]
    return Changes(
        sessions={**_sessions(number).sessions, number - 2: None},
        subscriptions={(number - gone, each): Subscription(each) if kept else None for each in topic_filters},
        put={
            row: DeliveryRow(row, number, shared if row % 2 else _message(), 1, False, ())
            for row in range(number * 100, number * 100 + 20)
        },
        moved={row: (1, Flow.AWAIT_PUBACK) for row in range((number - 1) * 100, (number - 1) * 100 + 5)},
        dropped=[(number - 1) * 100 + 6],
        inbound={(number - gone, each): kept for each in range(1, 20)},
        wills={("red", ClientId(f"{each}")): Will(shared, 0) if kept else None for each in range(20)},
        retained={
            ("red", topic): ApplicationMessage(topic, b"") if kept else None
            for topic in (TopicName(b"%d" % each) for each in range(20))
        },
    )


async def test_a_message_for_many_stands_once(database: SqliteDatabase, store: SqliteStore) -> None:
    shared, own = _message(b"x" * 1000), _message()
    changes = _sessions(1, 2, 3)
    for row in range(1, 31):
        changes.put[row] = DeliveryRow(row, 1 + row % 3, own if row == 30 else shared, 1, False, ())
    await store.commit(changes)
    assert (await _counts(database))["message"] == 1
    assert await database.fetch(
        "SELECT count(*), sum(length(payload)) FROM delivery WHERE message IS NULL"
    ) == [(1, 1)]


async def test_a_shared_message_goes_with_its_last_delivery(
    database: SqliteDatabase, store: SqliteStore
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


async def test_shared_messages_keep_their_numbers_when_another_process_goes_on(
    database: SqliteDatabase, store: SqliteStore
) -> None:
    await store.commit(_sessions(1))
    await store.commit(_put([1, 2], message=_message(b"before")))
    again = SqliteStore(database)
    await again.commit(_put([3, 4], message=_message(b"after")))
    page = await again.read_pending(1, after=0, messages=10, size_bytes=1000)
    assert [each.message.payload for each in page.deliveries] == [b"before"] * 2 + [b"after"] * 2


async def test_released_messages_are_looked_at_a_few_at_a_time(
    database: SqliteDatabase, store: SqliteStore
) -> None:
    await store.commit(_sessions(1))
    for first in range(1, 20, 2):
        await store.commit(_put([first, first + 1], message=_message()))
    await store.commit(Changes(dropped=list(range(1, 21))))
    left = []
    for _ in range(4):
        await store.sweep(0.0, messages=3)
        left.append((await _counts(database)).get("message", 0))
    assert left == [7, 4, 1, 0]


async def test_dropped_sessions_are_cleared_a_few_rows_at_a_time(
    database: SqliteDatabase, store: SqliteStore
) -> None:
    await store.commit(_sessions(1, 2, 3))
    await store.commit(_put(range(1, 11), 1, _message()))
    await store.commit(_put(range(11, 21), 2, _message()))
    await store.commit(Changes(sessions={1: None, 2: None, 3: None}))
    assert await _counts(database) == {"delivery": 20, "message": 2, "dropped_session": 3}
    left = []
    for _ in range(8):
        await store.sweep(0.0, messages=3)
        left.append((await _counts(database)).get("delivery", 0))
    assert left == [17, 14, 11, 8, 5, 2, 0, 0]
    assert await _counts(database) == {}


async def test_a_sweep_without_anything_to_do_writes_nothing(
    database: SqliteDatabase, store: SqliteStore
) -> None:
    await store.commit(_sessions(1))
    await store.commit(_put([1], message=_message(expires_at=5.0)))
    before = database.stats.commits
    assert list(await store.sweep(4.0, messages=10)) == []
    assert database.stats.commits == before
    assert len(await store.sweep(5.0, messages=10)) == 1


async def test_in_the_end_nothing_is_left_of_any_change(database: SqliteDatabase, store: SqliteStore) -> None:
    for number in range(3, 9):
        await store.commit(_everything(number))
    undone = Changes(sessions=dict.fromkeys(range(1, 9)))
    undone.wills = {key: None for key in _everything(4).wills}
    undone.retained = {key: None for key in _everything(4).retained}
    await store.commit(undone)
    for _ in range(40):
        assert list(await store.sweep(1e12, messages=5)) == []
    assert await _counts(database) == {}


async def test_rows_that_were_swept_may_move_and_drop(store: SqliteStore) -> None:
    await store.commit(_sessions(1))
    await store.commit(_put([1, 2], message=_message(expires_at=5.0)))
    assert len(await store.sweep(5.0, messages=10)) == 2
    await store.commit(Changes(moved={1: (1, Flow.AWAIT_PUBACK)}, dropped=[2]))
    assert (await store.load()).sessions[1].in_flight == []


async def test_no_statement_looks_at_a_whole_table(database: SqliteDatabase, store: SqliteStore) -> None:
    """At a million rows a scan inside a commit is an outage."""
    seen: list[str] = []
    await database.commit(lambda connection: connection.set_trace_callback(seen.append))
    for number in range(3, 7):
        await store.commit(_everything(number))
        await store.sweep(10.0, messages=5)
    await database.commit(lambda connection: connection.set_trace_callback(None))
    statements = {each for each in seen if each.startswith(("INSERT", "UPDATE", "DELETE", "SELECT"))}
    for table in _TABLES:
        assert any(f" {table} " in each for each in statements)

    def plans(connection: sqlite3.Connection) -> list[tuple[str, str]]:
        return [
            (statement, row[3])
            for statement in statements
            for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")
        ]

    found = await database.commit(plans)
    for statement, parameters in ((_sqlite_reads.READ_PAGE, (1, 0, 1, 1)), (_sqlite_sweep.LOOK, (0.0,))):
        rows = await database.fetch(f"EXPLAIN QUERY PLAN {statement}", parameters)
        found += [(statement, row[3]) for row in rows]
    scanned = [
        (plan, statement[:200])
        for statement, plan in found
        if plan.startswith("SCAN") and plan.split()[1] in {*_TABLES, *"dsiwrm"}
    ]
    assert scanned == []


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE delivery SET rare = x'c1'",
        "UPDATE delivery SET rare = x'9502'",
        "UPDATE delivery SET flow = 77, packet_id = 1",
    ],
)
async def test_values_that_are_none_of_ours_count_as_damage(
    database: SqliteDatabase, store: SqliteStore, damage: str
) -> None:
    await store.commit(_sessions(1))
    await store.commit(_put([1]))
    await database.commit(lambda connection: connection.execute(damage).rowcount)
    read = store.load() if "flow" in damage else store.read_pending(1, after=0, messages=1, size_bytes=1)
    with pytest.raises(DatabaseDamagedError, match="gnomon restore"):
        await read


async def test_a_closed_database_takes_and_gives_nothing(
    database: SqliteDatabase, store: SqliteStore
) -> None:
    await database.close()
    with pytest.raises(StorageClosedError):
        store.commit(_sessions(1))
    uses: list[Callable[[], Any]] = [
        store.load,
        lambda: store.read_pending(1, after=0, messages=1, size_bytes=1),
        lambda: store.sweep(0.0, messages=1),
    ]
    for use in uses:
        with pytest.raises(StorageClosedError):
            await use()


async def test_commits_that_overlap_are_made_in_order(store: SqliteStore) -> None:
    await store.commit(_sessions(1))
    waiting = [store.commit(_put([1], message=_message(b"%d" % number))) for number in range(50)]
    waiting += [store.commit(Changes(moved={1: (number, Flow.AWAIT_PUBREC)})) for number in range(1, 50)]
    await asyncio.wait(waiting)
    (delivery,) = (await store.load()).sessions[1].in_flight
    assert (delivery.message.payload, delivery.packet_id) == (b"49", 49)
