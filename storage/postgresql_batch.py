"""One attempt to commit a batch of works in one transaction of PostgreSQL.

Knows: what runs together, whose fault a failure is.
Does not know: SQL of anybody, when an attempt is repeated, who is told.
Spec: none.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
from msgspec import Struct

from .postgresql_connection import Connection, is_environment

Work = Callable[[Connection], Awaitable[Any]]
#: Writes all items of one batch.
BatchWork = Callable[[Connection, Sequence[Any]], Awaitable[None]]


class Request(Struct, eq=False, gc=False):
    """One work or item, and who waits for it."""

    future: asyncio.Future[Any]
    rows: int
    size_bytes: int
    #: Called with the connection and, where it is a batch work, all items of the batch.
    work: Work | BatchWork
    item: Any = None
    is_batch: bool = False


class Outcome(Struct, gc=False):
    """What to tell one who waits."""

    request: Request
    value: Any = None
    error: Exception | None = None


async def commit_batch(connection: Connection, batch: Sequence[Request]) -> list[Outcome]:
    """Commit the batch; where a work is at fault, the others are committed and it is told.

    Raises:
        Exception: server or network fail (`is_environment`); a COMMIT without an answer may have succeeded.
    """
    try:
        return await _transaction(connection, batch, _together)
    except Exception as error:  # noqa: BLE001  (the boundary of the works)
        await _undo(connection, error)
    try:
        return await _transaction(connection, batch, _one_by_one)
    except Exception as error:  # noqa: BLE001  (the boundary of the works)
        await _undo(connection, error)
        return [Outcome(request, error=error) for request in batch]


async def _transaction(
    connection: Connection,
    batch: Sequence[Request],
    run: Callable[[Connection, Sequence[Request]], Awaitable[list[Outcome]]],
) -> list[Outcome]:
    await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
    outcomes = await run(connection, batch)
    if await connection.execute("COMMIT") != "COMMIT":  # PostgreSQL answers ROLLBACK, without an error.
        raise asyncpg.InFailedSQLTransactionError("a work went on after a statement had failed")
    return outcomes


async def _undo(connection: Connection, error: Exception) -> None:
    """Roll back, or end the session where that fails; raise the error again if the works are not to blame."""
    if isinstance(error, TimeoutError | asyncpg.InternalClientError):
        connection.terminate()  # Who knows what it still does.
    if not connection.is_closed():
        try:
            await connection.execute("ROLLBACK")
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            connection.terminate()
    if is_environment(error, connection):
        raise error


async def _together(connection: Connection, batch: Sequence[Request]) -> list[Outcome]:
    """Run each work, then each batch work once with all its items."""
    items: dict[Any, list[Any]] = {}
    outcomes = []
    for request in batch:
        if request.is_batch:
            items.setdefault(request.work, []).append(request.item)
            outcomes.append(Outcome(request))
        else:
            outcomes.append(Outcome(request, await _run(connection, request)))
    for work, its_items in items.items():
        await work(connection, its_items)
    return outcomes


async def _one_by_one(connection: Connection, batch: Sequence[Request]) -> list[Outcome]:
    """Run each work so that its failure undoes it alone; in the order of `_together`."""
    ordered = sorted(batch, key=lambda request: request.is_batch)
    return [await _alone(connection, request) for request in ordered]


async def _alone(connection: Connection, request: Request) -> Outcome:
    await connection.execute("SAVEPOINT work")
    try:
        value = await _run(connection, request)
        await connection.execute("RELEASE work")
    except Exception as error:
        if is_environment(error, connection):
            raise
        await connection.execute("ROLLBACK TO work; RELEASE work")
        return Outcome(request, error=error)
    return Outcome(request, value)


async def _run(connection: Connection, request: Request) -> Any:  # noqa: ANN401
    work: Any = request.work
    return await (work(connection, [request.item]) if request.is_batch else work(connection))
