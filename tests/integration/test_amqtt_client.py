"""amqtt's client (3.1.1) over plain TCP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from amqtt.client import MQTTClient  # type: ignore[import-untyped]  # ships no types

from server_site import Site

TIMEOUT_S = 15


@asynccontextmanager
async def connected(site: Site, client_id: str) -> AsyncIterator[MQTTClient]:
    client = MQTTClient(client_id=client_id, config={"auto_reconnect": False})
    await client.connect(f"mqtt://127.0.0.1:{site.port}")
    try:
        yield client
    finally:
        await client.disconnect()


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_messages_arrive_in_order(tcp_site: Site, name: str, qos: int) -> None:
    async with (
        asyncio.timeout(TIMEOUT_S),
        connected(tcp_site, name) as device,
        connected(tcp_site, f"{name}-ada") as operator,
    ):
        assert await operator.subscribe([(f"dt/{name}/#", qos)]) == [qos]
        for number in range(20):
            await device.publish(f"dt/{name}/x", b"%d" % number, qos=qos)
        for number in range(20):
            message = await operator.deliver_message()
            assert message is not None
            assert (message.topic, bytes(message.data or b"")) == (f"dt/{name}/x", b"%d" % number)
            assert message.qos == qos


async def test_a_retained_message_waits_for_subscribers(tcp_site: Site, name: str) -> None:
    async with asyncio.timeout(TIMEOUT_S), connected(tcp_site, name) as device:
        await device.publish(f"dt/{name}/x", b"kept", qos=1, retain=True)
        await device.subscribe([(f"dt/{name}/x", 1)])
        message = await device.deliver_message()
        assert message is not None
        assert (bytes(message.data or b""), message.retain) == (b"kept", True)
