"""Clients of awsiotsdk for tests, with the defaults of the SDK wherever a test says nothing.

Knows: how the SDK connects in both versions, its two kinds of shadow client, how it names requests.
Does not know: what a test says with them.
"""

import queue
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any

from awscrt import mqtt, mqtt5
from awscrt.mqtt_request_response import ClientOptions, SubscriptionStatusEventType
from awsiot import ServiceStreamOptions, iotshadow, mqtt5_client_builder, mqtt_connection_builder

from fleet import CertificateFiles
from paho_peer import TIMEOUT_S, Version, take
from server_site import Site

_HOST = "localhost"


class Connection:
    """One device of the SDK: a `mqtt.Connection` (3.1.1) or a `mqtt5.Client`, not connected yet.

    Args:
        site: where the server is.
        client_id: Client Identifier, and the device whose certificate it shows.
        version: of MQTT.
        options: of the SDK's builder, and `files` for another certificate.
    """

    def __init__(self, site: Site, client_id: str, version: Version, **options: Any) -> None:
        files: CertificateFiles = options.pop("files", None) or site.pki.ensure_device(client_id)
        options = {
            "endpoint": _HOST,
            "port": site.port,
            "ca_filepath": str(files.authority),
            "cert_filepath": str(files.certificate),
            "pri_key_filepath": str(files.key),
            "client_id": client_id,
            **options,
        }
        #: Whether the Session was there, at each CONNACK.
        self.connects: queue.Queue[bool] = queue.Queue()
        #: (topic, payload) of each message that the SDK shows to the connection itself.
        self.others: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._stopped: queue.Queue[None] = queue.Queue()
        self.sdk: Any = self._v5(options) if version == "5" else self._v3(options)
        self._is_v5 = version == "5"

    def connect(self) -> bool:
        """Connect; whether the Session was there."""
        if not self._is_v5:
            is_present: bool = self.sdk.connect().result(TIMEOUT_S)["session_present"]
            return is_present
        self.sdk.start()
        return take(self.connects, "CONNACK")

    def disconnect(self) -> None:
        if self._is_v5:
            self.sdk.stop()
            take(self._stopped, "the end of the client")
        else:
            self.sdk.disconnect().result(TIMEOUT_S)

    def _v3(self, options: dict[str, Any]) -> Any:
        connection = mqtt_connection_builder.mtls_from_path(
            on_connection_resumed=lambda connection, return_code, session_present, **_: self.connects.put(
                session_present
            ),
            **options,
        )
        connection.on_message(lambda topic, payload, **_: self.others.put((topic, payload)))
        return connection

    def _v5(self, options: dict[str, Any]) -> Any:
        return mqtt5_client_builder.mtls_from_path(
            on_lifecycle_connection_success=lambda data: self.connects.put(
                data.connack_packet.session_present
            ),
            on_lifecycle_stopped=lambda _: self._stopped.put(None),
            on_publish_received=lambda data: self.others.put(
                (data.publish_packet.topic, data.publish_packet.payload)
            ),
            **options,
        )


@contextmanager
def connected(site: Site, client_id: str, version: Version, **options: Any) -> Iterator[Connection]:
    """A device that is connected until the end of the block."""
    connection = Connection(site, client_id, version, **options)
    connection.connect()
    try:
        yield connection
    finally:
        connection.disconnect()


class Shadow:
    """One shadow through the `IotShadowClientV2` of a connection: requests with answers, and streams."""

    def __init__(self, connection: Connection, thing_name: str, shadow_name: str | None = None) -> None:
        options = ClientOptions(
            max_request_response_subscriptions=4,
            max_streaming_subscriptions=2,
            operation_timeout_in_seconds=int(TIMEOUT_S),
        )
        self._client = iotshadow.IotShadowClientV2(connection.sdk, options)
        self._names = {"thing_name": thing_name}
        self._kind = "shadow"
        if shadow_name is not None:
            self._names["shadow_name"] = shadow_name
            self._kind = "named_shadow"
        self._streams: list[Any] = []  # A stream ends when nobody holds it.

    def get(self) -> Any:
        return self.ask("get").result(TIMEOUT_S)

    def update(self, *, version: int | None = None, **sections: Any) -> Any:
        state = iotshadow.ShadowState(**sections)
        return self.ask("update", state=state, version=version).result(TIMEOUT_S)

    def delete(self) -> Any:
        return self.ask("delete").result(TIMEOUT_S)

    def ask(self, operation: str, **fields: Any) -> "Future[Any]":
        """Send a request; its answer comes with the future."""
        request = request_class(operation, self._kind, "request")(**self._names, **fields)
        answer: Future[Any] = getattr(self._client, f"{operation}_{self._kind}")(request)
        return answer

    def listen(self, event: str) -> "queue.Queue[Any]":
        """Open the stream of an event, `delta_updated` or `updated`, and wait until it is established."""
        heard: queue.Queue[Any] = queue.Queue()
        states: queue.Queue[Any] = queue.Queue()
        options = ServiceStreamOptions(heard.put, states.put, heard.put)
        request = request_class(self._kind, event, "subscription_request")(**self._names)
        stream = getattr(self._client, f"create_{self._kind}_{event}_stream")(request, options)
        stream.open()
        self._streams.append(stream)
        assert (
            take(states, f"the stream {event}").type == SubscriptionStatusEventType.SUBSCRIPTION_ESTABLISHED
        )
        return heard


class EventShadow:
    """One shadow through the older `IotShadowClient`: requests are published, answers are events."""

    def __init__(self, connection: Connection, thing_name: str, shadow_name: str | None = None) -> None:
        self._client = iotshadow.IotShadowClient(connection.sdk)
        self._names = {"thing_name": thing_name}
        self._kind = "shadow"
        if shadow_name is not None:
            self._names["shadow_name"] = shadow_name
            self._kind = "named_shadow"
        #: (event, what the SDK made of the message), in order of arrival.
        self.heard: queue.Queue[tuple[str, Any]] = queue.Queue()

    def listen(self, *events: str) -> None:
        """Subscribe to `delta`, `documents`, or OPERATION/accepted and OPERATION/rejected."""
        for event in events:
            self._subscribe(event, partial(self._hear, event))

    def publish(self, operation: str, **fields: Any) -> None:
        """Send a request, and wait for PUBACK."""
        request = request_class(operation, self._kind, "request")(**self._names, **fields)
        publish = getattr(self._client, f"publish_{operation}_{self._kind}")
        publish(request, mqtt.QoS.AT_LEAST_ONCE).result(TIMEOUT_S)

    def next(self) -> tuple[str, Any]:
        return take(self.heard, "an event")

    def _hear(self, event: str, told: Any) -> None:
        self.heard.put((event, told))

    def _subscribe(self, event: str, callback: Callable[[Any], None]) -> None:
        if event in ("delta", "documents"):
            name = {"delta": "delta_updated", "documents": "updated"}[event]
            request = request_class(self._kind, name, "subscription_request")
            method = f"subscribe_to_{self._kind}_{name}_events"
        else:
            operation, _, outcome = event.partition("/")
            request = request_class(operation, self._kind, "subscription_request")
            method = f"subscribe_to_{operation}_{self._kind}_{outcome}"
        granted, _ = getattr(self._client, method)(request(**self._names), mqtt.QoS.AT_LEAST_ONCE, callback)
        assert granted.result(TIMEOUT_S) == mqtt.QoS.AT_LEAST_ONCE


def request_class(*words: str) -> Any:
    """A class of the SDK by the words of its name, as `get`, `named_shadow`, `request`."""
    return getattr(iotshadow, "".join(word.title().replace("_", "") for word in words))


def kept(version: Version) -> dict[str, Any]:
    """Options of a client whose Session outlives its connection; at 3.1.1 that is the SDK's default."""
    if version == "3.1.1":
        return {}
    return {
        "session_behavior": mqtt5.ClientSessionBehaviorType.REJOIN_ALWAYS,
        "session_expiry_interval_sec": 600,
    }
