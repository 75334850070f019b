"""gmqtt, an asyncio client of its own make, in both versions over TCP and mutual TLS."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import gmqtt  # type: ignore[import-untyped]  # ships no types
import pytest
from gmqtt.mqtt.constants import MQTTv50, MQTTv311  # type: ignore[import-untyped]
from gmqtt.storage import PersistentStorage  # type: ignore[import-untyped]

from paho_peer import client_context
from server_site import Site, unique

TIMEOUT_S = 15
LEVELS = {"3.1.1": MQTTv311, "5": MQTTv50}
NOT_AUTHORIZED = 0x87
DISCONNECT_WITH_WILL_MESSAGE = 0x04

every_qos = pytest.mark.parametrize("qos", [0, 1, 2])


@pytest.fixture(params=["mtls_site", "tcp_site"])
def site(request: pytest.FixtureRequest) -> Site:
    found: Site = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=LEVELS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Peer:
    """One client; every step waits for what the server answers, as long as the test has time."""

    def __init__(
        self, site: Site, version: str, client_id: str, *, is_operator: bool = False, **options: Any
    ) -> None:
        self._unacknowledged = PersistentStorage()
        self._client = client = gmqtt.Client(client_id, persistent_storage=self._unacknowledged, **options)
        client.set_config({"reconnect_retries": -2})  # With 0 it tries once, and -1 is for ever.
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_subscribe = self._on_answer
        client.on_unsubscribe = lambda _client, _mid, codes: self._answers.put_nowait(codes)
        self._port = site.port
        self._level = LEVELS[version]
        self._context: Any = False
        if site.scheme == "mtls":
            files = site.pki.ensure_operator("ada") if is_operator else site.pki.ensure_device(client_id)
            self._context = client_context(files)
        self.is_session_present = False
        self._answers: asyncio.Queue[Any] = asyncio.Queue()
        self.messages: asyncio.Queue[tuple[str, bytes, int, bool]] = asyncio.Queue()
        self.properties: dict[str, Any] = {}

    async def connect(self) -> None:
        await self._client.connect("localhost", self._port, ssl=self._context, version=self._level)

    async def disconnect(self, reason_code: int = 0) -> None:
        try:
            await self._client.disconnect(reason_code)
        except ssl.SSLError as error:
            # asyncio tells of what was on its way (a PUBREL) when the client said its last word.
            if error.reason != "APPLICATION_DATA_AFTER_CLOSE_NOTIFY":
                raise

    async def kill(self) -> None:
        """Go away without DISCONNECT, and without the end of TLS."""
        connection = self._client._connection
        connection._transport.abort()
        await connection._protocol.closed

    async def subscribe(self, topic_filter: str, qos: int, **options: Any) -> int:
        self._client.subscribe(topic_filter, qos, **options)
        code: int = (await self._answers.get())[0]
        return code

    async def unsubscribe(self, topic_filter: str) -> None:
        self._client.unsubscribe(topic_filter)
        await self._answers.get()

    async def publish(self, topic: str, payload: bytes, qos: int, **options: Any) -> None:
        """Publish, and wait for the end of its flow."""
        self._client.publish(topic, payload, qos, **options)
        await self._unacknowledged.wait_empty()

    def _on_connect(self, _client: Any, flags: int, _code: int, _properties: Any) -> None:
        self.is_session_present = bool(flags & 1)

    def _on_message(
        self, _client: Any, topic: str, payload: bytes, qos: int, properties: dict[str, Any]
    ) -> None:
        self.properties = properties
        self.messages.put_nowait((topic, bytes(payload), qos, bool(properties["retain"])))

    def _on_answer(self, _client: Any, _mid: int, codes: Any, _properties: Any) -> None:
        self._answers.put_nowait(codes)


@asynccontextmanager
async def both(site: Site, version: str, name: str) -> AsyncIterator[tuple[Peer, Peer]]:
    """Yield a device and an operator."""
    device = Peer(site, version, name)
    operator = Peer(site, version, unique("ada"), is_operator=True)
    async with asyncio.timeout(TIMEOUT_S):
        await device.connect()
        await operator.connect()
        try:
            yield device, operator
        finally:
            await device.disconnect()
            await operator.disconnect()


@every_qos
async def test_messages_reach_the_operator_and_the_device(
    site: Site, version: str, name: str, qos: int
) -> None:
    async with both(site, version, name) as (device, operator):
        assert await operator.subscribe(f"dt/{name}/#", qos) == qos
        assert await device.subscribe(f"cmd/{name}/+", qos) == qos
        for number in range(20):
            payload = b"%d" % number + b"x" * number * 500
            await device.publish(f"dt/{name}/heat", payload, qos)
            assert await operator.messages.get() == (f"dt/{name}/heat", payload, qos, False)
            await operator.publish(f"cmd/{name}/off", payload, qos)
            assert await device.messages.get() == (f"cmd/{name}/off", payload, qos, False)


async def test_a_retained_message_waits_for_subscribers_until_it_is_removed(
    site: Site, version: str, name: str
) -> None:
    topic = f"cmd/{name}/mode"
    async with both(site, version, name) as (device, operator):
        await operator.publish(topic, b"eco", 1, retain=True)
        await device.subscribe(topic, 1)
        assert await device.messages.get() == (topic, b"eco", 1, True)
        await operator.publish(topic, b"", 1, retain=True)
        assert await device.messages.get() == (topic, b"", 1, False)
        await device.unsubscribe(topic)
        await device.subscribe(topic, 1)
        await operator.publish(topic, b"end", 1)
        assert await device.messages.get() == (topic, b"end", 1, False)


async def test_the_will_of_a_killed_client_is_published(site: Site, version: str, name: str) -> None:
    async with both(site, version, f"{name}-other") as (_, operator):
        await operator.subscribe(f"dt/{name}/#", 1)
        will = gmqtt.Message(f"dt/{name}/gone", b"lost", 1)
        for is_killed in (False, True):
            device = Peer(site, version, name, will_message=will)
            await device.connect()
            await (device.kill() if is_killed else device.disconnect())
        assert await operator.messages.get() == (f"dt/{name}/gone", b"lost", 1, False)
        assert operator.messages.empty()


async def test_a_v5_client_may_disconnect_and_leave_its_will(site: Site, name: str) -> None:
    async with both(site, "5", f"{name}-other") as (_, operator):
        await operator.subscribe(f"dt/{name}/#", 1)
        device = Peer(site, "5", name, will_message=gmqtt.Message(f"dt/{name}/gone", b"bye", 1))
        await device.connect()
        await device.disconnect(DISCONNECT_WITH_WILL_MESSAGE)
        assert (await operator.messages.get())[1] == b"bye"


async def test_a_session_keeps_messages_while_its_client_is_away(site: Site, version: str, name: str) -> None:
    kept: dict[str, Any] = {"clean_session": False}
    if version == "5":
        kept["session_expiry_interval"] = 600
    async with both(site, version, f"{name}-other") as (_, operator):
        device = Peer(site, version, name, **kept)
        await device.connect()
        assert not device.is_session_present
        await device.subscribe(f"cmd/{name}/#", 2)
        await device.disconnect()
        for number in range(10):
            await operator.publish(f"cmd/{name}/x", b"%d" % number, 1 + number // 5)
        again = Peer(site, version, name, **kept)
        await again.connect()
        assert again.is_session_present
        got = [(await again.messages.get())[1:3] for _ in range(10)]
        assert got == [(b"%d" % number, 1 + number // 5) for number in range(10)]
        await again.disconnect()


async def test_v5_properties_travel_unchanged(site: Site, name: str) -> None:
    properties = {
        "payload_format_id": 1,
        "content_type": "application/json; größe=7",
        "response_topic": f"cmd/{name}/answer",
        "correlation_data": bytes(range(256)),
        "user_property": [("a", "1"), ("a", "2"), ("", "ü")],
    }
    async with both(site, "5", name) as (device, operator):
        await operator.subscribe(f"dt/{name}/x", 1, subscription_identifier=268_435_455)
        await device.publish(f"dt/{name}/x", b"{}", 1, **properties)
        await operator.messages.get()
        got = operator.properties
        for key in ("payload_format_id", "content_type", "response_topic", "correlation_data"):
            assert got[key] == [properties[key]]
        assert got["user_property"] == properties["user_property"]
        assert got["subscription_identifier"] == [268_435_455]


async def test_v5_subscription_options_hold(tcp_site: Site, name: str) -> None:
    topic = f"dt/{name}/x"
    async with both(tcp_site, "5", name) as (client, other):
        await client.publish(topic, b"kept", 1, retain=True)
        options = {"no_local": True, "retain_as_published": True, "retain_handling_options": 2}
        await client.subscribe(topic, 1, **options)
        await client.publish(topic, b"own", 1)
        await other.publish(topic, b"foreign", 1, retain=True)
        assert await client.messages.get() == (topic, b"foreign", 1, True)
        await other.publish(topic, b"", 1, retain=True)


async def test_a_subscription_that_is_refused_is_told(site: Site, version: str, name: str) -> None:
    async with both(site, version, name) as (device, _):
        refusal = NOT_AUTHORIZED if version == "5" else 0x80
        assert await device.subscribe("$gnomon/#", 1) == refusal
