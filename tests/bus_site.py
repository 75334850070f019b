"""Both adapters of the Bus port, each with its broker and with paho clients on it.

Knows: how a bus of each kind is opened and ended.
Does not know: what a test says over it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

from broker.access import RulesAuthenticator
from broker.api import Broker, Bus, BusClosedError, ListenerAddress, Message
from broker.foreign import ForeignBus
from broker.foreign_settings import ForeignBusSettings
from broker.settings import BrokerSettings, ListenerSettings
from mosquitto import running_mosquitto
from paho_peer import PahoPeer

Kind: TypeAlias = Literal["in-process", "foreign"]


class BusSite:
    """A broker, buses on it, and clients in threads."""

    def __init__(
        self, port: int, group: asyncio.TaskGroup, stack: AsyncExitStack, broker: Broker | None
    ) -> None:
        self.port = port
        self._group = group
        self._stack = stack
        self._broker = broker
        self._foreign: list[ForeignBus] = []

    async def bus(self, name: str = "bus") -> Bus:
        if self._broker is not None:
            client = self._broker.in_process_client(name)
            self._stack.callback(client.close)
            return client
        bus = ForeignBus(foreign_settings(self.port, client_id=name))
        self._foreign.append(bus)
        self._group.create_task(bus.run(), name=name)
        self._stack.push_async_callback(bus.finish)
        await bus.wait_connected()
        return bus

    async def settled(self) -> None:
        """Wait until every subscription is granted."""
        for bus in self._foreign:
            await bus.wait_connected()

    async def client(self, client_id: str, **options: Any) -> PahoPeer:
        peer = PahoPeer(self.port, client_id, "5", **options)
        await asyncio.to_thread(peer.connect)
        self._stack.push_async_callback(asyncio.to_thread, disconnect, peer)
        return peer


@asynccontextmanager
async def bus_site(kind: Kind, folder: Path) -> AsyncIterator[BusSite]:
    async with AsyncExitStack() as outer:
        if kind == "foreign":
            port, broker = outer.enter_context(running_mosquitto(folder)).port, None
        group = await outer.enter_async_context(asyncio.TaskGroup())
        if kind == "in-process":
            broker = Broker(
                BrokerSettings(listeners=(ListenerSettings(url="tcp://127.0.0.1:0"),), allow_anonymous=True),
                authenticator=RulesAuthenticator(
                    (),
                    allow_anonymous=True,
                    require_client_id_is_common_name=False,
                    now=lambda: datetime.now(UTC),
                ),
            )
            port = await _serve(broker, group)
            outer.callback(broker.stop)
        async with AsyncExitStack() as stack:
            yield BusSite(port, group, stack, broker)


def disconnect(peer: PahoPeer) -> None:
    peer.disconnect()
    peer._paho._reset_sockets()  # Also that of a broker that is gone.


async def _serve(broker: Broker, group: asyncio.TaskGroup) -> int:
    started: asyncio.Future[list[ListenerAddress]] = asyncio.get_running_loop().create_future()
    group.create_task(broker.serve(started=lambda addresses: started.set_result(list(addresses))))
    port = urlsplit((await started)[0].url).port
    assert port is not None
    return port


def foreign_settings(port: int, **fields: Any) -> ForeignBusSettings:
    """Settings of a bus to a broker on loopback, with the patience of a test."""
    quick = {"reconnect_delay_s": 0.02, "reconnect_delay_maximum_s": 0.1}
    return ForeignBusSettings(**{"url": f"mqtt://127.0.0.1:{port}", **quick, **fields})


async def received(bus: Bus, count: int) -> list[Message]:
    """So many messages, acknowledged."""
    messages: list[Message] = []
    while len(messages) < count:
        batch = await bus.receive()
        bus.acknowledge(len(batch))
        messages += batch
    return messages


async def ends(bus: Bus) -> bool:
    """Whether the bus says that it is closed."""
    try:
        await bus.receive()
    except BusClosedError:
        return True
    return False
