"""A client whose session outlives its connections, and that writes down what it does and sees.

Knows: the client's side of QoS 1 and 2, packet ids, what is sent again on a new connection.
Does not know: what a test says with it, where the server is.
Spec: v5 §3.1, §3.3, §3.8, §3.10, §4.1, §4.3, §4.4; v3.1.1 the same.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from broker.protocol.client_connection import ClientConnection
from broker.protocol.packets import (
    V5,
    ClientId,
    ConnAck,
    Connect,
    ControlPacket,
    Disconnect,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    SubscriptionRequest,
    TopicFilter,
    TopicName,
    UnsubAck,
    Unsubscribe,
    Will,
)
from broker.protocol.properties import NO_PROPERTIES, Properties
from broker.protocol.reason_codes import ReasonCode

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
    WillSet,
)
from .link import Link
from .payloads import key_of, payload_of, will_topic

_FOREVER_S: Final = 0xFFFFFFFF
_PACKET_ID_MAXIMUM: Final = 0xFFFF
_PACKET_SIZE_MAXIMUM: Final = 1 << 20
_T = TypeVar("_T")


class GoneError(ConnectionError):
    """The connection ended; whoever needs it connects again."""


class Peer:
    """One client; each wait ends with GoneError when the connection does, or with TimeoutError.

    Args:
        name: Client Identifier.
        history: where everything is written down.
        version: V5 or V3_1_1.
        is_clean: begin every connection with a new session, which ends with it.
        expiry_s: else, how long the session outlives a connection (v5).
        slow_s: acknowledgements of messages are sent so much later, in order.
        will: if given, QoS and delay in seconds of a Will on `will/NAME`.
        answer_s: longest wait for the server.
        on_message: told each PUBLISH.
    """

    def __init__(
        self,
        name: str,
        history: History,
        *,
        version: int = V5,
        is_clean: bool = False,
        expiry_s: int = _FOREVER_S,
        slow_s: float = 0.0,
        will: tuple[int, int] | None = None,
        answer_s: float = 15.0,
        on_message: Callable[[Publish], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.version = version
        self.is_session_present = False
        self._number = 0
        self._history = history
        self._is_clean = is_clean
        self._expiry_s = 0 if is_clean else expiry_s
        self._slow_s = slow_s
        self._will = will
        self._answer_s = answer_s
        self._on_message = on_message
        self._link: Link | None = None
        # Session State of the client (v5 §4.1): what it sent and the server has not finished.
        self._published: dict[int, tuple[Publish, Published]] = {}
        self._releasing: dict[int, None] = {}
        self._last_packet_id = 0
        # Who waits for what on this connection; packet id 0 stands for CONNACK.
        self._answers: dict[int, asyncio.Future[tuple[ReasonCode, ...]]] = {}
        self._pongs: list[asyncio.Future[None]] = []
        self._moved: asyncio.Future[None] | None = None
        self._waiting: set[asyncio.Future[Any]] = set()

    @property
    def is_connected(self) -> bool:
        """Whether the connection stands, as far as is known."""
        return self._link is not None

    @property
    def in_flight(self) -> int:
        """Messages whose flow is not complete."""
        return len(self._published) + len(self._releasing)

    async def connect(self, port: int, context: ssl.SSLContext) -> None:
        """Connect; what was in flight is sent again.

        Raises:
            OSError: the server is not there, refuses, or ended meanwhile.
        """
        if self._will is not None:
            self._history.add(WillSet(self.name, self._will_key, self._will[1]))
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[ReasonCode, ...]] = loop.create_future()
        self._answers[0] = answer
        connection = ClientConnection(self._connect(), packet_size_maximum=_PACKET_SIZE_MAXIMUM, now=0.0)
        async with asyncio.timeout(self._answer_s):
            await loop.create_connection(
                lambda: Link(connection, self),
                "127.0.0.1",
                port,
                ssl=context,
                ssl_shutdown_timeout=1.0,
            )
            (code,) = await self.wait(answer)
        if code is not ReasonCode.SUCCESS:
            raise GoneError(f"{self.name}: {code.name}")

    async def subscribe(self, topic_filter: str, qos: int) -> None:
        """Subscribe, and wait for SUBACK."""
        self._step(topic_filter, Step.SUBSCRIBE)
        request = SubscriptionRequest(TopicFilter(topic_filter.encode()), qos)
        codes = await self._ask(lambda packet_id: Subscribe(packet_id, (request,)))
        assert codes == (qos,), f"{self.name} was granted {codes}"
        self._step(topic_filter, Step.SUBSCRIBED)
        if self._will is not None:  # The server took it before the SUBSCRIBE.
            self._history.add(WillSet(self.name, self._will_key, self._will[1], True))

    async def unsubscribe(self, topic_filter: str) -> None:
        """Unsubscribe, and wait for UNSUBACK."""
        self._step(topic_filter, Step.UNSUBSCRIBE)
        wanted = TopicFilter(topic_filter.encode())
        codes = await self._ask(lambda packet_id: Unsubscribe(packet_id, (wanted,)))
        existed = codes != (ReasonCode.NO_SUBSCRIPTION_EXISTED,)
        self._step(topic_filter, Step.UNSUBSCRIBED, existed=existed)

    def publish(
        self,
        topic: str,
        qos: int,
        *,
        size: int = 0,
        is_retain: bool = False,
        is_cleared: bool = False,
        expires_s: int | None = None,
        payload: bytes | None = None,
    ) -> Key:
        """Send the next message; its payload says which it is, unless one is given.

        Raises:
            GoneError: there is no connection.
        """
        if self._link is None:
            raise GoneError(self.name)
        self._number += 1
        key = Key(self.name, self._number)
        if payload is None:
            payload = b"" if is_cleared else payload_of(key, topic, size)
        packet = Publish(
            TopicName(topic.encode()),
            payload,
            qos,
            is_retain,
            packet_id=self._packet_id() if qos else 0,
            properties=Properties(message_expiry_interval=expires_s) if expires_s else NO_PROPERTIES,
        )
        event = self._history.add(Published(key, topic, qos, False, is_retain, is_cleared, expires_s))
        if qos:
            self._published[packet.packet_id] = (packet, event)
        self._link.send(packet)
        return key

    async def settle(self, in_flight: int = 0) -> None:
        """Wait until at most so many messages are in flight."""
        while self.in_flight > in_flight:
            self._moved = asyncio.get_running_loop().create_future()
            await self.wait(self._moved)

    async def ping(self) -> None:
        """Wait until the server has read everything, and what it sent before that has come."""
        pong = asyncio.get_running_loop().create_future()
        self._pongs.append(pong)
        self._send(PingReq())
        await self.wait(pong)

    async def wait(self, answer: "asyncio.Future[_T]") -> _T:
        """Wait for something that only this connection can bring."""
        if self._link is None:
            raise GoneError(self.name)
        self._waiting.add(answer)
        try:
            async with asyncio.timeout(self._answer_s):
                return await answer
        finally:
            self._waiting.discard(answer)

    async def abort(self) -> None:
        """Go away without a word."""
        if (link := self._link) is not None:
            link.abort()
            await link.ended.wait()

    async def disconnect(self) -> None:
        """Say DISCONNECT, and wait for the end."""
        if (link := self._link) is not None:
            link.send(Disconnect())
            link.close()
            await link.ended.wait()

    async def wait_gone(self) -> None:
        """Wait until the connection ends."""
        if self._link is not None:
            await self._link.ended.wait()

    # The link's side.

    def made(self, link: Link) -> None:
        """A connection stands."""
        self._link = link

    def lost(self, link: Link) -> None:
        """The connection is gone, and so is everything that was waited for on it."""
        self._link = None
        if link.was_let_in:
            self._history.add(Lost(self.name))
        for each in self._waiting:
            if not each.done():
                each.set_exception(GoneError(self.name))
        self._answers.clear()
        self._pongs.clear()

    def packet_received(self, packet: ControlPacket) -> None:
        """Act as v5 §4.3 says."""
        match packet:
            case Publish():
                self._received(packet)
            case PubRel():
                self._history.add(Released(self.name, packet.packet_id))
                self._acknowledge(PubComp(packet.packet_id))
            case PubAck():
                self._finish(packet.packet_id, packet.reason_code)
            case PubRec():
                self._finish(packet.packet_id, packet.reason_code)
                if packet.reason_code < ReasonCode.UNSPECIFIED_ERROR:
                    self._releasing[packet.packet_id] = None
                    self._send(PubRel(packet.packet_id))
            case PubComp():
                self._releasing.pop(packet.packet_id, None)
            case SubAck() | UnsubAck():
                _answer(self._answers.pop(packet.packet_id, None), packet.reason_codes)
            case ConnAck():
                if packet.reason_code is ReasonCode.SUCCESS:
                    self._let_in(packet)
                _answer(self._answers.pop(0, None), (packet.reason_code,))
            case PingResp():
                _answer(self._pongs.pop(0), None)
        _answer(self._moved, None)

    # Private.

    def _let_in(self, packet: ConnAck) -> None:
        self.is_session_present = packet.is_session_present
        self._history.add(Connected(self.name, packet.is_session_present, self._is_clean))
        if not packet.is_session_present:
            self._published.clear()
            self._releasing.clear()
        for packet_id, (sent, event) in self._published.items():
            again = replace(event, is_dup=True)
            self._published[packet_id] = (sent, self._history.add(again))
            self._send(replace(sent, is_dup=True))
        for packet_id in self._releasing:  # In the order of the PUBRECs (v5 [MQTT-4.6.0-4]).
            self._send(PubRel(packet_id))

    def _received(self, packet: Publish) -> None:
        topic = packet.topic.decode()
        if not topic.startswith("$"):
            self._history.add(
                Received(
                    self.name,
                    topic,
                    key_of(packet.payload, topic),
                    packet.qos,
                    packet.packet_id,
                    packet.is_dup,
                    packet.is_retain,
                )
            )
        if packet.qos:
            self._acknowledge((PubAck if packet.qos == 1 else PubRec)(packet.packet_id))
        self._on_message(packet)

    def _finish(self, packet_id: int, reason_code: ReasonCode) -> None:
        found = self._published.pop(packet_id, None)
        if found is not None and reason_code < ReasonCode.UNSPECIFIED_ERROR:
            self._history.add(Acknowledged(found[1].key))

    @property
    def _will_key(self) -> Key:
        return Key(f"will of {self.name}", 1)

    def _connect(self) -> Connect:
        will = None
        if self._will is not None:
            qos, delay_s = self._will
            topic = will_topic(self.name)
            will = Will(
                topic=TopicName(topic.encode()),
                payload=payload_of(self._will_key, topic),
                qos=qos,
                properties=Properties(will_delay_interval=delay_s),
            )
        expiry = Properties(session_expiry_interval=self._expiry_s)
        return Connect(
            version=self.version,
            client_id=ClientId(self.name),
            is_clean_start=self._is_clean,
            will=will,
            properties=expiry if self.version == V5 else NO_PROPERTIES,
        )

    def _packet_id(self) -> int:
        while True:
            self._last_packet_id = packet_id = self._last_packet_id % _PACKET_ID_MAXIMUM + 1
            if not any(packet_id in used for used in (self._published, self._releasing, self._answers)):
                return packet_id

    def _step(self, topic_filter: str, step: Step, *, existed: bool = True) -> None:
        self._history.add(Subscription(self.name, topic_filter, step, existed))

    async def _ask(self, packet: Callable[[int], ControlPacket]) -> tuple[ReasonCode, ...]:
        packet_id = self._packet_id()
        answer: asyncio.Future[tuple[ReasonCode, ...]] = asyncio.get_running_loop().create_future()
        self._answers[packet_id] = answer
        self._send(packet(packet_id))
        return await self.wait(answer)

    def _acknowledge(self, packet: ControlPacket) -> None:
        if self._slow_s and self._link is not None:
            asyncio.get_running_loop().call_later(self._slow_s, self._link.send, packet)
        else:
            self._send(packet)

    def _send(self, packet: ControlPacket) -> None:
        if self._link is not None:
            self._link.send(packet)


def _answer(waiting: "asyncio.Future[Any] | None", value: object) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(value)
