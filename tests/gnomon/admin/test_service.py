"""Requests of operators over a fake bus: who is answered, where, with what; traces and their bounds."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from broker.access import Principal
from broker.api import Message, Origin, PacketNote, SessionInfo, Subscription
from broker.protocol.packets import TopicFilter
from broker.protocol.properties import NO_PROPERTIES, Properties
from fakes import FakePermissions
from fakes_bus import FakeBus
from gnomon.admin import AdminService
from gnomon.admin.traces import TRACES_MAXIMUM
from shadow import MemoryShadowStore, ShadowService, ShadowSettings

REPLY = "$gnomon/admin/v1/reply/ada-1/x"


class RememberingBus(FakeBus):
    """Keeps the properties of what was published, too."""

    def __init__(self) -> None:
        super().__init__()
        self.properties: list[Properties] = []

    def publish(self, topic: str, payload: bytes, **options: Any) -> None:
        self.properties.append(options.get("properties", NO_PROPERTIES))
        super().publish(topic, payload, **options)


class FakeBroker:
    """Sessions by client id, in one tenant; what is followed and listened to is fed by the test."""

    def __init__(self, *client_ids: str) -> None:
        self.infos = {client_id: session_of(client_id) for client_id in ("ada-1", *client_ids)}
        self.kicked: list[tuple[str, bool]] = []
        self.listeners: dict[str, Callable[[PacketNote], None]] = {}
        self.buses: list[FakeBus] = []
        self.tenants: set[str] = set()
        self.subscribed = [Subscription(TopicFilter(b"t/#"), 1)]

    async def sessions(self, tenant: str, *, after: str = "", limit: int) -> Sequence[SessionInfo]:
        self.tenants.add(tenant)
        return [self.infos[name] for name in sorted(self.infos) if name > after][:limit]

    def session(self, tenant: str, client_id: str) -> SessionInfo | None:
        self.tenants.add(tenant)
        return self.infos.get(client_id)

    def subscriptions(self, tenant: str, client_id: str) -> Sequence[Subscription]:
        return self.subscribed

    def kick(self, tenant: str, client_id: str, *, end: bool = False) -> bool:
        self.kicked.append((client_id, end))
        if end:
            del self.infos[client_id]
        return True

    def follow(
        self, tenant: str, client_id: str, listener: Callable[[PacketNote], None]
    ) -> Callable[[], None]:
        self.listeners[client_id] = listener
        return lambda: self.listeners.pop(client_id, None) and None

    def count_receivers(self, tenant: str, topic: str, *, publisher: str | None = None) -> int:
        return 3

    def in_process_client(self, name: str, *, tenant: str = "default") -> FakeBus:
        self.buses.append(FakeBus())
        return self.buses[-1]


def session_of(client_id: str) -> SessionInfo:
    return SessionInfo(
        client_id=client_id,
        identity="user/ada",
        is_connected=True,
        since=1.0,
        expiry_interval_s=0,
        subscriptions=1,
        pending_messages=0,
        pending_bytes=0,
        in_flight_messages=0,
        dropped_messages=0,
    )


def asked(
    verb: str,
    body: object = None,
    *,
    client_id: str = "ada-1",
    role: str = "operator",
    tenant: str = "red",
    response_topic: str | None = REPLY,
    correlation: bytes = b"7",
    is_will: bool = False,
) -> Message:
    principal = Principal(
        tenant=tenant,
        client_id=client_id,
        user_name="ada",
        certificate=None,
        thing_name=None,
        roles=frozenset({role}),
        permissions=FakePermissions(),
    )
    payload = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return Message(
        topic=f"$gnomon/admin/v1/{verb}",
        payload=payload,
        qos=1,
        properties=Properties(response_topic=response_topic, correlation_data=correlation),
        origin=Origin(client_id, principal, is_will),
    )


class Site:
    def __init__(self, broker: FakeBroker) -> None:
        self.broker = broker
        self.bus = RememberingBus()
        shadows = ShadowService(FakeBus(), MemoryShadowStore(), ShadowSettings())
        self.service = AdminService(self.bus, broker, shadows, tenant="red")

    async def ask(self, message: Message) -> list[Any]:
        """What is published until the request was dealt with."""
        before = len(self.bus.published)
        self.bus.deliver(message)
        await self.bus.idle()
        return [published.body for published in self.bus.published[before:]]


@asynccontextmanager
async def site(*client_ids: str) -> AsyncIterator[Site]:
    made = Site(FakeBroker(*client_ids))
    async with asyncio.TaskGroup() as group:
        group.create_task(made.service.run())
        yield made
        made.bus.close()


async def test_an_answer_goes_to_the_response_topic_with_the_correlation_data() -> None:
    async with site("c") as at:
        await at.ask(asked("session/show", {"client_id": "c"}))
        published = at.bus.published[0]
        assert at.bus.filters == ["$gnomon/admin/v1/+/+"]
        assert (published.topic, published.qos, published.is_retain) == (REPLY, 1, False)
        assert at.bus.properties[0].correlation_data == b"7"
        assert published.body["session"]["client_id"] == "c"
        assert published.body["subscriptions"][0]["topic_filter"] == "t/#"
        assert at.broker.tenants == {"red"}


async def test_pages_follow_one_another_by_their_cursor() -> None:
    async with site("b", "c", "d") as at:
        [first] = await at.ask(asked("session/list", {"limit": 2}))
        [second] = await at.ask(asked("session/list", {"limit": 2, "cursor": first["cursor"]}))
        pages = [[info["client_id"] for info in page["sessions"]] for page in (first, second)]
        assert pages == [["ada-1", "b"], ["c", "d"]]
        assert (first["cursor"], second["cursor"]) == ("b", None)


async def test_long_client_ids_make_short_pages_and_nobody_is_left_out() -> None:
    names = {letter * 60_000 for letter in "bcdefghij"}
    async with site(*names) as at:
        seen: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            [answer] = await at.ask(asked("session/list", {"limit": 500, "cursor": cursor}))
            assert len(json.dumps(answer)) < 400_000
            seen += [info["client_id"] for info in answer["sessions"]]
            cursor = answer["cursor"]
        assert seen == sorted({*names, "ada-1"})


async def test_a_kick_tells_what_became_of_the_session() -> None:
    async with site("c") as at:
        assert await at.ask(asked("session/kick", {"client_id": "c"})) == [
            {"client_id": "c", "was_connected": True, "session_ended": False}
        ]
        [answer] = await at.ask(asked("session/kick", {"client_id": "c", "end": True}))
        assert answer["session_ended"]
        assert at.broker.kicked == [("c", False), ("c", True)]


@pytest.mark.parametrize(
    ("verb", "body", "code"),
    [
        ("session/show", {"client_id": "nobody"}, "NotFound"),
        ("session/kick", {"client_id": "nobody"}, "NotFound"),
        ("trace/stop", {"trace": "00"}, "NotFound"),
        ("session/steal", {}, "UnknownRequest"),
        ("session/show", b"{", "InvalidRequest"),
        ("session/show", b"\xff", "InvalidRequest"),
        ("session/show", b"[" * 100_000, "InvalidRequest"),
        ("session/show", b" " * 600_000, "InvalidRequest"),
        ("session/show", {}, "InvalidRequest"),
        ("session/show", {"client_id": 1}, "InvalidRequest"),
        ("session/kick", {"client_id": "c", "end": "yes"}, "InvalidRequest"),
        ("session/list", {"limit": 501}, "InvalidRequest"),
        ("session/list", {"bogus": 1}, "InvalidRequest"),
        ("trace/start", {}, "InvalidRequest"),
        ("trace/start", {"client_id": "c", "topic_filter": "t"}, "InvalidRequest"),
        ("trace/start", {"topic_filter": "a/#/b"}, "InvalidRequest"),
        ("trace/start", {"topic_filter": "$share/g/t"}, "InvalidRequest"),
        ("trace/start", {"client_id": "c", "seconds": 301}, "InvalidRequest"),
        ("trace/start", {"client_id": "c", "events": 10_001}, "InvalidRequest"),
    ],
)
async def test_what_cannot_be_done_is_answered_by_a_code(verb: str, body: object, code: str) -> None:
    async with site("c") as at:
        [answer] = await at.ask(asked(verb, body))
        assert answer.keys() == {"code", "message"}
        assert answer["code"] == code
        assert len(answer["message"]) <= 200
        assert at.broker.kicked == []


@pytest.mark.parametrize(
    "message",
    [
        asked("session/kick", {"client_id": "c"}, role="device"),
        asked("session/kick", {"client_id": "c"}, tenant="blue"),
        asked("session/kick", {"client_id": "c"}, is_will=True),
        asked("session/kick", {"client_id": "c"}, response_topic=None),
        asked("session/kick", {"client_id": "c"}, response_topic="dt/x"),
        asked("session/kick", {"client_id": "c"}, response_topic="$gnomon/admin/v1/reply/bob/x"),
        asked("session/kick", {"client_id": "c"}, response_topic="$gnomon/admin/v1/reply/ada-1"),
        asked("session/kick", {"client_id": "c"}, response_topic="$gnomon/admin/v1/reply/ada-1/"),
        asked("session/kick", {"client_id": "c"}, response_topic=REPLY + "/#"),
        asked("session/kick", {"client_id": "c"}, response_topic=REPLY + "x" * 600),
        asked(
            "session/kick", {"client_id": "c"}, client_id="a/b", response_topic="$gnomon/admin/v1/reply/a/b"
        ),
        asked("session/kick", {"client_id": "c"}, correlation=b"x" * 129),
        Message(topic="$gnomon/admin/v1/session/kick", payload=b'{"client_id": "c"}'),
    ],
)
async def test_who_has_no_right_or_no_place_for_an_answer_gets_nothing_done(message: Message) -> None:
    async with site("c") as at:
        with structlog.testing.capture_logs() as lines:
            assert await at.ask(message) == []
        assert at.broker.kicked == []
        assert [line["event"] for line in lines] == ["admin.refused"]


async def test_every_request_is_audited_with_who_what_and_verdict() -> None:
    async with site("c") as at:
        with structlog.testing.capture_logs() as lines:
            await at.ask(asked("session/kick", {"client_id": "c"}))
            await at.ask(asked("session/kick", {"client_id": "x" * 5_000}))
        who = [(line["client_id"], line["identity"], line["verb"]) for line in lines]
        assert who == [("ada-1", "user/ada", "session/kick")] * 2
        assert [line["verdict"] for line in lines] == ["done", "NotFound"]
        assert [len(line["target"]) for line in lines] == [1, 200]


async def test_a_failure_of_ours_is_answered_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with site("c") as at:
        at.broker.subscribed = [None]  # type: ignore[list-item]  # what no broker gives
        [answer] = await at.ask(asked("session/show", {"client_id": "c"}))
        assert answer["code"] == "InternalError"
        [answer] = await at.ask(asked("session/kick", {"client_id": "c"}))
        assert answer["was_connected"]


def packet(topic: str = "t") -> PacketNote:
    return PacketNote(packet="PUBLISH", is_from_client=True, topic=topic, payload_bytes=9)


async def events_until_over(at: Site) -> tuple[list[Any], Any]:
    """The events of the one trace that runs, and what it said at its end."""
    count = 1
    while "over" not in (await at.bus.sent(count))[-1].body:
        count = len(at.bus.published) + 1
    bodies = [published.body for published in at.bus.published]
    return [event for body in bodies for event in body.get("events", ())], bodies[-1]


async def test_a_trace_ends_after_its_number_of_events() -> None:
    async with site("c") as at:
        [started] = await at.ask(asked("trace/start", {"client_id": "c", "events": 70}))
        await at.bus.sent(1)
        await asyncio.sleep(0)
        for number in range(100):
            at.broker.listeners["c"](packet(f"t/{number}"))
        events, last = await events_until_over(at)
        assert [event["topic"] for event in events] == [f"t/{number}" for number in range(70)]
        assert last == {"trace": started["trace"], "over": "events", "told": 70, "skipped": 0}
        assert all(len(body.body.get("events", ())) <= 50 for body in at.bus.published)
        assert at.broker.listeners == {}


async def test_events_beyond_what_may_wait_are_counted_and_not_told() -> None:
    async with site("c") as at:
        await at.ask(asked("trace/start", {"client_id": "c", "events": 5_000}))
        await asyncio.sleep(0)
        for _ in range(5_000):
            at.broker.listeners["c"](packet())
        events, last = await events_until_over(at)
        assert (len(events), last["told"], last["skipped"]) == (1_000, 1_000, 4_000)


async def test_a_trace_ends_by_its_time() -> None:
    async with site("c") as at:
        await at.ask(asked("trace/start", {"client_id": "c", "seconds": 1}))
        assert (await events_until_over(at))[1]["over"] == "time"


async def test_a_trace_ends_when_its_requester_is_gone() -> None:
    async with site("c") as at:
        await at.ask(asked("trace/start", {"client_id": "c"}))
        del at.broker.infos["ada-1"]
        assert (await events_until_over(at))[1]["over"] == "nobody listens"


async def test_a_trace_tells_nothing_of_answers() -> None:
    async with site("c") as at:
        await at.ask(asked("trace/start", {"client_id": "c", "events": 1}))
        await asyncio.sleep(0)
        at.broker.listeners["c"](packet(REPLY))
        at.broker.listeners["c"](packet("t"))
        assert [event["topic"] for event in (await events_until_over(at))[0]] == ["t"]


async def test_only_so_many_traces_run_and_a_stopped_one_makes_room() -> None:
    async with site("c") as at:
        traces = [
            (await at.ask(asked("trace/start", {"client_id": f"c{n}"})))[0] for n in range(TRACES_MAXIMUM)
        ]
        [refused] = await at.ask(asked("trace/start", {"client_id": "c"}))
        assert refused["code"] == "LimitExceeded"
        other = asked(
            "trace/stop",
            {"trace": traces[0]["trace"]},
            client_id="bob",
            response_topic=REPLY.replace("ada-1", "bob"),
        )
        assert (await at.ask(other))[0]["code"] == "NotFound"
        await at.ask(asked("trace/stop", {"trace": traces[0]["trace"]}))
        assert (await events_until_over(at))[1]["over"] == "stopped"
        [started] = await at.ask(asked("trace/start", {"client_id": "c"}))
        assert "trace" in started


async def test_a_topic_trace_tells_who_published_and_how_many_receive() -> None:
    async with site() as at:
        await at.ask(asked("trace/start", {"topic_filter": "dt/#", "events": 2}))
        await asyncio.sleep(0)
        bus = at.broker.buses[0]
        bus.deliver(asked("x"), Message(topic="dt/1", payload=b"secret", qos=2))
        [first, second], _ = await events_until_over(at)
        assert bus.filters == ["dt/#"]
        assert (first["publisher"], first["identity"]) == ("ada-1", "user/ada")
        assert (second["publisher"], second["qos"], second["payload_bytes"], second["receivers"]) == (
            None,
            2,
            6,
            3,
        )
        assert "secret" not in json.dumps([published.body for published in at.bus.published])
