"""A process of its own that serves shadows beside a foreign broker, and shares the work with others like it.

Knows: how the parts are put together; how to die right after a commit, before anybody hears of it.
Does not know: what a test does with it.
"""

import argparse
import asyncio
import os
import signal
import sys

import structlog

from broker.foreign import ForeignBus
from broker.foreign_settings import ForeignBusSettings
from shadow import (
    MIGRATIONS,
    PostgresqlSharedStore,
    ShadowService,
    ShadowSettings,
    SharedChanges,
    Sharing,
)
from storage import PostgresqlDatabase, StorageSettings


class MortalStore(PostgresqlSharedStore):
    """A store whose process dies with its n-th commit, just after that; 0 for never."""

    commits_left = 0

    async def commit_shared(self, changes: SharedChanges) -> None:
        await super().commit_shared(changes)
        self.commits_left -= 1
        if self.commits_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


async def serve(port: int, client_id: str, url: str, commits: int) -> None:
    database = await PostgresqlDatabase.open(url, StorageSettings(), migrations=[MIGRATIONS], exclusive=False)
    store = MortalStore(database)
    store.commits_left = commits
    bus = ForeignBus(
        ForeignBusSettings(
            url=f"mqtt://127.0.0.1:{port}", client_id=client_id, share="shadow", reconnect_delay_s=0.02
        )
    )
    service = ShadowService(
        bus,
        store,
        ShadowSettings(requests_per_second_maximum=0),
        root="aws",
        sharing=Sharing(store, bus.settled),
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, bus.close)
    async with asyncio.TaskGroup() as group:
        group.create_task(bus.run())
        serving = group.create_task(service.run())
        await bus.wait_connected()
        print("ready", flush=True)  # noqa: T201 - the test waits for it
        await serving
        await bus.finish()
    await database.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("client_id")
    parser.add_argument("url")
    parser.add_argument("--die-after", type=int, default=0, metavar="COMMITS")
    given = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(serve(given.port, given.client_id, given.url, given.die_after))
