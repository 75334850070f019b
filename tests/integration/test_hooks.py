"""Hooks that wait, on a broker with sockets: enhanced authentication, and somebody outside who decides."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from broker.api import (
    Action,
    AskingPermissions,
    Broker,
    ConnectRequest,
    Continue,
    ListenerAddress,
    Principal,
    Success,
)
from broker.settings import BrokerSettings, LimitSettings
from fakes import FakePermissions
from literal_bytes import ANNOUNCED, V5, LiteralClients, connect_packet


class Hooks:
    """Authenticator, method and decision in one; each waits for `is_open`, and fails where it is told to."""

    method = "ECHO"

    def __init__(self) -> None:
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.asked: list[tuple[str, str]] = []
        self.is_failing = False

    async def authenticate(self, request: ConnectRequest) -> Principal:
        return Principal(
            tenant=request.tenant,
            client_id=request.client_id,
            user_name=None,
            certificate=None,
            thing_name=None,
            roles=frozenset(),
            permissions=AskingPermissions(FakePermissions(), self),
        )

    async def start(self, request: ConnectRequest, data: bytes | None) -> Continue | Success:
        await self._wait()

        async def proceed(answer: bytes | None) -> Continue | Success:
            await self._wait()
            return Success(await self.authenticate(request), answer)

        return Continue(data, proceed)

    async def authorize(self, principal: Principal, action: Action, topic: str) -> bool:
        self.asked.append((action.value, topic))
        await self._wait()
        return not topic.startswith("denied")

    async def _wait(self) -> None:
        if self.is_failing:
            raise RuntimeError("a hook fails")
        await self.is_open.wait()


@asynccontextmanager
async def serving(hooks: Hooks, **limits: float) -> AsyncIterator[LiteralClients]:
    settings = BrokerSettings.model_validate(
        {"listeners": ["tcp://127.0.0.1:0"], "limits": LimitSettings.model_validate(limits)}
    )
    broker = Broker(settings, authenticator=hooks, methods=[hooks])
    started: asyncio.Future[Sequence[ListenerAddress]] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        group.create_task(broker.serve(started=started.set_result), name="broker")
        url = urlsplit((await started)[0].url)
        assert url.port is not None
        clients = LiteralClients("127.0.0.1", url.port)
        try:
            yield clients
        finally:
            await clients.close()
            broker.stop()


def connect() -> str:
    """CONNECT with Authentication Method ECHO, and data of one byte."""
    return connect_packet(V5, properties="15 \"ECHO\" 16 0001 '7'")


@pytest.mark.clause("v5", "MQTT-4.12.0-5")
async def test_a_client_is_let_in_by_a_challenge_and_proves_itself_again() -> None:
    async with serving(Hooks()) as clients:
        client = await clients.open(V5)
        client.send(connect())
        await client.expect("F0 .. 18 {15 \"ECHO\" 16 0001 '7'}")
        client.send("F0 .. 18 {15 \"ECHO\" 16 0001 '8'}")
        await client.expect(f"20 .. 00 00 {{15 \"ECHO\" 16 0001 '8' {ANNOUNCED}}}")
        client.send("F0 .. 19 {15 \"ECHO\" 16 0001 '9'}")
        await client.expect("F0 .. 18 {15 \"ECHO\" 16 0001 '9'}")
        client.send("F0 .. 18 {15 \"ECHO\" 16 0001 '0'}")
        await client.expect("F0 .. 00 {15 \"ECHO\" 16 0001 '0'}")


async def test_a_method_that_fails_or_does_not_answer_in_time_refuses() -> None:
    hooks = Hooks()
    async with serving(hooks, authentication_timeout_s=0.05) as clients:
        for is_failing in (True, False):
            hooks.is_failing = is_failing
            hooks.is_open.clear()
            client = await clients.open(V5)
            client.send(connect())
            await client.expect_closed("20 .. 00 88 {}")


async def test_publish_waits_for_the_decision_and_keeps_its_order() -> None:
    hooks = Hooks()
    async with serving(hooks) as clients:
        watcher = await clients.subscribed(V5, "#", 0, "watcher")
        client = await clients.connect(V5)
        hooks.is_open.clear()
        client.send("30 .. \"a\" 00 '1'", "32 .. \"denied\" 0001 00 '2'", "30 .. \"a\" 00 '3'")
        await watcher.expect_nothing()
        hooks.is_open.set()
        await client.expect("40 .. 0001 87")
        await watcher.expect("30 .. \"a\" 00 '1'", "30 .. \"a\" 00 '3'")
        assert hooks.asked == [("subscribe", "#"), ("publish", "a"), ("publish", "denied")]


@pytest.mark.parametrize("is_failing", [True, False])
async def test_a_decision_that_fails_or_does_not_come_in_time_is_a_denial(is_failing: bool) -> None:
    hooks = Hooks()
    async with serving(hooks, authentication_timeout_s=0.05) as clients:
        client = await clients.connect(V5)
        hooks.is_failing = is_failing
        hooks.is_open.clear()
        client.send('82 .. 0001 00 "a" 00')
        await client.expect("90 .. 0001 00 87")
