"""The adapters of SessionStore as places that a store can be opened at, again and again; rows to put there.

Knows: how each adapter is opened and closed.
Does not know: what a store must do.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import asyncpg
import pytest
from msgspec.structs import replace

from broker.protocol.packets import ClientId, TopicName
from broker.session.message import ApplicationMessage
from broker.session.records import Changes, DeliveryRow, SessionRow
from broker.storage import MemoryStore, Page, SessionStore, Snapshot
from broker.storage.postgresql import PostgresqlStore
from broker.storage.sqlite import MIGRATIONS, SqliteStore
from storage import PostgresqlDatabase, SqliteDatabase, StorageSettings

#: Opens a store that holds what the last one at the same place left.
Opening = Callable[[], AbstractAsyncContextManager[SessionStore]]
Place = Callable[[], AbstractAsyncContextManager[Opening]]


@asynccontextmanager
async def memory() -> AsyncIterator[Opening]:
    """A place in memory: a second broker loads what a first one left."""
    store = MemoryStore()

    @asynccontextmanager
    async def opening() -> AsyncIterator[SessionStore]:
        yield store

    yield opening


@asynccontextmanager
async def sqlite() -> AsyncIterator[Opening]:
    """A file in a folder of its own."""
    with TemporaryDirectory(prefix="gnomon-store-") as folder:

        @asynccontextmanager
        async def opening() -> AsyncIterator[SessionStore]:
            settings = StorageSettings(durability="os")
            database = await SqliteDatabase.open(
                Path(folder) / "gnomon.db", settings, migrations=[MIGRATIONS]
            )
            try:
                yield SqliteStore(database)
            finally:
                await database.close()

        yield opening


@asynccontextmanager
async def postgresql(url: str) -> AsyncIterator[Opening]:
    """A database, emptied: to create one for each example of a property takes too long."""
    connection = await asyncpg.connect(url)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()

    @asynccontextmanager
    async def opening() -> AsyncIterator[SessionStore]:
        database = await PostgresqlDatabase.open(
            url, StorageSettings(durability="os"), migrations=[MIGRATIONS]
        )
        try:
            yield PostgresqlStore(database)
        finally:
            await database.close()

    yield opening


CLIENT: Final = ClientId("c")

#: The fixture `place` of the contract tests makes places of these.
every_place = pytest.mark.parametrize("place", [memory, sqlite, postgresql], indirect=True)


def new_session(number: int = 1, **values: object) -> SessionRow:
    return replace(SessionRow(number, "red", CLIENT, 0xFFFFFFFF, None, "identity"), **values)


def new_message(payload: bytes = b"", expires_at: float | None = None) -> ApplicationMessage:
    return ApplicationMessage(TopicName(b"t"), payload, 1, expires_at=expires_at)


def new_delivery(row: int, message: ApplicationMessage | None = None, session: int = 1) -> DeliveryRow:
    return DeliveryRow(row, session, message or new_message(b"%d" % row), 1, False, ())


def put(*deliveries: DeliveryRow, sessions: Iterable[int] = (1,)) -> Changes:
    return Changes(
        sessions={number: new_session(number) for number in sessions},
        put={delivery.row: delivery for delivery in deliveries},
    )


async def commit(store: SessionStore, *groups: Changes) -> None:
    for changes in groups:
        waiting = store.commit(changes)
        if waiting is not None:
            await waiting


@asynccontextmanager
async def opened(place: Place, *groups: Changes) -> AsyncIterator[SessionStore]:
    async with place() as opening, opening() as store:
        await commit(store, *groups)
        yield store


async def after(place: Place, *groups: Changes) -> Snapshot:
    async with place() as opening:
        async with opening() as store:
            await commit(store, *groups)
        async with opening() as store:
            return await store.load()


async def read(
    store: SessionStore,
    session: int = 1,
    *,
    after: int = 0,
    messages: int = 1_000,
    size_bytes: int = 1_000_000,
) -> Page:
    return await store.read_pending(session, after=after, messages=messages, size_bytes=size_bytes)


async def row_numbers(store: SessionStore, session: int = 1) -> list[int]:
    return [delivery.row for delivery in (await read(store, session)).deliveries]
