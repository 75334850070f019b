"""Deltas that are published again, and what is known of shadows that drift."""

import asyncio
from typing import Any

from structlog.testing import capture_logs

from broker.api import Message
from fakes_bus import Published, request
from shadow.durations import quantile
from shadow.errors import ShadowStoreError
from shadow.memory_store import MemoryShadowStore
from shadow.records import Changes, Drifting, Row
from shadow.topics import ShadowKey
from shadow_bench import Bench, GatedStore, tails, update

T = ShadowKey("t")
DOCUMENT = b'{"state":{},"metadata":{},"version":1}'


class FakePresence:
    def __init__(self, **connected: float) -> None:
        self.connected = connected

    def connected_since(self, thing_name: str) -> float | None:
        return self.connected.get(thing_name)


def report(value: Any) -> Message:
    return request("$aws/things/t/shadow/update", {"state": {"reported": {"v": value}}})


def deltas(published: list[Published]) -> list[int]:
    return [sent.body["version"] for sent in published if sent.topic.endswith("/update/delta")]


async def test_a_newer_delta_may_replace_one_that_waits() -> None:
    published = await Bench().serve([update()])
    assert [sent.supersede_key for sent in published] == [b"delta", None, None]
    published = await Bench(delta_supersedes=False).serve([update()])
    assert {sent.supersede_key for sent in published} == {None}


async def test_a_delta_is_published_again_after_its_pause_until_the_device_follows() -> None:
    bench = Bench(resend_first_s=60, resend_maximum_s=100)
    async with bench.running():
        bench.bus.deliver(update())
        await bench.bus.sent(3)
        for now, count in ((1059.0, 3), (1060.0, 4), (1159.0, 4), (1160.0, 5), (1260.0, 6)):
            bench.now = now
            await bench.service.reconcile()
            assert len(await bench.bus.sent(count)) == count
        bench.bus.deliver(report(1))
        await bench.bus.sent(8)
        bench.now = 9999.0
        await bench.service.reconcile()
    assert deltas(bench.bus.published) == [1, 1, 1, 1]
    again = bench.bus.published[3]
    assert again.body == {
        "version": 1,
        "timestamp": 1060,
        "state": {"v": 1},
        "metadata": {"v": {"timestamp": 1000}},
    }
    assert (again.qos, again.is_retain, again.supersede_key) == (1, False, b"delta")
    assert (bench.service.stats.retold, bench.service.stats.converged) == (3, 1)
    assert bench.service.stats.drifting == 0


async def test_a_device_that_comes_back_is_told_once() -> None:
    presence = FakePresence()
    bench = Bench(presence=presence, resend_after_connect_s=2)
    async with bench.running():
        bench.bus.deliver(update())
        await bench.bus.sent(3)
        for now, since, count in ((1500.0, None, 3), (1501.0, 1500.0, 3), (1502.0, 1500.0, 4)):
            bench.now = now
            presence.connected = {} if since is None else {"t": since}
            await bench.service.reconcile()
            await bench.bus.sent(count)
        await bench.service.reconcile()
    assert deltas(bench.bus.published) == [1, 1]


async def test_telling_is_durable_before_it_is_done() -> None:
    store = GatedStore()
    bench = Bench(store)
    async with bench.running():
        bench.bus.deliver(update())
        await store.committing.get()
        store.answers.put_nowait(True)
        await bench.bus.sent(3)
        bench.now = 2000.0
        await bench.service.reconcile()
        rows = await store.committing.get()
        assert rows[T].drift == Drifting(since=1000.0, told_at=2000.0, tellings=2, keys=1)
        assert rows[T].version == 1
        assert len(bench.bus.published) == 3
        store.answers.put_nowait(False)
        while not bench.service.stats.store_failures:  # noqa: ASYNC110 - nobody is told of it
            await asyncio.sleep(0)
        await bench.service.reconcile()
        await store.committing.get()
        store.answers.put_nowait(True)
        await bench.bus.sent(4)
    assert deltas(bench.bus.published) == [1, 1]


async def test_messages_of_a_shadow_stay_in_order_with_tellings_between() -> None:
    store = GatedStore()
    bench = Bench(store)
    async with bench.running():
        bench.bus.deliver(update(value=1))
        await store.committing.get()
        store.answers.put_nowait(True)
        await bench.bus.sent(3)
        bench.bus.deliver(update(value=2))
        await store.committing.get()
        bench.now = 5000.0
        await bench.service.reconcile()
        bench.bus.deliver(update(value=3))
        await bench.bus.idle()
        for _ in range(2):
            store.answers.put_nowait(True)
        await bench.bus.sent(9)
    assert deltas(bench.bus.published) == sorted(deltas(bench.bus.published))


async def test_drift_goes_on_where_it_was_after_a_restart() -> None:
    store = MemoryShadowStore()
    first = Bench(store)
    await first.serve([update(), update("u", 2)])
    second = Bench(store, resend_first_s=60, reconcile_interval_s=0.01)
    second.now = 1070.0
    async with second.running():
        await second.bus.sent(2)
    assert tails(sorted(second.bus.published)) == ["t/update/delta", "u/update/delta"]
    assert [(drift.since, drift.last_told) for drift in second.service.drift(limit=5)] == [
        (1000.0, 1070.0)
    ] * 2
    assert second.service.drift_age_s() == 70.0


async def test_the_reconciler_may_be_off() -> None:
    store = MemoryShadowStore()
    await Bench(store).serve([update()])
    bench = Bench(store, reconcile_interval_s=0)
    async with bench.running():
        names = {task.get_name() for task in asyncio.all_tasks()}
    assert "shadow:reconciler" not in names


async def test_drifts_that_cannot_be_read_are_read_later() -> None:
    class NoDrifts(MemoryShadowStore):
        failures = 2

        async def drifting(self, **page: Any) -> Any:
            self.failures -= 1
            if self.failures >= 0:
                raise ShadowStoreError
            return await super().drifting(**page)

    store = NoDrifts()
    await Bench(store, reconcile_interval_s=0).serve([update()])
    bench = Bench(store, reconcile_interval_s=0.001)
    bench.now = 9999.0
    with capture_logs() as logs:
        async with bench.running():
            await bench.bus.sent(1)
    assert [log["event"] for log in logs] == ["shadow.drifts_not_read"] * 2
    assert deltas(bench.bus.published) == [1]


async def test_a_damaged_document_is_told_of_once_in_the_log_and_to_no_device() -> None:
    store = MemoryShadowStore()
    drift = Drifting(since=1.0, told_at=1.0, tellings=1, keys=1)
    damaged = Row(version=1, numbering=0, changed_at=0, document=b"{", drift=drift)
    empty = Row(version=1, numbering=0, changed_at=0, document=DOCUMENT, drift=drift)
    await store.commit(Changes({T: damaged, ShadowKey("u"): empty}, [], {}))
    bench = Bench(store, reconcile_interval_s=0.001)
    with capture_logs() as logs:
        async with bench.running():
            while not bench.service.stats.internal_failures:  # noqa: ASYNC110 - nobody is told of it
                await asyncio.sleep(0)
            for _ in range(3):
                await bench.service.reconcile()
    assert [log["event"] for log in logs] == ["shadow.telling_failed"]
    assert (bench.bus.published, bench.service.drift(limit=9)) == ([], [])


async def test_drift_tells_how_long_and_how_much() -> None:
    bench = Bench(presence=FakePresence(t=999.0))
    two = request("$aws/things/t/shadow/update", {"state": {"desired": {"a": 1, "b": 2}}})
    await bench.serve([two])
    (drift,) = bench.service.drift(limit=10)
    assert (drift.thing_name, drift.shadow_name, drift.since, drift.last_told) == ("t", None, 1000.0, 1000.0)
    assert (drift.is_connected, drift.keys) == (True, 2)


async def test_the_time_to_converge_is_measured() -> None:
    bench = Bench()
    async with bench.running():
        bench.bus.deliver(update(value=1))
        await bench.bus.sent(3)
        bench.now = 1010.0
        bench.bus.deliver(report(1))
        await bench.bus.sent(5)
    assert 10 <= quantile(bench.service.convergence(), 0.5) < 12


async def test_a_deleted_shadow_has_not_converged() -> None:
    bench = Bench()
    await bench.serve([update(), request("$aws/things/t/shadow/delete")])
    assert (bench.service.stats.converged, bench.service.drift(limit=1)) == (0, [])
