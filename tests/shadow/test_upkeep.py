"""What the service does beside requests: journal, sweeping, answers to operators."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from broker.access.principal import AlternativeNames, CertificateSubject, ClientCertificate
from broker.api import Message, Origin, Principal
from fakes_bus import request
from shadow.document import Document
from shadow.errors import ShadowStoreError
from shadow.journal import BASE_VERSIONS
from shadow.memory_store import MemoryShadowStore
from shadow.records import Author, Changes, Row
from shadow.topics import ShadowKey
from shadow_bench import Bench, BrokenStore, update

T = ShadowKey("t")
DAY_S = 86_400.0


class Everything:
    """Permissions of somebody who may do anything."""

    def may_publish(self, topic: bytes, *, is_retain: bool) -> bool:
        return True

    def may_subscribe(self, topic_filter: bytes) -> bool:
        return True

    def may_receive(self, topic: bytes) -> bool:
        return True

    def maximum_qos(self, topic_filter: bytes) -> int:
        return 2


def principal() -> Principal:
    certificate = ClientCertificate(
        subject=CertificateSubject(common_name="ada", rfc4514="CN=ada"),
        issuer_common_name="ca",
        serial_number="1",
        subject_alternative_names=AlternativeNames(),
        fingerprint_sha256="ab" * 32,
        spki_sha256="cd" * 32,
        not_before=datetime(2024, 1, 1, tzinfo=UTC),
        not_after=datetime(2034, 1, 1, tzinfo=UTC),
        authority_key_id=None,
    )
    return Principal(
        tenant="default",
        client_id="ada-1",
        user_name=None,
        certificate=certificate,
        thing_name=None,
        roles=frozenset(),
        permissions=Everything(),
    )


# The journal.


async def test_history_tells_who_changed_what() -> None:
    bench = Bench()
    origin = Origin("ada-1", principal())
    topic = "$aws/things/t/shadow/update"
    body = b'{"state":{"desired":{"a":1}},"clientToken":"x"}'
    await bench.serve([Message(topic, body, 1, origin=origin), Message(topic, body, 1), update(value=5)])
    history = await bench.service.history(T, limit=10)
    assert [(entry.version, entry.author, entry.client_token, entry.topic) for entry in history] == [
        (3, Author("c"), "x", topic),
        (2, Author(), "x", topic),
        (1, Author("ada-1", "ada", "ab" * 32), "x", topic),
    ]
    assert history[0].patch == b'{"desired":{"v":5}}'
    assert all(entry.at == 1000.0 for entry in history)
    assert [entry.version for entry in await bench.service.history(T, limit=1, before_version=3)] == [2]


async def test_refused_requests_and_gets_leave_nothing_in_the_journal() -> None:
    bench = Bench()
    bad = request("$aws/things/t/shadow/update", {"state": {}, "version": 9})
    await bench.serve([bad, request("$aws/things/t/shadow/get"), request("$aws/things/t/shadow/delete")])
    assert await bench.service.history(T, limit=10) == []


async def test_what_a_failed_commit_took_away_is_not_in_the_journal() -> None:
    bench = Bench(BrokenStore(commits=1))
    async with bench.running():
        bench.bus.deliver(update(value=1), update(value=2))
        await bench.bus.sent(2)
        bench.bus.deliver(update(value=3))
        await bench.bus.sent(5)
    assert [entry.patch for entry in await bench.service.history(T, limit=9)] == [b'{"desired":{"v":3}}']


async def test_a_shadow_can_be_read_as_of_every_version_that_is_kept() -> None:
    bench = Bench(journal_versions=5, in_flight_maximum=1000)
    count = 3 * BASE_VERSIONS
    async with bench.running():
        for number in range(1, count + 1):
            bench.bus.deliver(update(value=number))
            await bench.bus.sent(3 * number)
    kept = [version for version in range(count + 2) if await bench.service.as_of(T, version) is not None]
    assert kept == list(range(kept[0], count + 1))
    assert 5 <= len(kept) <= 5 + 2 * BASE_VERSIONS
    for version in kept:
        document = await bench.service.as_of(T, version)
        assert isinstance(document, Document)
        assert (document.version, document.state) == (version, {"desired": {"v": version}})


async def test_there_is_no_document_as_of_a_delete() -> None:
    bench = Bench()
    await bench.serve([update(), request("$aws/things/t/shadow/delete"), update(value=7)])
    found = [await bench.service.as_of(T, version) for version in range(5)]
    assert [document and document.state for document in found] == [
        None,
        {"desired": {"v": 1}},
        None,
        {"desired": {"v": 7}},
        None,
    ]


async def test_without_a_journal_only_the_present_version_is_known() -> None:
    bench = Bench(journal_versions=0)
    await bench.serve([update(value=1), update(value=2)])
    assert await bench.service.history(T, limit=9) == []
    assert await bench.service.as_of(T, 1) is None
    present = await bench.service.as_of(T, 2)
    assert present is not None
    assert present.state == {"desired": {"v": 2}}


async def test_a_damaged_row_is_an_error_of_the_store() -> None:
    store = MemoryShadowStore()
    await store.commit(Changes({T: Row(version=1, numbering=0, changed_at=0, document=b"{")}, [], {}))
    with pytest.raises(ShadowStoreError, match="damaged"):
        await Bench(store).service.as_of(T, 1)


async def test_named_shadows_and_things_are_listed() -> None:
    bench = Bench()
    batch = [request(f"$aws/things/t/shadow/name/{name}/update", {"state": {}}) for name in ("b", "a", "c")]
    await bench.serve([*batch, update("u")])
    assert await bench.service.names("t") == ["a", "b", "c"]
    assert await bench.service.names("t", after="a", limit=1) == ["b"]
    assert await bench.service.things() == ["t", "u"]


# Sweeping.


async def test_expired_tombstones_and_old_entries_are_swept() -> None:
    store = MemoryShadowStore()
    bench = Bench(store, tombstone_hours=1, journal_days=2)
    await bench.serve([update(), request("$aws/things/t/shadow/delete"), update("u")])
    for now, rows, entries in (
        (1000 + 3600, 2, 2),
        (1001 + 3600, 1, 2),
        (1000 + 3 * DAY_S, 1, 2),
        (1001 + 3 * DAY_S, 1, 0),
    ):
        bench.now = now
        await bench.service.sweep()
        assert len(await store.load([T, ShadowKey("u")])) == rows
        assert len(await bench.service.history(T, limit=9)) == entries


async def test_many_are_swept_in_one_sweep() -> None:
    store = MemoryShadowStore()
    dead = {ShadowKey(str(number)): Row(version=2, numbering=0, changed_at=0.0) for number in range(2500)}
    await store.commit(Changes(dead, [], {}))
    bench = Bench(store)
    bench.now = 30 * DAY_S
    await bench.service.sweep()
    assert await store.load(dead.keys()) == {}
    assert bench.service.stats.swept == 2500


async def test_a_failing_sweep_ends_nothing() -> None:
    class NoSweep(MemoryShadowStore):
        swept = asyncio.Event()
        failures = 1

        async def sweep(self, **limits: Any) -> int:
            self.failures -= 1
            if self.failures >= 0:
                raise ShadowStoreError
            self.swept.set()
            return 0

    store = NoSweep()
    bench = Bench(store, sweep_interval_s=0.001)
    with capture_logs() as logs:
        async with bench.running():
            await store.swept.wait()
            bench.bus.deliver(update())
            await bench.bus.sent(3)
    assert [log["event"] for log in logs] == ["shadow.sweep_failed"]


# Limits.


async def test_the_flood_of_a_thing_is_throttled_unread_with_its_tokens() -> None:
    bench = Bench(requests_per_second_maximum=3, in_flight_maximum=100)
    published = await bench.serve([update(nonce=str(number)) for number in range(5)] + [update("u")])
    refused = [sent.body for sent in published if sent.topic.endswith("rejected")]
    assert refused == [
        {"code": 429, "message": "Too many requests in one second", "clientToken": str(number)}
        for number in (3, 4)
    ]
    assert (bench.service.stats.throttled, bench.service.stats.refused) == (2, 2)


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff", b"[" * 5000, b'{"clientToken":1}', b"x" * 40_000])
async def test_a_throttled_request_without_a_readable_token_is_refused_without(payload: bytes) -> None:
    bench = Bench(requests_per_second_maximum=1)
    topic = "$aws/things/t/shadow/update"
    published = await bench.serve([update(), request(topic, payload)])
    assert published[-1].body == {"code": 429, "message": "Too many requests in one second"}


async def test_the_next_second_brings_new_requests() -> None:
    bench = Bench(requests_per_second_maximum=1)
    async with bench.running():
        for number in range(3):
            bench.now = 1000.0 + number
            bench.bus.deliver(update(), update())
            await bench.bus.sent(4 * (number + 1))
    assert bench.service.stats.throttled == 3


async def test_a_tenant_has_a_limit_where_one_is_set() -> None:
    bench = Bench(tenant_requests_per_second_maximum=2)
    await bench.serve([update(thing) for thing in "abc"])
    assert bench.service.stats.throttled == 1


async def test_memory_for_idle_documents_is_bounded_in_bytes() -> None:
    bench = Bench(hot_bytes_maximum=20_000)
    await bench.serve(*([update(f"t{number}", "x" * 1000)] for number in range(50)))
    assert 0 < bench.service.stats.hot_bytes <= 20_000
    assert 0 < bench.service.stats.hot_rows < 20
