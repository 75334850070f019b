"""A paho-mqtt client for tests: every step waits, bounded, for what the server answers.

Knows: paho-mqtt, mutual TLS, both versions.
Does not know: what a test says with it.
"""

import queue
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, TypeVar

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from fleet import CertificateFiles

Version = Literal["3.1.1", "5"]
VERSIONS: tuple[Version, ...] = ("3.1.1", "5")
TIMEOUT_S = 15.0
_KEEP_ALIVE_S = 60
_T = TypeVar("_T")


class Received(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    is_retained: bool


class Accepted(NamedTuple):
    is_session_present: bool
    properties: Mapping[str, Any]


class RefusedError(Exception):
    """The server refused the connection."""

    def __init__(self, reason: ReasonCode) -> None:
        super().__init__(str(reason))
        self.code = reason.value


def client_context(files: CertificateFiles) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=files.authority)
    context.load_cert_chain(files.certificate, files.key)
    return context


def packet_properties(packet_type: int, values: Mapping[str, Any]) -> Properties:
    """Make paho's properties from names as in `MessageExpiryInterval`."""
    properties = Properties(packet_type)  # type: ignore[no-untyped-call]  # paho's
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


class PahoPeer:
    """One client; `with` connects and disconnects it.

    Args:
        port: on loopback.
        client_id: Client Identifier.
        version: MQTT version.
        context: TLS, None for plain TCP.
        is_clean: Clean Session, or Clean Start.
        properties: of CONNECT (v5).
        will: topic, payload, QoS, RETAIN.
        will_properties: of the Will (v5).
        user_name: sent without a password unless there is one.
        password: sent with the user name.
        acknowledges_by_hand: QoS 1 and 2 messages wait for `acknowledge`.
        transport: as paho has it.
        host: the path of a Unix socket; loopback for the others.
    """

    def __init__(
        self,
        port: int,
        client_id: str,
        version: Version,
        *,
        context: ssl.SSLContext | None = None,
        is_clean: bool = True,
        properties: Mapping[str, Any] | None = None,
        will: tuple[str, bytes, int, bool] | None = None,
        will_properties: Mapping[str, Any] | None = None,
        user_name: str | None = None,
        password: str | None = None,
        acknowledges_by_hand: bool = False,
        transport: Literal["tcp", "websockets", "unix"] = "tcp",
        host: str = "127.0.0.1",
    ) -> None:
        self.client_id = client_id
        self.is_v5 = version == "5"
        self.raw: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self._host = host
        self._port = port
        self._is_clean = is_clean
        self._properties = properties or {}
        self._connected: queue.Queue[Accepted | ReasonCode | str] = queue.Queue()
        self._disconnected: queue.Queue[ReasonCode] = queue.Queue()
        self._answers: dict[int, queue.Queue[Any]] = {}
        self._answers_lock = threading.Lock()
        self._paho = client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5 if self.is_v5 else MQTTProtocolVersion.MQTTv311,
            clean_session=None if self.is_v5 else is_clean,
            reconnect_on_failure=False,
            manual_ack=acknowledges_by_hand,
            transport=transport,
        )
        client.max_inflight_messages_set(1000)
        if context is not None:
            client.tls_set_context(context)
        if will is not None:
            topic, payload, qos, is_retain = will
            will_extra = packet_properties(PacketTypes.WILLMESSAGE, will_properties or {})
            client.will_set(topic, payload, qos, is_retain, will_extra if self.is_v5 else None)
        if user_name is not None:
            client.username_pw_set(user_name, password)
        if transport == "tcp":
            client.on_socket_open = _send_at_once
        client.on_connect = self._on_connect
        client.on_connect_fail = lambda *_: self._connected.put("no connection")
        client.on_disconnect = self._on_disconnect
        client.on_message = lambda _client, _data, message: self.raw.put(message)
        client.on_publish = lambda _client, _data, mid, reason, _properties: self._answer(mid, reason)
        client.on_subscribe = lambda _client, _data, mid, reasons, _properties: self._answer(mid, reasons)
        client.on_unsubscribe = lambda _client, _data, mid, reasons, _properties: self._answer(mid, reasons)

    def connect(self) -> Accepted:
        """Connect and wait for CONNACK.

        Raises:
            RefusedError: the server says no.
        """
        if self.is_v5:
            properties = packet_properties(PacketTypes.CONNECT, self._properties)
            self._paho.connect_async(
                self._host, self._port, _KEEP_ALIVE_S, clean_start=self._is_clean, properties=properties
            )
        else:
            self._paho.connect_async(self._host, self._port, _KEEP_ALIVE_S)
        self._paho.loop_start()
        answer = take(self._connected, f"CONNACK for {self.client_id}")
        if isinstance(answer, Accepted):
            return answer
        self._end()
        if isinstance(answer, ReasonCode):
            raise RefusedError(answer)
        raise ConnectionError(answer)

    def disconnect(self, reason_code: int | None = None) -> None:
        """Say DISCONNECT and end the network thread; may be repeated."""
        reason = None if reason_code is None else ReasonCode(PacketTypes.DISCONNECT, identifier=reason_code)
        self._paho.disconnect(reason)
        self._end()

    def kill(self) -> None:
        """Go away without DISCONNECT, and without the end of TLS."""
        peer = self._paho.socket()
        assert peer is not None
        socket.socket.shutdown(peer, socket.SHUT_RDWR)  # type: ignore[arg-type]  # an SSLSocket or a socket
        self.disconnected()
        self._end()

    def disconnected(self) -> int:
        """Wait for the end of the connection; its reason code."""
        return take(self._disconnected, f"the end of {self.client_id}").value

    def subscribe(self, topic_filter: str, qos: int = 1, **options: Any) -> int:
        """Subscribe and wait for SUBACK; its reason code. `options` are paho's SubscribeOptions (v5)."""
        if self.is_v5:
            asked = SubscribeOptions(qos=qos, **options)
            code, mid = self._paho.subscribe(topic_filter, options=asked)
        else:
            code, mid = self._paho.subscribe(topic_filter, qos)
        assert code is MQTTErrorCode.MQTT_ERR_SUCCESS
        assert mid is not None
        reasons: Sequence[ReasonCode] = self._wait(mid)
        return reasons[0].value

    def unsubscribe(self, topic_filter: str) -> None:
        """Unsubscribe and wait for UNSUBACK."""
        _, mid = self._paho.unsubscribe(topic_filter)
        assert mid is not None
        self._wait(mid)

    def post(
        self,
        topic: str,
        payload: bytes = b"",
        *,
        qos: int = 0,
        is_retain: bool = False,
        properties: Mapping[str, Any] | None = None,
    ) -> int:
        """Publish without waiting; the number to `settle` with."""
        extra = packet_properties(PacketTypes.PUBLISH, properties) if properties else None
        return self._paho.publish(topic, payload, qos, is_retain, extra).mid

    def settle(self, mid: int) -> int:
        """Wait until the message is sent (QoS 0) or acknowledged; its reason code."""
        reason: ReasonCode = self._wait(mid)
        return reason.value

    def is_answered(self, mid: int) -> bool:
        """Whether `settle` would not wait."""
        return not self._box(mid).empty()

    def publish(
        self,
        topic: str,
        payload: bytes = b"",
        *,
        qos: int = 0,
        is_retain: bool = False,
        properties: Mapping[str, Any] | None = None,
    ) -> int:
        """Publish, and wait as `settle` does."""
        return self.settle(self.post(topic, payload, qos=qos, is_retain=is_retain, properties=properties))

    def receive(self) -> Received:
        """Wait for the next message."""
        message = self.receive_raw()
        return Received(message.topic, bytes(message.payload), message.qos, message.retain)

    def receive_raw(self) -> paho.MQTTMessage:
        """Wait for the next message, as paho has it."""
        return take(self.raw, f"a message for {self.client_id}")

    def receive_until(self, payload: bytes) -> list[Received]:
        """Wait for the message with this payload; what came before it."""
        before: list[Received] = []
        while (message := self.receive()).payload != payload:
            before.append(message)
        return before

    def acknowledge(self, message: paho.MQTTMessage) -> None:
        """Acknowledge a message, where that is done by hand."""
        self._paho.ack(message.mid, message.qos)

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()

    def _end(self) -> None:
        self._paho.loop_stop()
        # paho leaves them to __del__, and its sockets may be collected before that.
        self._paho._reset_sockets(sockpair_only=True)

    def _on_connect(
        self, _client: paho.Client, _data: object, flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        told = {} if properties is None else vars(properties)
        self._connected.put(reason if reason.is_failure else Accepted(flags.session_present, told))

    def _on_disconnect(
        self, _client: paho.Client, _data: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        self._disconnected.put(reason)

    def _answer(self, mid: int, answer: object) -> None:
        self._box(mid).put(answer)

    def _wait(self, mid: int) -> Any:
        answer = take(self._box(mid), f"an answer to {self.client_id}'s packet {mid}")
        with self._answers_lock:
            del self._answers[mid]
        return answer

    def _box(self, mid: int) -> queue.Queue[Any]:
        """The answer may come before anybody waits for it."""
        with self._answers_lock:
            return self._answers.setdefault(mid, queue.Queue())


def _send_at_once(_client: paho.Client, _data: object, opened: Any) -> None:
    """Small packets do not wait for the acknowledgement of earlier ones."""
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def take(source: "queue.Queue[_T]", what: str) -> _T:
    try:
        return source.get(timeout=TIMEOUT_S)
    except queue.Empty:
        raise AssertionError(f"waited {TIMEOUT_S:.0f} s for {what}") from None
