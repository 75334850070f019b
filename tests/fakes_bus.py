"""A bus without a broker: batches in, a list of what was published out.

Knows: the port `broker.api.Bus`.
Does not know: routing; a test delivers what it likes.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from broker.api import BusClosedError, Message, Origin
from broker.protocol.properties import NO_PROPERTIES, Properties


class Published(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    is_retain: bool
    supersede_key: bytes | None = None

    @property
    def body(self) -> Any:
        return json.loads(self.payload)


class FakeBus:
    """`deliver` makes a batch, and `close` ends the bus after all of them.

    `idle` waits until every batch was received and handled, `sent` until so many messages were published.
    """

    def __init__(self) -> None:
        self.filters: list[str] = []
        self.published: list[Published] = []
        self.acknowledged = 0
        self.is_closed_for_publish = False
        self._batches: asyncio.Queue[Sequence[Message] | None] = asyncio.Queue()
        self._idle = asyncio.Event()
        self._sent = asyncio.Event()

    def deliver(self, *messages: Message) -> None:
        self._idle.clear()
        self._batches.put_nowait(messages)

    async def idle(self) -> None:
        await self._idle.wait()

    async def sent(self, count: int) -> list[Published]:
        while len(self.published) < count:
            self._sent.clear()
            await self._sent.wait()
        return self.published

    def subscribe(self, *topic_filters: str, qos: int = 1) -> None:
        self.filters.extend(topic_filters)

    async def receive(self) -> Sequence[Message]:
        if self._batches.empty():
            self._idle.set()
        batch = await self._batches.get()
        if batch is None:
            raise BusClosedError
        return batch

    def acknowledge(self, count: int) -> None:
        self.acknowledged += count

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        is_retain: bool = False,
        properties: Properties = NO_PROPERTIES,
        supersede_key: bytes | None = None,
    ) -> None:
        if self.is_closed_for_publish:
            raise BusClosedError
        self.published.append(Published(topic, payload, qos, is_retain, supersede_key))
        self._sent.set()

    def close(self) -> None:
        self._batches.put_nowait(None)


def request(
    topic: str,
    body: object = None,
    *,
    client_id: str = "client-1",
    is_will: bool = False,
    is_retain: bool = False,
) -> Message:
    """A message of a client; `body` is bytes as they are, None for empty, or JSON."""
    payload = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    origin = Origin(client_id=client_id, principal=None, is_will=is_will)
    return Message(topic=topic, payload=payload, qos=1, is_retain=is_retain, origin=origin)
