"""The shadow service beside a foreign broker: every vector, over mosquitto, as a member of a share."""

import asyncio
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from broker.foreign import ForeignBus
from bus_site import disconnect, foreign_settings
from mosquitto import Mosquitto, running_mosquitto
from paho_peer import PahoPeer
from shadow.memory_store import MemoryShadowStore
from shadow.service import ShadowService
from shadow.topics import ShadowKey
from shadow_vectors import (
    FILE,
    NOW,
    SETTINGS,
    assert_is_kept,
    canonical,
    changes_of,
    payload_of,
    stored_of,
    with_now,
)

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with running_mosquitto(tmp_path_factory.mktemp("mosquitto")) as broker:
        yield broker


async def answers(
    mosquitto: Mosquitto, vector: Any, store: MemoryShadowStore, root: str, share: str | None
) -> Any:
    """What clients see on the topics of the thing after the request of a vector, to the last message."""
    topic = vector["request"]["topic"].replace("$aws", root, 1)
    end = f"{root}/things/{vector['thing']}/shadow/end"
    observer = PahoPeer(mosquitto.port, f"observer-{next(_numbers)}", "5")
    await asyncio.to_thread(observer.connect)
    await asyncio.to_thread(observer.subscribe, f"{root}/things/{vector['thing']}/shadow/#")
    bus = ForeignBus(foreign_settings(mosquitto.port, share=share, session_expiry_s=0))
    service = ShadowService(bus, store, SETTINGS, clock=lambda: NOW + 0.9, root=root)
    async with asyncio.TaskGroup() as group:
        group.create_task(bus.run())
        serving = group.create_task(service.run())
        await bus.wait_connected()
        await asyncio.to_thread(observer.publish, topic, payload_of(vector), qos=1)
        seen = [
            await asyncio.to_thread(observer.receive) for _ in range(1 + len(vector["expect"]["messages"]))
        ]
        bus.close()
        await serving
        bus.publish(end, b"", qos=1)
        seen += await asyncio.to_thread(observer.receive_until, b"")
        await bus.finish()
    await asyncio.to_thread(disconnect, observer)
    return [
        {"topic": message.topic.replace(root, "$aws", 1), "payload": json.loads(message.payload)}
        for message in seen
        if message.topic != topic
    ]


async def follow(mosquitto: Mosquitto, vector: Any, root: str, share: str | None) -> None:
    key = ShadowKey(vector["thing"], vector["request"].get("shadow"))
    store = MemoryShadowStore()
    if (before := stored_of(vector["before"])) is not None:
        await store.commit(changes_of({key: before}))
    seen = await answers(mosquitto, vector, store, root, share)
    assert canonical(seen) == canonical(with_now(vector["expect"]["messages"]))
    assert_is_kept((await store.load([key])).get(key), vector["expect"]["after"])


@pytest.mark.parametrize("vector", FILE["vectors"], ids=[row["id"] for row in FILE["vectors"]])
async def test_the_service_follows_the_vector(mosquitto: Mosquitto, vector: Any) -> None:
    # mosquitto 2.0 delivers nothing of a share below `$aws`.
    await follow(mosquitto, vector, "aws", "shadow")


async def test_below_the_reserved_root_it_works_without_a_share(mosquitto: Mosquitto) -> None:
    await follow(mosquitto, FILE["vectors"][0], "$aws", None)
