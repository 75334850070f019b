"""When the keeper commits, and in which order what is done is told."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from broker.engine import Engine
from broker.keeper import Keeper
from broker.protocol.packets import ClientId, TopicName
from broker.session import ApplicationMessage, Changes, Journal
from broker.settings import LimitSettings
from broker.storage import MemoryStore
from storage import DatabaseDamagedError


class _HeldStore(MemoryStore):
    """A store whose commits end when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[tuple[Changes, asyncio.Future[None]]] = []
        self.begun = asyncio.Event()

    def commit(self, changes: Changes) -> asyncio.Future[None]:  # type: ignore[override]  # the port allows both
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.commits.append((changes, future))
        self.begun.set()
        return future


class _Site:
    def __init__(self, tasks: asyncio.TaskGroup, *, interval_s: float) -> None:
        self.store = _HeldStore()
        self._tasks = tasks
        self.engine = Engine(LimitSettings(), journal=Journal(), new_client_id=lambda: ClientId("x"), now=1.0)
        self.keeper = Keeper(
            self.engine,
            self.store,
            interval_s=interval_s,
            spawn=self._spawn,
            now=lambda: 1.0,
            settle=self.flush,
        )

    def _spawn(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        return self._tasks.create_task(coroutine, name=name)

    def flush(self) -> None:
        self.keeper.commit_when_due()

    def change(self, topic: bytes) -> None:
        message = ApplicationMessage(TopicName(topic), b"x", 1, True)
        self.engine.publish("default", message, 1.0)
        journal = self.engine.state.journal
        assert journal is not None
        journal.is_urgent = True
        self.flush()

    def topics(self) -> list[list[bytes]]:
        return [[topic for _, topic in changes.retained] for changes, _ in self.store.commits]

    async def turn(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


@asynccontextmanager
async def _site(interval_s: float = 0.0) -> AsyncIterator[_Site]:
    async with asyncio.TaskGroup() as tasks:
        site = _Site(tasks, interval_s=interval_s)
        yield site
        await site.keeper.finish(timeout_s=0.01)


async def test_what_comes_while_a_commit_runs_is_in_the_next_one() -> None:
    async with _site() as site:
        site.change(b"a")
        site.change(b"b")
        site.change(b"c")
        assert site.topics() == [[b"a"]]
        site.store.commits[0][1].set_result(None)
        await site.turn()
        assert site.topics() == [[b"a"], [b"b", b"c"]]


async def test_a_lone_change_is_committed_at_once_and_the_next_one_after_the_interval() -> None:
    async with _site(interval_s=0.05) as site:
        began = asyncio.get_running_loop().time()
        site.change(b"a")
        assert site.topics() == [[b"a"]]
        site.store.commits[0][1].set_result(None)
        await site.turn()
        site.store.begun.clear()
        site.change(b"b")
        assert site.topics() == [[b"a"]]
        async with asyncio.timeout(5):
            await site.store.begun.wait()
        assert asyncio.get_running_loop().time() - began >= 0.05


async def test_behind_a_commit_that_does_not_end_the_next_one_is_handed_over_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.keeper._STUCK_S", 0.0)
    async with _site() as site:
        site.change(b"a")
        site.change(b"b")
        assert site.topics() == [[b"a"], [b"b"]]
        for _, future in site.store.commits:
            future.set_result(None)
        await site.turn()
        journal = site.engine.state.journal
        assert journal is not None
        assert (journal.taken_bytes, bool(journal)) == (0, False)


async def test_the_end_waits_for_what_is_not_durable_yet() -> None:
    async with _site() as site:
        site.change(b"a")
        site.change(b"b")
        async with asyncio.TaskGroup() as tasks:
            ending = tasks.create_task(site.keeper.finish(timeout_s=5), name="ending")
            await site.turn()
            assert not ending.done()
            site.store.commits[0][1].set_result(None)
            await site.turn()
            assert site.topics() == [[b"a"], [b"b"]]
            site.store.commits[1][1].set_result(None)


async def test_a_store_that_takes_nothing_does_not_hold_up_the_end_for_ever() -> None:
    async with _site() as site:
        site.change(b"a")
        async with asyncio.timeout(5):
            await site.keeper.finish(timeout_s=0.01)


async def test_a_damaged_store_ends_the_server() -> None:
    async def meet_damage() -> None:
        async with _site() as site:
            site.change(b"a")
            site.store.commits[0][1].set_exception(DatabaseDamagedError("gnomon.db"))
            await asyncio.sleep(1)

    with pytest.raises(ExceptionGroup) as caught:
        await meet_damage()
    assert caught.group_contains(DatabaseDamagedError)


@pytest.mark.parametrize("new_loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop])
def test_changes_within_the_last_tick_before_the_next_commit_are_committed_with_it(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """uvloop makes a timer that is due in less than a millisecond into something without a time."""

    async def change() -> list[bytes]:
        async with _site(interval_s=0.0005) as site:
            site.change(b"a")
            site.store.commits[0][1].set_result(None)
            await site.turn()
            site.change(b"b")
            site.change(b"c")
            async with asyncio.timeout(5):
                while len(committed := [topic for topics in site.topics() for topic in topics]) < 3:
                    for _, future in site.store.commits:
                        if not future.done():
                            future.set_result(None)
                    site.store.begun.clear()
                    await site.turn()
                    if site.store.commits[-1][1].done():
                        await site.store.begun.wait()
            return committed

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(change()) == [b"a", b"b", b"c"]
