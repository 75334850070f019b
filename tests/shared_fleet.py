"""A fleet that asks processes which share the shadows, and what must hold of their answers.

Knows: requests and replies over a bus, the journal in PostgreSQL.
Does not know: which processes serve, which of them die.
"""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from broker.foreign import ForeignBus
from bus_site import foreign_settings
from gnomon.storage import MIGRATIONS
from shadow import PostgresqlShadowStore, ShadowKey
from storage import PostgresqlDatabase, StorageSettings

THINGS = [f"thing-{number}" for number in range(10)]
WRITERS = ("desired", "reported")
UPDATES = 40


class Fleet:
    """For each thing two clients that change its shadow, each one request after the other."""

    def __init__(self, bus: ForeignBus) -> None:
        self.bus = bus
        self.answered: dict[str, asyncio.Event] = {}
        #: By thing: version and token of each `accepted`, in the order in which they came.
        self.accepted: dict[str, list[tuple[int, str]]] = {thing: [] for thing in THINGS}
        self.rejected: list[bytes] = []
        #: Tokens of requests that were unanswered when a process died.
        self.in_doubt: set[str] = set()
        self.answers = 0

    async def listen(self) -> None:
        while True:
            for message in await self.bus.receive():
                self.bus.acknowledge(1)
                body = json.loads(message.payload)
                if message.topic.endswith("rejected"):
                    self.rejected.append(message.payload)
                    continue
                token = body["clientToken"]
                self.accepted[message.topic.split("/")[2]].append((body["version"], token))
                self.answers += 1
                self.answered[token].set()

    async def write(self, thing: str, section: str) -> None:
        for number in range(UPDATES):
            token = f"{thing}/{section}/{number}"
            body = {"state": {section: {"n": number}}, "clientToken": token}
            self.answered[token] = asyncio.Event()
            self.bus.publish(f"aws/things/{thing}/shadow/update", json.dumps(body).encode(), qos=1)
            await self.answered[token].wait()

    async def write_all(self) -> None:
        async with asyncio.TaskGroup() as writers:
            for thing in THINGS:
                for section in WRITERS:
                    writers.create_task(self.write(thing, section))

    def a_process_died(self) -> None:
        self.in_doubt |= {token for token, answered in self.answered.items() if not answered.is_set()}


@asynccontextmanager
async def fleet_on(port: int) -> AsyncIterator[Fleet]:
    bus = ForeignBus(foreign_settings(port, client_id="fleet"))
    bus.subscribe("aws/things/+/shadow/update/accepted", "aws/things/+/shadow/update/rejected", qos=1)
    fleet = Fleet(bus)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(bus.run())
        await bus.wait_connected()
        listening = group.create_task(fleet.listen())
        yield fleet
        listening.cancel()
        await bus.finish()
        await running


async def journal(url: str, thing: str) -> list[tuple[int, str]]:
    """Version and token of every change, oldest first."""
    database = await PostgresqlDatabase.open(url, StorageSettings(), migrations=MIGRATIONS, exclusive=False)
    try:
        entries = await PostgresqlShadowStore(database).history(ShadowKey(thing), limit=10_000)
    finally:
        await database.close()
    return [(entry.version, entry.client_token or "") for entry in reversed(entries)]


def is_rising(numbers: Sequence[int]) -> bool:
    return all(one < other for one, other in itertools.pairwise(numbers))


async def assert_nothing_is_lost_or_doubled(fleet: Fleet, url: str) -> None:
    """Every request is applied once, in its client's order, and answered in the order of versions."""
    assert fleet.rejected == []
    for thing in THINGS:
        applied = await journal(url, thing)
        tokens = [token for _, token in applied]
        assert [version for version, _ in applied] == list(range(1, 2 * UPDATES + 1))
        assert Counter(tokens) == Counter(
            f"{thing}/{section}/{number}" for section in WRITERS for number in range(UPDATES)
        )
        for section in WRITERS:
            own = [token for token in tokens if f"/{section}/" in token]
            assert own == [f"{thing}/{section}/{number}" for number in range(UPDATES)]
        answers = dict.fromkeys(fleet.accepted[thing])  # At QoS 1 an answer may come twice.
        assert set(answers) == set(applied)
        in_time = [version for version, token in answers if token not in fleet.in_doubt]
        assert is_rising(in_time)
