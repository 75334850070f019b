"""A shadow service with a bus of the test's own, and stores that wait or fail as the test says.

Knows: the service's constructor, the ports.
Does not know: what a test says over it.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

from broker.api import Message
from fakes_bus import FakeBus, Published, request
from shadow.errors import ShadowStoreError
from shadow.memory_store import MemoryShadowStore
from shadow.reconciler import Presence
from shadow.records import Changes, Row
from shadow.service import ShadowService
from shadow.settings import ShadowSettings
from shadow.store import ShadowStore
from shadow.topics import ShadowKey


class GatedStore(MemoryShadowStore):
    """Each commit waits until the test answers it: True writes, False fails."""

    def __init__(self) -> None:
        super().__init__()
        self.committing: asyncio.Queue[Mapping[ShadowKey, Row]] = asyncio.Queue()
        self.answers: asyncio.Queue[bool] = asyncio.Queue()

    async def commit(self, changes: Changes) -> None:
        self.committing.put_nowait(changes.rows)
        if not await self.answers.get():
            raise ShadowStoreError
        await super().commit(changes)


class BrokenStore(MemoryShadowStore):
    """Fails as often as it is told, then works."""

    def __init__(
        self, *, loads: int = 0, commits: int = 0, error: type[Exception] = ShadowStoreError
    ) -> None:
        super().__init__()
        self.loads, self.commits, self.error = loads, commits, error

    async def load(self, keys: Collection[ShadowKey]) -> Mapping[ShadowKey, Row]:
        self.loads -= 1
        if self.loads >= 0:
            raise self.error
        return await super().load(keys)

    async def commit(self, changes: Changes) -> None:
        self.commits -= 1
        if self.commits >= 0:
            raise self.error
        await super().commit(changes)


class Bench:
    """A service, its bus and its store."""

    def __init__(
        self, store: ShadowStore | None = None, *, presence: Presence | None = None, **settings: Any
    ) -> None:
        self.bus = FakeBus()
        #: The tests ask faster than a thing may.
        chosen = ShadowSettings(**({"requests_per_second_maximum": 0} | settings))
        self.now = 1000.0
        self.service = ShadowService(
            self.bus, store or MemoryShadowStore(), chosen, clock=lambda: self.now, presence=presence
        )

    async def serve(self, *batches: list[Message]) -> list[Published]:
        """Serve these batches and end."""
        for batch in batches:
            self.bus.deliver(*batch)
        self.bus.close()
        await self.service.run()
        return self.bus.published

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.service.run(), name="service")
            yield
            self.bus.close()


def update(thing: str = "t", value: Any = 1, *, client_id: str = "c", nonce: str = "x") -> Message:
    body = {"state": {"desired": {"v": value}}, "clientToken": nonce}
    return request(f"$aws/things/{thing}/shadow/update", body, client_id=client_id)


def get(thing: str = "t") -> Message:
    return request(f"$aws/things/{thing}/shadow/get", {"clientToken": "x"}, client_id="c")


def tails(published: list[Published]) -> list[str]:
    """The published topics from the thing's name on."""
    return [sent.topic.removeprefix("$aws/things/").replace("/shadow", "") for sent in published]


GROUP = ["t/update/delta", "t/update/documents", "t/update/accepted"]
INTERNAL = {"code": 500, "message": "Internal service failure", "clientToken": "x"}


def versions(published: list[Published], tail: str = "/update/accepted") -> list[int]:
    return [sent.body["version"] for sent in published if sent.topic.endswith(tail)]
