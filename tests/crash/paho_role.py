"""paho-mqtt as a load client: a foreign client's idea of a session that outlives its connections.

Knows: paho's callbacks, run by the event loop; it keeps and repeats its own flows.
Does not know: what the other clients do.
Spec: v5 §4.1, §4.3.3, §4.4.
"""

import asyncio
import ssl
from typing import Any, Final

import paho.mqtt.client as paho
from msgspec.structs import replace
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes

from paho_peer import packet_properties

from .history import (
    Acknowledged,
    Connected,
    History,
    Key,
    Lost,
    Published,
    Received,
    Released,
    Step,
    Subscription,
)
from .payloads import key_of, payload_of
from .peer import GoneError

_ANSWER_S: Final = 15.0
_FOREVER_S: Final = 0xFFFFFFFF


class PahoRole:
    """One v5 client with a persistent session that publishes at QoS 1 and subscribes at QoS 2.

    Not at QoS 2, because paho sends a message again that the server has taken by PUBREC, if two attempts
    to connect fail in a row (paho 2.2, `_messages_reconnect_reset_out`).
    """

    def __init__(self, name: str, history: History, context: ssl.SSLContext) -> None:
        self.name = name
        self._history = history
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._unacknowledged: dict[int, Published] = {}
        self._answer: asyncio.Future[object] = self._loop.create_future()
        self._gone = asyncio.Event()
        self._gone.set()
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=name,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        client.tls_set_context(context)
        client.on_socket_open = self._opened
        client.on_socket_close = self._closed
        client.on_socket_register_write = self._writes
        client.on_socket_unregister_write = self._wrote
        client.on_connect = self._connected
        client.on_disconnect = self._lost
        client.on_message = self._received
        client.on_publish = self._published
        client.on_subscribe = lambda *_: self._answered(None)

    @property
    def in_flight(self) -> int:
        """Messages without acknowledgement."""
        return len(self._unacknowledged)

    async def connect(self, port: int) -> bool:
        """Connect; paho sends again what was in flight. Returns whether a session is present.

        Raises:
            OSError: the server is not there, or ended meanwhile.
        """
        self._answer = self._loop.create_future()
        properties = packet_properties(PacketTypes.CONNECT, {"SessionExpiryInterval": _FOREVER_S})
        self._client.connect("127.0.0.1", port, clean_start=False, properties=properties)
        self._gone.clear()
        return bool(await self._wait())

    async def subscribe(self, topic_filter: str) -> None:
        """Subscribe at QoS 2, and wait for SUBACK."""
        self._answer = self._loop.create_future()
        self._history.add(Subscription(self.name, topic_filter, Step.SUBSCRIBE))
        if self._client.subscribe(topic_filter, 2)[0] is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise GoneError(self.name)
        await self._wait()
        self._history.add(Subscription(self.name, topic_filter, Step.SUBSCRIBED))

    def publish(self, topic: str) -> None:
        """Send the next message at QoS 1; without a connection paho keeps it for the next one."""
        self._number += 1
        key = Key(self.name, self._number)
        sent = self._history.add(Published(key, topic, 1))
        self._unacknowledged[self._client.publish(topic, payload_of(key, topic), 1).mid] = sent

    async def wait_gone(self) -> None:
        """Wait until the connection ends."""
        await self._gone.wait()

    @property
    def is_connected(self) -> bool:
        """Whether the connection stands, as far as is known."""
        return not self._gone.is_set()

    async def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        await self._gone.wait()

    # paho's callbacks.

    def _opened(self, _client: object, _data: object, opened: Any) -> None:
        self._loop.add_reader(opened, self._read)

    def _closed(self, _client: object, _data: object, opened: Any) -> None:
        self._loop.remove_reader(opened)

    def _writes(self, _client: object, _data: object, opened: Any) -> None:
        self._loop.add_writer(opened, self._client.loop_write)

    def _wrote(self, _client: object, _data: object, opened: Any) -> None:
        self._loop.remove_writer(opened)

    def _read(self) -> None:
        """Hand everything over that has come; TLS may hold more than the socket shows."""
        self._client.loop_read()
        while isinstance(opened := self._client.socket(), ssl.SSLSocket) and opened.pending():
            self._client.loop_read()

    def _connected(self, _client: object, _data: object, flags: Any, *_: object) -> None:
        self._history.add(Connected(self.name, flags.session_present))
        for sent in self._unacknowledged.values():  # paho sends them again when this has returned.
            self._history.add(replace(sent, is_dup=True))
        self._answered(flags.session_present)

    def _lost(self, *_: object) -> None:
        self._history.add(Lost(self.name))
        self._gone.set()
        if not self._answer.done():
            self._answer.set_exception(GoneError(self.name))
            self._answer.exception()  # Nobody may wait for it.

    def _received(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        """paho hands over a QoS 2 message once, at its PUBREL."""
        key = key_of(bytes(message.payload), message.topic)
        self._history.add(Received(self.name, message.topic, key, message.qos, message.mid, message.dup))
        self._history.add(Released(self.name, message.mid))

    def _published(self, _client: object, _data: object, mid: int, *_: object) -> None:
        if (sent := self._unacknowledged.pop(mid, None)) is not None:
            self._history.add(Acknowledged(sent.key))

    def _answered(self, value: object) -> None:
        if not self._answer.done():
            self._answer.set_result(value)

    async def _wait(self) -> object:
        async with asyncio.timeout(_ANSWER_S):
            return await self._answer
