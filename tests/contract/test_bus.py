"""What every adapter of the Bus port does, whoever the broker is."""

import asyncio
from pathlib import Path

import pytest

from broker.api import BusClosedError
from broker.protocol.errors import LocalUsageError, TopicFilterInvalidError, TopicNameInvalidError
from broker.protocol.properties import Properties
from bus_site import Kind, bus_site, ends, received

both_adapters = pytest.mark.parametrize("kind", ["in-process", "foreign"])


@both_adapters
async def test_a_message_arrives_as_its_client_published_it(kind: Kind, tmp_path: Path) -> None:
    async with bus_site(kind, tmp_path) as site:
        bus = await site.bus()
        bus.subscribe("dt/+/state")
        await site.settled()
        client = await site.client("client")
        told = {
            "UserProperty": [("a", "1"), ("b", "2"), ("a", "3")],
            "ResponseTopic": "reply/here",
            "CorrelationData": b"\x00\x01",
            "ContentType": "text/plain",
        }
        await asyncio.to_thread(client.publish, "dt/lamp/state", b"\xff\x00", qos=1, properties=told)
        (message,) = await received(bus, 1)
        assert (message.topic, message.payload, message.qos) == ("dt/lamp/state", b"\xff\x00", 1)
        assert not message.is_retain
        assert not message.is_dup
        assert message.properties.user_properties == (("a", "1"), ("b", "2"), ("a", "3"))
        assert message.properties.response_topic == "reply/here"
        assert message.properties.correlation_data == b"\x00\x01"
        assert message.properties.content_type == "text/plain"


@both_adapters
async def test_messages_of_a_topic_arrive_in_order_and_once(kind: Kind, tmp_path: Path) -> None:
    count = 3000  # Several times what may be in flight, and more than one batch.
    async with bus_site(kind, tmp_path) as site:
        bus = await site.bus()
        bus.subscribe("n/#")
        await site.settled()
        client = await site.client("client")

        def publish_all() -> None:
            for mid in [client.post(f"n/{n % 3}", str(n).encode(), qos=1) for n in range(count)]:
                client.settle(mid)

        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(publish_all))
            messages = await received(bus, count)
        for topic in range(3):
            numbers = [int(each.payload) for each in messages if each.topic == f"n/{topic}"]
            assert numbers == list(range(topic, count, 3))


@both_adapters
@pytest.mark.parametrize("qos", [0, 1])
async def test_what_is_published_reaches_clients_in_order(kind: Kind, tmp_path: Path, qos: int) -> None:
    async with bus_site(kind, tmp_path) as site:
        bus = await site.bus()
        client = await site.client("client")
        await asyncio.to_thread(client.subscribe, "out/#")
        for n in range(300):
            bus.publish(f"out/{n % 2}", str(n).encode(), qos=qos)
        got = [await asyncio.to_thread(client.receive) for _ in range(300)]
        for topic in range(2):
            assert [int(m.payload) for m in got if m.topic == f"out/{topic}"] == list(range(topic, 300, 2))
        assert {message.qos for message in got} == {qos}


@both_adapters
async def test_properties_travel_outwards(kind: Kind, tmp_path: Path) -> None:
    async with bus_site(kind, tmp_path) as site:
        bus = await site.bus()
        client = await site.client("client")
        await asyncio.to_thread(client.subscribe, "out")
        properties = Properties(
            correlation_data=b"c", user_properties=(("k", "v"),), message_expiry_interval=60
        )
        bus.publish("out", b"x", qos=1, properties=properties)
        told = vars((await asyncio.to_thread(client.receive_raw)).properties)
        assert told["CorrelationData"] == b"c"
        assert told["UserProperty"] == [("k", "v")]
        assert 58 <= told["MessageExpiryInterval"] <= 60


@both_adapters
async def test_a_retained_message_stays_and_is_not_received_by_a_later_bus(
    kind: Kind, tmp_path: Path
) -> None:
    async with bus_site(kind, tmp_path) as site:
        bus = await site.bus()
        bus.publish("kept", b"1", qos=1, is_retain=True)
        client = await site.client("client")
        await asyncio.to_thread(client.subscribe, "kept")
        # It is there, at once or as it comes in.
        assert (await asyncio.to_thread(client.receive)).payload == b"1"
        later = await site.bus("later")
        later.subscribe("kept")
        await site.settled()
        bus.publish("kept", b"2", qos=1, is_retain=True)
        (message,) = await received(later, 1)
        assert (message.payload, message.is_retain) == (b"2", True)


@both_adapters
async def test_a_bus_receives_what_it_publishes_itself(kind: Kind, tmp_path: Path) -> None:
    async with bus_site(kind, tmp_path) as site:
        bus = await site.bus()
        bus.subscribe("echo")
        await site.settled()
        bus.publish("echo", b"x", qos=1)
        assert [message.payload for message in await received(bus, 1)] == [b"x"]


@both_adapters
async def test_a_filter_that_is_none_is_refused_and_none_of_its_call_holds(
    kind: Kind, tmp_path: Path
) -> None:
    async with bus_site(kind, tmp_path) as site:
        bus = await site.bus()
        with pytest.raises(TopicFilterInvalidError):
            bus.subscribe("good", "b#d")
        bus.subscribe("end")
        await site.settled()
        bus.publish("good", b"", qos=1)
        bus.publish("end", b"", qos=1)
        assert [message.topic for message in await received(bus, 1)] == ["end"]


@both_adapters
async def test_a_topic_that_is_none_is_refused(kind: Kind, tmp_path: Path) -> None:
    async with bus_site(kind, tmp_path) as site:
        bus = await site.bus()
        with pytest.raises(TopicNameInvalidError):
            bus.publish("a/+", b"")


@both_adapters
async def test_closing_ends_a_waiting_receive_and_lets_the_last_messages_go(
    kind: Kind, tmp_path: Path
) -> None:
    async with bus_site(kind, tmp_path) as site:
        bus = await site.bus()
        client = await site.client("client")
        await asyncio.to_thread(client.subscribe, "last")
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(ends(bus))
            await asyncio.sleep(0)
            bus.close()
        assert waiting.result()
        bus.publish("last", b"words", qos=1)
        assert (await asyncio.to_thread(client.receive)).payload == b"words"
        with pytest.raises(LocalUsageError):
            bus.subscribe("more")
        with pytest.raises(BusClosedError):
            await bus.receive()
