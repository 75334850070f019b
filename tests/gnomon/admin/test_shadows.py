"""What operators are told of shadows, and what they may ask."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fakes_bus import FakeBus, request
from gnomon.admin.requests import (
    AdminError,
    AdminRequest,
    ListDrift,
    ListShadows,
    ListThings,
    Requester,
    ShowHistory,
    ShowVersion,
    parse_request,
)
from gnomon.admin.shadows import ShadowHandlers
from shadow import MemoryShadowStore, ShadowService, ShadowSettings

ADA = Requester(tenant="red", client_id="ada-1", identity="ada", send=lambda _body, _qos: None)


@asynccontextmanager
async def shadows(*updates: tuple[str, dict[str, Any]], **settings: Any) -> AsyncIterator[ShadowHandlers]:
    """Handlers over a service that served these updates: the topic's middle, the state."""
    bus = FakeBus()
    service = ShadowService(
        bus, MemoryShadowStore(), ShadowSettings(requests_per_second_maximum=0, **settings)
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(service.run())
        for name, state in updates:
            accepted = len(bus.published)
            bus.deliver(request(f"$aws/things/{name}/update", {"state": state, "clientToken": "t"}))
            while not any(each.topic.endswith("/accepted") for each in bus.published[accepted:]):
                await bus.sent(len(bus.published) + 1)
        yield ShadowHandlers(service)
        bus.close()


async def test_names_come_in_pages() -> None:
    updates = [(f"lamp-{number}/shadow", {"desired": {"a": 1}}) for number in range(3)]
    updates += [(f"lamp-0/shadow/name/{name}", {"desired": {}}) for name in "ab"]
    async with shadows(*updates) as handlers:
        first = await handlers.things(ADA, ListThings(limit=2))
        assert first == {"things": ["lamp-0", "lamp-1"], "cursor": "lamp-1"}
        assert await handlers.things(ADA, ListThings(cursor="lamp-1")) == {
            "things": ["lamp-2"],
            "cursor": None,
        }
        assert await handlers.names(ADA, ListShadows(thing_name="lamp-0", limit=1)) == {
            "shadows": ["a"],
            "cursor": "a",
        }


async def test_a_page_of_history_holds_no_more_than_an_answer_may() -> None:
    large = [("lamp/shadow", {"desired": {"a": str(number) * 100_000}}) for number in range(5)]
    versions: list[int] = []
    before: int | None = None
    pages = 0
    async with shadows(*large, document_size_maximum=150_000, request_size_maximum=150_000) as handlers:
        while pages == 0 or before is not None:
            answer = await handlers.history(ADA, ShowHistory(thing_name="lamp", before_version=before))
            assert len(json.dumps(answer)) < 300_000
            versions += [entry["version"] for entry in answer["entries"]]
            before = answer["before_version"]
            pages += 1
    assert versions == [5, 4, 3, 2, 1]
    assert pages == 3


async def test_an_entry_tells_everything_that_the_journal_knows() -> None:
    async with shadows(("lamp/shadow", {"desired": {"a": None}})) as handlers:
        [entry] = (await handlers.history(ADA, ShowHistory(thing_name="lamp")))["entries"]
        assert isinstance(entry.pop("at"), float)
    assert entry == {
        "version": 1,
        "author": {"client_id": "client-1", "identity": None, "certificate": None},
        "topic": "$aws/things/lamp/shadow/update",
        "client_token": "t",
        "operation": "update",
        "state": {"desired": {"a": None}},
    }


async def test_a_version_that_nobody_knows_is_not_found() -> None:
    async with shadows(("lamp/shadow", {"reported": {"a": 1}})) as handlers:
        shown = await handlers.show(ADA, ShowVersion(thing_name="lamp", version=1))
        assert shown["state"] == {"reported": {"a": 1}}
        with pytest.raises(AdminError, match="no update made this version"):
            await handlers.show(ADA, ShowVersion(thing_name="lamp", version=2))


async def test_drift_tells_the_longest_first() -> None:
    async with shadows(
        ("lamp-1/shadow", {"desired": {"a": 1}}), ("lamp-2/shadow/name/fw", {"desired": {"a": 1, "b": 2}})
    ) as handlers:
        drifts = (await handlers.drift(ADA, ListDrift()))["shadows"]
    assert [(each["thing_name"], each["shadow_name"], each["keys"]) for each in drifts] == [
        ("lamp-1", None, 1),
        ("lamp-2", "fw", 2),
    ]


@pytest.mark.parametrize(
    ("form", "body"),
    [
        (ListThings, {"limit": 501}),
        (ListThings, {"cursor": "a\0"}),
        (ListShadows, {}),
        (ListShadows, {"thing_name": "a/b"}),
        (ListShadows, {"thing_name": "a\n"}),
        (ListShadows, {"thing_name": "a" * 129}),
        (ShowVersion, {"thing_name": "a", "version": 0}),
        (ShowVersion, {"thing_name": "a", "version": 2**63}),
        (ShowVersion, {"thing_name": "a", "shadow_name": "", "version": 1}),
        (ShowHistory, {"thing_name": "a", "limit": 101}),
        (ShowHistory, {"thing_name": "a", "before_version": True}),
        (ListDrift, {"limit": 0}),
        (ListDrift, {"thing_name": "a"}),
    ],
)
def test_a_request_beyond_its_bounds_is_refused(form: type[AdminRequest], body: dict[str, Any]) -> None:
    with pytest.raises(AdminError) as refused:
        parse_request(form, json.dumps(body).encode())
    assert refused.value.code == "InvalidRequest"
