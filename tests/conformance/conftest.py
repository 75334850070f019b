"""A broker in the test's own loop, and clients that speak literal bytes to it.

Each test runs twice: on the loop of the standard library with a store that takes its time, and on
uvloop without a store.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvloop

from broker.api import AccessRefusedError, Broker, ConnectRequest, ListenerAddress, MemoryStore, Principal
from broker.protocol.packets import TopicFilter, TopicName
from broker.protocol.reason_codes import ReasonCode
from broker.session.records import Changes
from broker.settings import BrokerSettings, LimitSettings
from fakes_hooks import Riddle

pytest.register_assert_rewrite("literal_bytes")

from literal_bytes import V3_1_1, V5, LiteralClients  # noqa: E402  (after its asserts learned to explain)


class _AllowAll:
    """Everybody but two may do everything, except with topics below `denied/`."""

    def may_publish(self, topic: TopicName, *, is_retain: bool) -> bool:
        return not topic.startswith(b"denied/")

    def may_subscribe(self, topic_filter: TopicFilter) -> bool:
        return not topic_filter.startswith(b"denied/")

    def may_receive(self, topic: TopicName) -> bool:
        return True

    def maximum_qos(self, topic_filter: TopicFilter) -> int:
        return 2

    async def authenticate(self, request: ConnectRequest) -> Principal:
        if request.client_id == "refused":
            raise AccessRefusedError(ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, "by the test")
        if request.user_name == "stranger":
            raise AccessRefusedError(ReasonCode.BAD_USER_NAME_OR_PASSWORD, "by the test")
        return Principal(
            tenant=request.tenant,
            client_id=request.client_id,
            user_name=None,
            certificate=None,
            thing_name=None,
            roles=frozenset(),
            permissions=self,
        )


class _SlowStore(MemoryStore):
    """A store whose commits are durable some loop turns later."""

    def commit(self, changes: Changes) -> Awaitable[None]:  # type: ignore[override]  # the port allows both
        return self._commit_later(changes)

    async def _commit_later(self, changes: Changes) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        super().commit(changes)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=[V3_1_1, V5], ids=["v3.1.1", "v5"])
def version(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.fixture
def limits() -> dict[str, Any]:
    """Other limits than the default ones: parametrize it."""
    return {}


@pytest.fixture
def switches() -> dict[str, Any]:
    """Other settings of the broker than the default ones: parametrize it."""
    return {}


@pytest.fixture
async def clients(limits: dict[str, Any], switches: dict[str, Any]) -> AsyncIterator[LiteralClients]:
    settings = BrokerSettings.model_validate(
        {"listeners": ["tcp://127.0.0.1:0"], "limits": LimitSettings.model_validate(limits), **switches}
    )
    loop = asyncio.get_running_loop()
    store = None if isinstance(loop, uvloop.Loop) else _SlowStore()
    broker = Broker(settings, authenticator=_AllowAll(), store=store, methods=[Riddle()])
    troubles: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: troubles.append(context))
    started: asyncio.Future[Sequence[ListenerAddress]] = loop.create_future()
    serving = loop.create_task(broker.serve(started=started.set_result), name="broker")
    serving.add_done_callback(lambda _: started.done() or started.cancel())
    async with asyncio.timeout(10):
        await started
    url = urlsplit(started.result()[0].url)
    assert url.hostname is not None
    assert url.port is not None
    clients = LiteralClients(url.hostname, url.port)
    yield clients
    await clients.close()
    broker.stop()
    async with asyncio.timeout(10):
        await serving
    assert troubles == []
