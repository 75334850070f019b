"""One MQTT connection of a simulated party, on a foreign client library.

Knows: paho-mqtt, mutual TLS, bounded reconnects; its network thread ends here.
Does not know: shadows, what messages mean.
Spec: v5 §3.1, §3.8; v3.1.1 §3.1, §3.8.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

#: The MQTT version that a simulated party speaks.
Version = Literal["3.1.1", "5"]

KEEP_ALIVE_S: Final = 30
SESSION_EXPIRY_S: Final = 3600
_RECONNECT_DELAY_MAXIMUM_S: Final = 4
_FAILURE: Final = 0x80


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a party connects, and with what identity (PEM files)."""

    host: str
    port: int
    authority: Path
    certificate: Path
    key: Path


class SimulatedClient:
    """A connection that subscribes before it calls itself ready, and that gives up after some failures.

    `on_ready` and `on_message` run in the network thread, one at a time.

    Args:
        client_id: Client Identifier.
        endpoint: server and identity.
        topic_filters: subscribed to at QoS 1 on every connect.
        on_ready: called after each connect, once every subscription is granted.
        on_message: called with topic and payload.
        version: MQTT version.
        is_clean_start: forget the earlier session of this client.
        failures_maximum: connects that may fail in a row.
    """

    def __init__(
        self,
        client_id: str,
        endpoint: Endpoint,
        *,
        topic_filters: Sequence[str],
        on_ready: Callable[[], None],
        on_message: Callable[[str, bytes], None],
        version: Version = "5",
        is_clean_start: bool = False,
        failures_maximum: int = 5,
    ) -> None:
        self._endpoint = endpoint
        self._topic_filters = topic_filters
        self._on_ready = on_ready
        self._on_message = on_message
        self._is_v5 = version == "5"
        self._is_clean_start = is_clean_start
        self._failures_maximum = failures_maximum
        self._failures = 0
        self._is_ready = False
        self._settled = threading.Event()  # ready, or given up
        self._refusal: str | None = None
        self.failure: str | None = None
        """Why the party gave up, or None."""
        self._paho = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5 if self._is_v5 else MQTTProtocolVersion.MQTTv311,
            clean_session=None if self._is_v5 else is_clean_start,
        )
        self._paho.tls_set(
            ca_certs=str(endpoint.authority), certfile=str(endpoint.certificate), keyfile=str(endpoint.key)
        )
        self._paho.reconnect_delay_set(min_delay=1, max_delay=_RECONNECT_DELAY_MAXIMUM_S)
        self._paho.on_connect = self._connected
        self._paho.on_connect_fail = self._connect_failed
        self._paho.on_disconnect = self._disconnected
        self._paho.on_subscribe = self._subscribed
        self._paho.on_message = self._received

    @property
    def is_ready(self) -> bool:
        """Whether the connection stands and every subscription is granted."""
        return self._is_ready

    def start(self) -> None:
        """Connect in the background."""
        host, port = self._endpoint.host, self._endpoint.port
        if self._is_v5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's
            properties.SessionExpiryInterval = 0 if self._is_clean_start else SESSION_EXPIRY_S
            self._paho.connect_async(
                host, port, KEEP_ALIVE_S, clean_start=self._is_clean_start, properties=properties
            )
        else:
            self._paho.connect_async(host, port, KEEP_ALIVE_S)
        self._paho.loop_start()

    def stop(self) -> None:
        """Say DISCONNECT and end the network thread; may be repeated."""
        self._paho.disconnect()
        self._paho.loop_stop()
        self._is_ready = False

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until `is_ready`; False when the time is over, or when the party gave up."""
        self._settled.wait(timeout_s)
        return self._is_ready

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1; while there is no connection the message waits for the next one."""
        self._paho.publish(topic, payload, qos=1)

    def _connected(
        self, client: paho.Client, _data: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        if reason.is_failure:
            self._refusal = f"the server refused: {reason}"
            return  # paho disconnects by itself, which is counted there.
        client.subscribe([(topic_filter, 1) for topic_filter in self._topic_filters])

    def _subscribed(
        self, _client: paho.Client, _data: object, _mid: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        refused = [
            topic_filter
            for topic_filter, reason in zip(self._topic_filters, reasons, strict=False)
            if reason.value >= _FAILURE
        ]
        if refused:
            self._give_up(f"the server refused the subscription to {refused[0]}")
            return
        self._failures = 0
        self._is_ready = True
        self._settled.set()
        self._on_ready()

    def _received(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        self._on_message(message.topic, bytes(message.payload))

    def _connect_failed(self, _client: paho.Client, _data: object) -> None:
        self._count_failure()

    def _disconnected(self, _client: paho.Client, *_details: object) -> None:
        if self._is_ready:
            self._is_ready = False
            self._settled.clear()
        else:
            self._count_failure()

    def _count_failure(self) -> None:
        self._failures += 1
        if self._failures >= self._failures_maximum:
            where = f"{self._endpoint.host}:{self._endpoint.port}"
            self._give_up(f"{self._refusal or f'no connection to {where}'} (attempts: {self._failures})")

    def _give_up(self, reason: str) -> None:
        if self.failure is None:
            self.failure = reason
        self._settled.set()
        self._paho.disconnect()
