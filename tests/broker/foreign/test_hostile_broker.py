"""A broker that is silent, breaks the protocol, or floods."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import pytest

from broker.api import BusClosedError
from broker.foreign import BusRefusedError, ForeignBus
from broker.foreign_settings import ForeignBusSettings
from broker.protocol.codec import encode_packet
from broker.protocol.packets import V5, ConnAck, Disconnect, PubAck, Publish, SubAck, TopicName
from broker.protocol.properties import Properties
from broker.protocol.reason_codes import ReasonCode
from bus_site import foreign_settings

Handler: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CONNACK = encode_packet(ConnAck(), V5)


@asynccontextmanager
async def fake_broker(handle: Handler) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def running(settings: ForeignBusSettings) -> AsyncIterator[ForeignBus]:
    bus = ForeignBus(settings)
    async with asyncio.TaskGroup() as group:
        group.create_task(bus.run())
        try:
            yield bus
        finally:
            await bus.finish()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00",
        b"\xff" * 100,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x20\xff\xff\xff\x7f",
        encode_packet(PubAck(1), V5),
        CONNACK + CONNACK,
        CONNACK + encode_packet(PubAck(1), V5) + b"\x00\x00",
        CONNACK + encode_packet(SubAck(1, (ReasonCode.SUCCESS,)), V5),
        CONNACK + encode_packet(Publish(TopicName(b"t"), b"", 2, packet_id=1), V5),
        CONNACK + encode_packet(Disconnect(ReasonCode.SERVER_SHUTTING_DOWN), V5),
        encode_packet(ConnAck(False, ReasonCode.SERVER_BUSY), V5),
    ],
    ids=repr,
)
async def test_a_broken_broker_is_tried_again(answer: bytes) -> None:
    connects = 0
    third = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connects
        connects += 1
        if connects == 3:
            third.set()
        writer.write(answer)
        while answer and await reader.read(1000):
            pass  # It is the bus that closes.

    # Some answers are the beginning of a long packet.
    async with fake_broker(handle) as port, running(foreign_settings(port, connect_timeout_s=0.1)):
        await third.wait()


async def test_a_broker_that_never_answers_is_given_up() -> None:
    again = asyncio.Event()
    connects = 0

    async def handle(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        nonlocal connects
        connects += 1
        if connects == 2:
            again.set()
        while await reader.read(1000):
            pass

    async with fake_broker(handle) as port, running(foreign_settings(port, connect_timeout_s=0.05)):
        await again.wait()


async def test_a_broker_that_falls_silent_is_pinged_and_then_given_up() -> None:
    gone = asyncio.Event()
    received = b""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        writer.write(encode_packet(ConnAck(properties=Properties(server_keep_alive=1)), V5))
        while data := await reader.read(1000):
            received += data
        gone.set()

    async with fake_broker(handle) as port, running(foreign_settings(port)):
        await gone.wait()
    assert b"\xc0\x00\xc0\x00" in received


async def test_a_client_id_that_another_process_uses_ends_the_bus() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CONNACK + encode_packet(Disconnect(ReasonCode.SESSION_TAKEN_OVER), V5))
        await reader.read()

    async with fake_broker(handle) as port:
        with pytest.raises(BusRefusedError, match="session taken over"):
            await ForeignBus(foreign_settings(port)).run()


async def test_a_refused_subscription_ends_the_bus() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CONNACK)
        data = b""
        while b"\x82" not in data:
            data += await reader.read(1000)
        packet_id = int.from_bytes(data.partition(b"\x82")[2][1:3], "big")
        writer.write(encode_packet(SubAck(packet_id, (ReasonCode.NOT_AUTHORIZED,)), V5))
        await reader.read()

    async with fake_broker(handle) as port:
        bus = ForeignBus(foreign_settings(port))
        bus.subscribe("secret")
        with pytest.raises(BusRefusedError, match="secret: not authorized"):
            await bus.run()


async def test_a_flood_is_not_read_beyond_the_limit() -> None:
    publish = encode_packet(Publish(TopicName(b"t"), bytes(1000)), V5)
    total = 64 * 1024 * 1024
    stuck = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CONNACK)
        written = 0
        while written < total:
            writer.write(publish * 100)
            written += 100 * len(publish)
            try:
                async with asyncio.timeout(0.3):
                    await writer.drain()
            except TimeoutError:
                stuck.set()
                await reader.read()
        pytest.fail("everything was taken")

    high = 100_000
    async with fake_broker(handle) as port, running(foreign_settings(port, held_bytes_high=high)) as bus:
        await stuck.wait()
        size = 0
        while size < high:
            batch = await bus.receive()
            size += sum(len(message.payload) for message in batch)
        # What one more read may bring, at most 256 KiB.
        assert size < high + 256 * 1024


async def test_settled_waits_until_the_broker_has_everything() -> None:
    published, take_it = asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(CONNACK)
        await reader.read(1000)
        published.set()
        await take_it.wait()
        writer.write(encode_packet(PubAck(1), V5))
        await reader.read(1000)

    async with fake_broker(handle) as port, running(foreign_settings(port)) as bus:
        await bus.wait_connected()
        bus.publish("a", b"", qos=1)
        async with asyncio.TaskGroup() as group:
            settling = group.create_task(bus.settled())
            await published.wait()
            assert not settling.done()
            take_it.set()
        bus.publish("a", b"", qos=0)
        await bus.settled()


async def test_settled_does_not_outlive_the_bus() -> None:
    bus = ForeignBus(foreign_settings(1, drain_s=0.01))
    bus.publish("a", b"", qos=1)
    async with asyncio.TaskGroup() as group:
        group.create_task(bus.run())
        settling = group.create_task(_is_refused(bus))
        await bus.finish()
    assert settling.result()


async def _is_refused(bus: ForeignBus) -> bool:
    try:
        await bus.settled()
    except BusClosedError:
        return True
    return False
