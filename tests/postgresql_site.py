"""A table of numbers behind `PostgresqlDatabase`, and a wire to the server that can be cut.

Knows: the tests' own component, TCP.
Does not know: what is tested.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import uuid4

from postgresql import ROLE, PostgresqlServer
from storage import Migrations, PostgresqlConnection, PostgresqlDatabase, StorageSettings

_FIRST = """
CREATE TABLE number (value BIGINT PRIMARY KEY CHECK (value >= 0));
CREATE TABLE counter (value BIGINT NOT NULL);
INSERT INTO counter VALUES (0);
"""


class Component:
    """A package with migrations in a folder that Python imports from."""

    def __init__(self, folder: Path) -> None:
        self._package = f"component_{uuid4().hex}"
        self._folder = folder / self._package / "migrations" / "postgresql"
        self._folder.mkdir(parents=True)
        self.add("0001_first.sql", _FIRST)

    def add(self, name: str, sql: str) -> None:
        (self._folder / name).write_text(sql)

    def remove(self, name: str) -> None:
        (self._folder / name).unlink()

    def migrations(self) -> list[Migrations]:
        return [Migrations(component="test", package=self._package)]


@asynccontextmanager
async def opened(
    url: str,
    migrations: Sequence[Migrations],
    *,
    settings: StorageSettings | None = None,
    exclusive: bool = True,
) -> AsyncIterator[PostgresqlDatabase]:
    database = await PostgresqlDatabase.open(
        url, settings or StorageSettings(), migrations=migrations, exclusive=exclusive
    )
    try:
        yield database
    finally:
        await database.close()


def put(value: int) -> Callable[[PostgresqlConnection], Awaitable[None]]:
    async def work(connection: PostgresqlConnection) -> None:
        await connection.execute("INSERT INTO number VALUES ($1) ON CONFLICT DO NOTHING", value)

    return work


def fail_with(sqlstate: str, *, times: int) -> Callable[[PostgresqlConnection], Awaitable[int]]:
    """Return a work that the server refuses with `sqlstate` some times, then returns how often it ran."""
    runs = 0

    async def work(connection: PostgresqlConnection) -> int:
        nonlocal runs
        runs += 1
        if runs <= times:
            await connection.execute(f"DO $$ BEGIN RAISE 'refused' USING ERRCODE = '{sqlstate}'; END $$")
        return runs

    return work


def name_of(url: str) -> str:
    """Return the database of a URL over the socket."""
    return url.partition("@/")[2].partition("?")[0]


async def numbers(database: PostgresqlDatabase) -> list[int]:
    return [row["value"] for row in await database.fetch("SELECT value FROM number ORDER BY value")]


async def until(holds: Callable[[], bool]) -> None:
    """Return when another process, or the committer, has come so far; pytest ends a wait that has no end."""
    while not holds():  # noqa: ASYNC110  (nothing that could set an event knows of it)
        await asyncio.sleep(0.001)


class Wire:
    """Forwards TCP to the server's socket, as a network would."""

    def __init__(self, server: PostgresqlServer) -> None:
        self._path = server.folder / f".s.PGSQL.{server.port}"
        self._clients: list[asyncio.StreamWriter] = []
        self._servers: list[asyncio.StreamWriter] = []
        self._deaf: set[asyncio.StreamWriter] = set()
        self._listener: asyncio.Server
        #: Set: bytes go through. Cleared: they are kept, and nobody is told.
        self.is_open = asyncio.Event()
        self.is_open.set()
        #: The first bytes of a client that contain this reach the server; instead of the answer comes a cut.
        self.cut_after: bytes | None = None

    def url(self, database: str) -> str:
        port = self._listener.sockets[0].getsockname()[1]
        return f"postgresql://{ROLE}@127.0.0.1:{port}/{database}?sslmode=disable"

    def cut(self) -> None:
        """End the clients' side; the server notices nothing."""
        for client in self._clients:
            client.transport.abort()
        self._clients.clear()

    async def __aenter__(self) -> "Wire":
        self._listener = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        self.is_open.set()
        self.cut()
        for server in self._servers:
            server.transport.abort()

    async def _forward(self, from_client: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        from_server, server = await asyncio.open_unix_connection(self._path)
        self._clients.append(client)
        self._servers.append(server)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pump(from_client, server, client))
            await self._pump(from_server, client, None)
            client.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: asyncio.StreamWriter | None
    ) -> None:
        """Copy until the end; bytes of a `client` may be the last ones that it hears of."""
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                await self.is_open.wait()
                if client is not None and self.cut_after is not None and self.cut_after in data:
                    self.cut_after = None
                    self._deaf.add(client)
                if writer in self._deaf:
                    writer.transport.abort()
                    return
                writer.write(data)
