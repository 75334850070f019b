"""Every row of vectors/shadow_vectors.json, through the pure decision and through the service."""

import json
from typing import Any

import pytest

from fakes_bus import FakeBus, request
from shadow.commands import parse
from shadow.engine import decide, reject
from shadow.errors import RequestError
from shadow.memory_store import MemoryShadowStore
from shadow.service import ShadowService
from shadow.topics import ShadowKey, ShadowTopics
from shadow_vectors import (
    FILE,
    NOW,
    SETTINGS,
    assert_is_kept,
    assert_is_stored,
    canonical,
    changes_of,
    payload_of,
    stored_of,
    with_now,
)

TOPICS = ShadowTopics()

every_vector = pytest.mark.parametrize("vector", FILE["vectors"], ids=[row["id"] for row in FILE["vectors"]])


def test_the_file_holds_all_vectors() -> None:
    assert len(FILE["vectors"]) == 48


@every_vector
def test_decide_follows_the_vector(vector: Any) -> None:
    parsed = TOPICS.parse(vector["request"]["topic"])
    assert parsed is not None
    key, operation = parsed
    after = before = stored_of(vector["before"])
    try:
        command = parse(operation, payload_of(vector), SETTINGS)
        decision = decide(key, before, command, now=NOW, settings=SETTINGS)
    except RequestError as error:
        messages = [reject(operation, error)]
    else:
        messages = list(decision.messages)
        after = decision.change or before

    published = [
        {"topic": TOPICS.reply(key, message.reply), "payload": json.loads(message.payload)}
        for message in messages
    ]
    assert canonical(published) == canonical(with_now(vector["expect"]["messages"]))
    assert_is_stored(after, vector["expect"]["after"])


@every_vector
async def test_the_service_follows_the_vector(vector: Any) -> None:
    asked = vector["request"]
    key = ShadowKey(vector["thing"], asked.get("shadow"))
    bus, store = FakeBus(), MemoryShadowStore()
    if (before := stored_of(vector["before"])) is not None:
        await store.commit(changes_of({key: before}))
    service = ShadowService(bus, store, SETTINGS, clock=lambda: NOW + 0.9)
    bus.deliver(request(asked["topic"], payload_of(vector)))
    bus.close()
    await service.run()

    published = [{"topic": sent.topic, "payload": sent.body} for sent in bus.published]
    assert canonical(published) == canonical(with_now(vector["expect"]["messages"]))
    assert all(sent.qos == 1 and not sent.is_retain for sent in bus.published)
    assert_is_kept((await store.load([key])).get(key), vector["expect"]["after"])
