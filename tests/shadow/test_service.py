import asyncio
import json
from collections.abc import Collection, Mapping

import pytest
from structlog.testing import capture_logs

from broker.api import Message
from fakes_bus import request
from shadow.errors import ShadowStoreError
from shadow.memory_store import MemoryShadowStore
from shadow.records import Changes, Row
from shadow.topics import ShadowKey
from shadow_bench import GROUP, INTERNAL, Bench, BrokenStore, GatedStore, get, tails, update, versions


async def test_it_subscribes_before_it_runs() -> None:
    bench = Bench()
    assert "$aws/things/+/shadow/update" in bench.bus.filters
    assert len(bench.bus.filters) == 6
    await bench.serve()


async def test_the_messages_of_a_shadow_come_in_order_and_in_whole_groups() -> None:
    batches = [[update(thing, n) for n in range(3) for thing in ("t", "u")] for _ in range(3)]
    published = await Bench().serve(*batches)
    groups = [tails(published[i : i + 3]) for i in range(0, len(published), 3)]
    expected = [[tail.replace("t/", f"{thing}/", 1) for tail in GROUP] for thing in ("t", "u")]
    assert groups == expected * 9
    for thing in ("t", "u"):
        own = [sent for sent in published if f"/{thing}/" in sent.topic]
        assert versions(own) == list(range(1, 10))


async def test_classic_and_named_shadows_of_a_thing_are_apart() -> None:
    named = request("$aws/things/t/shadow/name/fw/update", {"state": {"reported": {"v": 1}}})
    published = await Bench().serve([update(), named, update(), named])
    assert versions(published) == [1, 1, 2, 2]


async def test_requests_are_acknowledged_to_the_bus_after_their_commit() -> None:
    store = GatedStore()
    bench = Bench(store)
    async with bench.running():
        bench.bus.deliver(update(), request("$aws/things/t/elsewhere"), get())
        await store.committing.get()
        assert bench.bus.acknowledged == 0
        store.answers.put_nowait(True)
        await bench.bus.sent(4)
    assert bench.bus.acknowledged == 3


async def test_ignored_messages_are_acknowledged_too() -> None:
    bench = Bench()
    assert await bench.serve([request("$aws/things/t/elsewhere")]) == []
    assert bench.bus.acknowledged == 1


async def test_nothing_is_published_before_the_commit() -> None:
    store = GatedStore()
    bench = Bench(store)
    async with bench.running():
        bench.bus.deliver(update())
        assert list(await store.committing.get()) == [("t", None)]
        assert bench.bus.published == []
        store.answers.put_nowait(True)
        assert tails(await bench.bus.sent(3)) == GROUP


async def test_while_a_turn_commits_the_next_one_is_decided_and_commits_as_one() -> None:
    store = GatedStore()
    bench = Bench(store)
    async with bench.running():
        bench.bus.deliver(update())
        await store.committing.get()
        for thing in ("t", "u", "t"):
            bench.bus.deliver(update(thing))
        await bench.bus.idle()
        store.answers.put_nowait(True)
        rows = await store.committing.get()
        assert {key.thing_name: row.version for key, row in rows.items()} == {"t": 3, "u": 1}
        assert versions(bench.bus.published) == [1]
        store.answers.put_nowait(True)
        assert versions(await bench.bus.sent(12)) == [1, 2, 1, 3]


async def test_a_failed_commit_refuses_its_requests_and_what_was_decided_on_top() -> None:
    store = GatedStore()
    bench = Bench(store)
    async with bench.running():
        bad = request("$aws/things/t/shadow/update", {"clientToken": "bad"})
        bench.bus.deliver(update("t"), get("t"), get("gone"), bad)
        await store.committing.get()
        bench.bus.deliver(update("t"), update("u"))
        await bench.bus.idle()
        store.answers.put_nowait(False)
        assert list(await store.committing.get()) == [("u", None)]
        store.answers.put_nowait(True)
        await bench.bus.sent(8)
        bench.bus.deliver(update("t"))
        await store.committing.get()
        store.answers.put_nowait(True)
        published = await bench.bus.sent(11)
    assert tails(published) == [
        "t/update/rejected",
        "t/get/rejected",
        "gone/get/rejected",
        "t/update/rejected",
        "t/update/rejected",
        *(tail.replace("t/", "u/", 1) for tail in GROUP),
        *GROUP,
    ]
    assert published[0].body == published[1].body == published[4].body == INTERNAL
    assert published[2].body["code"] == 404
    assert (published[3].body["code"], published[3].body["clientToken"]) == (400, "bad")
    assert versions(published) == [1, 1]
    assert bench.service.stats.store_failures == 1


@pytest.mark.parametrize("error", [ShadowStoreError, OSError])
async def test_after_a_failed_commit_memory_is_where_the_store_is(error: type[Exception]) -> None:
    store = BrokenStore(error=error)
    bench = Bench(store)
    with capture_logs() as logs:
        async with bench.running():
            bench.bus.deliver(update(value=1))
            await bench.bus.sent(3)
            store.commits = 1
            bench.bus.deliver(update(value=2))
            await bench.bus.sent(4)
            bench.bus.deliver(get())
            published = await bench.bus.sent(5)
    assert published[3].body == INTERNAL
    assert published[4].body["state"]["desired"] == {"v": 1}
    assert [(log["event"], log["exc_info"] is None) for log in logs] == [
        ("shadow.commit_failed", error is ShadowStoreError)
    ]


@pytest.mark.parametrize("error", [ShadowStoreError, OSError])
async def test_a_failed_load_refuses_its_requests_only(error: type[Exception]) -> None:
    with capture_logs() as logs:
        published = await Bench(BrokenStore(loads=1, error=error)).serve([update(), get("u")], [update()])
    assert tails(published) == ["t/update/rejected", "u/get/rejected", *GROUP]
    assert published[0].body == published[1].body == INTERNAL
    assert versions(published) == [1]
    assert [(log["event"], log["exc_info"] is None) for log in logs] == [
        ("shadow.load_failed", error is ShadowStoreError)
    ]


async def test_the_eleventh_request_in_flight_is_throttled() -> None:
    batch = [update(nonce=str(n)) for n in range(11)]
    others = [update(client_id="other"), update("u")]
    published = await Bench().serve([*batch, *others])
    refused = [sent for sent in published if sent.topic.endswith("rejected")]
    assert [sent.body for sent in refused] == [
        {"code": 429, "message": "Too many requests in flight", "clientToken": "10"}
    ]
    assert versions(published) == [*range(1, 12), 1]


async def test_answered_requests_are_in_flight_no_more() -> None:
    bench = Bench(in_flight_maximum=1)
    async with bench.running():
        for n in range(3):
            bench.bus.deliver(update(), get())
            published = await bench.bus.sent(4 * (n + 1))
    assert tails(published) == [*GROUP, "t/get/rejected"] * 3
    assert bench.service._pipeline._in_flight == {}


async def test_refused_requests_are_not_in_flight() -> None:
    bad = request("$aws/things/t/shadow/update", b"{", client_id="c")
    published = await Bench(in_flight_maximum=1).serve([bad, bad, update()])
    assert tails(published) == ["t/update/rejected"] * 2 + GROUP


async def test_services_may_ask_too() -> None:
    published = await Bench().serve([Message(topic="$aws/things/t/shadow/update", payload=b'{"state":{}}')])
    assert versions(published) == [1]


async def test_wills_retained_messages_and_other_topics_are_ignored() -> None:
    topic, body = "$aws/things/t/shadow/update", b'{"state":{}}'
    bench = Bench()
    published = await bench.serve(
        [
            request(topic, body, is_will=True),
            request(topic, body, is_retain=True),
            request("$aws/things/bad name/shadow/update", body),
            request("$aws/things/t/shadow/update/accepted", body),
        ]
    )
    assert published == []
    assert (bench.service.stats.ignored, bench.service.stats.requests) == (4, 0)


async def test_what_goes_wrong_with_one_message_is_logged_once_and_ends_no_other() -> None:
    store = MemoryShadowStore()
    row = Row(version=1, numbering=0, changed_at=0, document=b"{}")  # No document: corrupt.
    await store.commit(Changes({ShadowKey("t"): row}, [], {}))
    bench = Bench(store)
    with capture_logs() as logs:
        published = await bench.serve([update("u"), update("t"), update("u")])
    assert [sent.body for sent in published if "/t/" in sent.topic] == [INTERNAL]
    assert versions(published) == [1, 2]
    assert [(log["event"], log["thing_name"]) for log in logs] == [("shadow.request_failed", "t")]
    assert bench.service.stats.internal_failures == 1


async def test_forgotten_documents_come_back_from_the_store() -> None:
    batches = [[update(thing) for thing in ("t", "u", "v")] for _ in range(4)]
    published = await Bench(hot_documents_maximum=1).serve(*batches)
    assert versions(published) == [n for n in range(1, 5) for _ in range(3)]


async def test_answered_requests_keep_no_document() -> None:
    store = BrokenStore()
    bench = Bench(store, hot_documents_maximum=0)
    async with bench.running():
        for n in range(3):
            bench.bus.deliver(update())
            await bench.bus.sent(3 * (n + 1))
    assert store.loads == -3


async def test_what_a_failed_commit_took_away_during_a_load_is_loaded_again() -> None:
    class SlowStore(GatedStore):
        """Loads of `u` wait for the test."""

        def __init__(self) -> None:
            super().__init__()
            self.is_loading, self.may_load = asyncio.Event(), asyncio.Event()

        async def load(self, keys: Collection[ShadowKey]) -> Mapping[ShadowKey, Row]:
            if ShadowKey("u") in keys:
                self.is_loading.set()
                await self.may_load.wait()
            return await super().load(keys)

    store = SlowStore()
    bench = Bench(store)
    async with bench.running():
        bench.bus.deliver(update())
        await store.committing.get()
        bench.bus.deliver(update(), update("u"))
        await store.is_loading.wait()
        store.answers.put_nowait(False)
        assert tails(await bench.bus.sent(1)) == ["t/update/rejected"]
        store.may_load.set()
        store.answers.put_nowait(True)
        published = await bench.bus.sent(7)
    assert versions(published) == [1, 1]


async def test_a_document_ahead_of_the_store_is_never_forgotten() -> None:
    store = GatedStore()
    bench = Bench(store, hot_documents_maximum=0)
    async with bench.running():
        bench.bus.deliver(update())
        await store.committing.get()
        bench.bus.deliver(update())
        await bench.bus.idle()
        store.answers.put_nowait(True)
        store.answers.put_nowait(True)
        assert versions(await bench.bus.sent(6)) == [1, 2]


async def test_a_long_batch_is_cut_into_turns_and_waits_for_commits() -> None:
    store = GatedStore()
    bench = Bench(store, turn_size_maximum=4)
    async with bench.running():
        bench.bus.deliver(*(update(f"t{n}") for n in range(10)))
        sizes: list[int] = []
        while sum(sizes) < 10:
            sizes.append(len(await store.committing.get()))
            store.answers.put_nowait(True)
        await bench.bus.sent(30)
    assert sizes == [4, 4, 2]


async def test_requests_of_before_the_end_are_still_committed() -> None:
    store = GatedStore()
    bench = Bench(store)
    async with asyncio.TaskGroup() as group:
        group.create_task(bench.service.run(), name="service")
        bench.bus.deliver(update())
        await store.committing.get()
        bench.bus.deliver(update())
        bench.bus.close()
        bench.bus.is_closed_for_publish = True
        store.answers.put_nowait(True)
        store.answers.put_nowait(True)
    (row,) = (await store.load([ShadowKey("t")])).values()
    assert (row.version, bench.bus.published) == (2, [])


async def test_payloads_never_reach_the_log() -> None:
    secret = request("$aws/things/t/shadow/update", {"state": {"desired": {"password": "hunter2"}}})
    with capture_logs() as logs:
        await Bench(BrokenStore(commits=1)).serve([secret])
    assert "hunter2" not in json.dumps(logs, default=str)
