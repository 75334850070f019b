"""Any history leaves the same in every SessionStore as in memory."""

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.storage import MemoryStore, SessionStore, SweptDelivery
from session_histories import History, Step, steps
from session_stores import Place, commit, every_place, read


@every_place
@settings(max_examples=150)
@given(history=steps("commit", "commit", "sweep"), sizes=st.lists(st.integers(1, 60), min_size=1))
async def test_any_history_leaves_what_it_leaves_in_memory(
    place: Place, history: list[Step], sizes: list[int]
) -> None:
    memory = MemoryStore()
    async with place() as opening:
        async with opening() as store:
            await _live(history, store, memory)
            await _assert_same(store, memory, sizes)
        async with opening() as store:
            await _assert_same(store, memory, sizes)


async def _live(history: list[Step], store: SessionStore, memory: MemoryStore) -> None:
    """Tell both of them the same, and let both sweep now and then."""
    life = History()

    async def commit_all(now: float) -> None:
        changes, _ = life.journal.take(now)
        memory.commit(changes)
        await commit(store, changes)

    for step in history:
        if step.act in {"commit", "sweep"}:
            await commit_all(step.time or 0.0)
        else:
            life.perform(step)
        if step.act == "sweep":
            now = step.time or 2_000_000_000.0
            swept = await store.sweep(now, messages=1_000)
            assert _by_row(swept) == _by_row(await memory.sweep(now, messages=1_000))
            for each in swept:
                life.forget(each.row)
    await commit_all(0.0)


async def _assert_same(store: SessionStore, memory: MemoryStore, sizes: list[int]) -> None:
    snapshot = await store.load()
    assert snapshot == await memory.load()
    for number in snapshot.sessions:
        after = 0
        for size in sizes:
            page = await store.read_pending(number, after=after, messages=size, size_bytes=3 * size)
            assert page == await memory.read_pending(number, after=after, messages=size, size_bytes=3 * size)
            after = page.deliveries[-1].row if page.deliveries else after
        assert await read(store, number) == await read(memory, number)


def _by_row(swept: Iterable[SweptDelivery]) -> list[SweptDelivery]:
    return sorted(swept, key=lambda each: each.row)
