"""What a connection gets to see when the broker itself cannot go on."""

import asyncio
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest

from broker.access import RulesAuthenticator, builtin_rules
from broker.api import Broker, ListenerAddress, MemoryStore
from broker.session.records import Changes
from broker.settings import BrokerSettings
from literal_bytes import V3_1_1, LiteralClients


class _StoreError(Exception):
    """The disk is full, as it were."""


class _FailingStore(MemoryStore):
    """A store that fails from some moment on, at once or after a while."""

    def __init__(self, *, at_once: bool) -> None:
        super().__init__()
        self.is_failing = False
        self._at_once = at_once

    def commit(self, changes: Changes) -> Awaitable[None] | None:  # type: ignore[override]  # the port allows both
        if not self.is_failing:
            return super().commit(changes)
        if self._at_once:
            raise _StoreError
        return self._fail_later()

    async def _fail_later(self) -> None:
        await asyncio.sleep(0)
        raise _StoreError


@pytest.mark.clause("v3.1.1", "MQTT-4.8.0-2")
@pytest.mark.parametrize("at_once", [True, False])
async def test_message_that_cannot_be_stored_is_not_acknowledged_and_ends_the_connection(
    at_once: bool,
) -> None:
    store = _FailingStore(at_once=at_once)
    authenticator = RulesAuthenticator(
        builtin_rules(),
        allow_anonymous=True,
        require_client_id_is_common_name=False,
        now=lambda: datetime.now(UTC),
    )
    settings = BrokerSettings.model_validate({"listeners": ["tcp://127.0.0.1:0"]})
    broker = Broker(settings, authenticator=authenticator, store=store)
    loop = asyncio.get_running_loop()
    started: asyncio.Future[Sequence[ListenerAddress]] = loop.create_future()
    serving = loop.create_task(broker.serve(started=started.set_result), name="broker")
    async with asyncio.timeout(10):
        port = urlsplit((await started)[0].url).port
    assert port is not None
    clients = LiteralClients("127.0.0.1", port)
    lasting = await clients.connect(V3_1_1, "lasting", flags="00")
    lasting.send('82 .. 0001 "a" 01')
    await lasting.expect("90 .. 0001 01")
    lasting.abort()
    publisher = await clients.connect(V3_1_1)
    publisher.send('32 .. "a" 0001')
    await publisher.expect("40 02 0001")
    store.is_failing = True
    publisher.send('32 .. "a" 0002')
    await publisher.expect_closed()
    with pytest.raises(ExceptionGroup) as trouble:
        await serving
    assert trouble.group_contains(_StoreError)
    await clients.close()
