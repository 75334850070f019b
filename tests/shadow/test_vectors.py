"""Every row of vectors/shadow_vectors.json, through the pure decision and through the service."""

import json
from pathlib import Path
from typing import Any

import pytest

from fakes_bus import FakeBus, request
from shadow.commands import parse
from shadow.document import Document, Stored, Tombstone, restore_document
from shadow.engine import decide, reject
from shadow.errors import RequestError
from shadow.service import ShadowService
from shadow.settings import ShadowSettings
from shadow.store import MemoryShadowStore
from shadow.topics import ShadowKey, ShadowTopics

FILE = json.loads((Path(__file__).parent.parent / "vectors" / "shadow_vectors.json").read_text("utf-8"))
NOW = 1_700_000_000
SETTINGS = ShadowSettings()
TOPICS = ShadowTopics()

every_vector = pytest.mark.parametrize("vector", FILE["vectors"], ids=[row["id"] for row in FILE["vectors"]])


def with_now(value: Any) -> Any:
    """Put the time in place of `<NOW>`."""
    return json.loads(json.dumps(value).replace('"<NOW>"', str(NOW)))


def canonical(value: Any) -> str:
    """A text that tells true from 1 and 1 from 1.0, which Python's equality does not."""
    return json.dumps(value, sort_keys=True)


def payload_of(vector: Any) -> bytes:
    asked = vector["request"]
    text: str = asked["payload_raw"] if "payload_raw" in asked else json.dumps(asked["payload"])
    return text.encode()


def stored_of(value: Any) -> Stored | None:
    if value is None:
        return None
    if value.get("deleted"):
        return Tombstone(value["version"], NOW)
    return restore_document(json.dumps(value).encode())


def assert_is_stored(stored: Stored | None, expected: Any) -> None:
    match stored:
        case None:
            assert expected is None
        case Tombstone():
            assert expected == {"deleted": True, "version": stored.version}
        case Document():
            parts = {"state": stored.state, "metadata": stored.metadata, "version": stored.version}
            assert canonical(parts) == canonical(with_now(expected))
            assert canonical(json.loads(stored.encoded)) == canonical(with_now(expected))


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
        await store.commit({key: before})
    service = ShadowService(bus, store, SETTINGS, clock=lambda: NOW + 0.9)
    bus.deliver(request(asked["topic"], payload_of(vector)))
    bus.close()
    await service.run()

    published = [{"topic": sent.topic, "payload": sent.body} for sent in bus.published]
    assert canonical(published) == canonical(with_now(vector["expect"]["messages"]))
    assert all(sent.qos == 1 and not sent.is_retain for sent in bus.published)
    assert_is_stored((await store.load([key])).get(key), vector["expect"]["after"])
