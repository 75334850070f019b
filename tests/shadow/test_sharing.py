"""Two processes share the shadows beside mosquitto; one dies under load, again and again.

Nothing is lost: every request that the broker took is answered. Nothing is applied twice: every token stands
once in the journal, whose versions have no gap. Order is kept: what one client asked one after the other was
applied so, and the replies of a shadow come in the order of its versions. Only what a process had committed
and not yet answered when it died is answered late.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import asyncpg

from broker.api import Message
from fakes_bus import FakeBus
from mosquitto import running_mosquitto
from shadow import (
    MIGRATIONS,
    PostgresqlSharedStore,
    ShadowService,
    ShadowSettings,
    ShadowStats,
    Sharing,
)
from shared_fleet import assert_nothing_is_lost_or_doubled, fleet_on
from storage import PostgresqlDatabase, StorageSettings

PROGRAM = Path(__file__).parents[1] / "shared_shadows.py"
ROOT = Path(__file__).parents[2]
TIMEOUT_S = 50


class Processes:
    """The processes of the share."""

    def __init__(self, port: int, url: str, log: BinaryIO) -> None:
        self._arguments = (str(port), url)
        self._log = log
        self.running: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, client_id: str, *, die_after: int = 0) -> asyncio.subprocess.Process:
        port, url = self._arguments
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(PROGRAM), port, client_id, url, "--die-after", str(die_after),
            stdout=asyncio.subprocess.PIPE, stderr=self._log, cwd=ROOT,
            env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        self.running[client_id] = process
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        return process

    async def stop(self) -> None:
        for process in self.running.values():
            if process.returncode is None:
                process.kill()
            await process.communicate()


async def test_a_process_that_dies_loses_nothing_and_nothing_is_applied_twice(
    tmp_path: Path, postgresql_url: str
) -> None:
    with running_mosquitto(tmp_path) as mosquitto, (tmp_path / "processes.log").open("wb") as log:
        processes = Processes(mosquitto.port, postgresql_url, log)
        try:
            async with asyncio.timeout(TIMEOUT_S), fleet_on(mosquitto.port) as fleet:
                await processes.start("one")
                two = await processes.start("two", die_after=20)
                async with asyncio.TaskGroup() as writers:
                    writers.create_task(fleet.write_all())
                    for die_after in (15, 0):
                        await two.wait()  # Committed, and not answered.
                        fleet.a_process_died()
                        two = await processes.start("two", die_after=die_after)
                    before = fleet.answers
                    while fleet.answers < before + 50:  # noqa: ASYNC110 - two processes and a broker are at work
                        await asyncio.sleep(0.01)
                    two.kill()  # Wherever it is.
                    await two.wait()
                    fleet.a_process_died()
                    await processes.start("two")
        finally:
            await processes.stop()

    assert b"shadow.requests_repeated" in (tmp_path / "processes.log").read_bytes()
    assert fleet.in_doubt
    await assert_nothing_is_lost_or_doubled(fleet, postgresql_url)


class Member(NamedTuple):
    """A process of the share, as far as the broker and its database see one."""

    bus: FakeBus
    #: Cleared while its broker does not take what it publishes.
    is_settled: asyncio.Event
    stats: ShadowStats


@asynccontextmanager
async def members(url: str, count: int = 2) -> AsyncIterator[list[Member]]:
    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(asyncio.TaskGroup())
        found = []
        for _ in range(count):
            database = await PostgresqlDatabase.open(
                url, StorageSettings(), migrations=[MIGRATIONS], exclusive=False
            )
            stack.push_async_callback(database.close)
            store, bus, is_settled = PostgresqlSharedStore(database), FakeBus(), asyncio.Event()
            is_settled.set()

            async def settled(event: asyncio.Event = is_settled) -> None:
                await event.wait()

            service = ShadowService(bus, store, ShadowSettings(), sharing=Sharing(store, settled))
            serving = group.create_task(service.run())
            stack.push_async_callback(asyncio.wait, [serving])
            stack.callback(bus.close)
            found.append(Member(bus, is_settled, service.stats))
        yield found


def update(number: int, *, packet_id: int = 0, is_dup: bool = False, **more: object) -> Message:
    payload = json.dumps({"state": {"reported": {"n": number}}, **more}).encode()
    return Message("$aws/things/lamp/shadow/update", payload, 1, is_dup=is_dup, packet_id=packet_id)


def versions(bus: FakeBus) -> list[int]:
    return [each.body["version"] for each in bus.published if each.topic.endswith("update/accepted")]


async def waiting_locks(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        return int(await connection.fetchval(sql))
    finally:
        await connection.close()


async def test_a_thing_is_held_until_the_broker_has_the_replies(postgresql_url: str) -> None:
    async with members(postgresql_url) as (one, two):
        one.is_settled.clear()
        one.bus.deliver(update(1))
        await one.bus.sent(2)
        two.bus.deliver(update(2))
        while not await waiting_locks(postgresql_url):
            assert versions(two.bus) == []
        assert (versions(one.bus), versions(two.bus)) == ([1], [])
        assert one.bus.acknowledged == 0
        one.is_settled.set()
        await two.bus.sent(2)
        assert versions(two.bus) == [2]


async def test_a_request_without_a_token_that_comes_again_is_told_from_its_like(postgresql_url: str) -> None:
    async with members(postgresql_url) as (one, two):
        one.bus.deliver(update(1, packet_id=1), update(1, packet_id=2))  # Meant twice.
        one.bus.deliver(update(1, packet_id=3))
        await one.bus.sent(6)
        # Its process is gone: three come again, and a fourth that nobody had done yet.
        again = [update(1, packet_id=number, is_dup=True) for number in (1, 2, 3, 4)]
        two.bus.deliver(*again)
        two.bus.deliver(update(1, packet_id=1))  # The id stands for a new one now.
        await two.bus.sent(10)
        assert versions(two.bus) == [1, 2, 3, 4, 5]
        assert two.stats.repeated == 3


async def test_what_a_process_has_done_itself_it_does_not_again(postgresql_url: str) -> None:
    """The connection was lost, and with it the PUBACK."""
    async with members(postgresql_url, 1) as (one,):
        one.bus.deliver(update(1, packet_id=1), update(2, packet_id=2, clientToken="t"))
        await one.bus.sent(4)
        one.bus.deliver(
            update(1, packet_id=1, is_dup=True), update(2, packet_id=2, is_dup=True, clientToken="t")
        )
        one.bus.deliver(update(2, packet_id=3, clientToken="t"))  # Meant twice.
        await one.bus.sent(10)
        assert versions(one.bus) == [1, 2, 1, 2, 3]
        assert one.stats.repeated == 2
