"""The client's end of a connection to an engine under test: it speaks bytes and decodes what comes.

Knows: the client's side of the codec and of the QoS flows.
Does not know: how the engine is run (fakes).
"""

from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from broker.engine import ServedConnection
from broker.protocol.codec import decode_packet, encode_packet
from broker.protocol.packets import (
    V3_1_1,
    V5,
    ClientId,
    ConnAck,
    Connect,
    ControlPacket,
    Disconnect,
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
    Unsubscribe,
    Will,
)
from broker.protocol.properties import NO_PROPERTIES, Properties
from broker.protocol.reason_codes import ReasonCode

PacketT = TypeVar("PacketT", bound=ControlPacket)

if TYPE_CHECKING:
    from fakes import EngineDriver


class FakeClient:
    """The client's end of one connection: what it received, decoded, and whether it is still open."""

    def __init__(self, driver: "EngineDriver", connection: ServedConnection, version: int) -> None:
        self.driver = driver
        self.connection = connection
        self.version = version
        self.connack = ConnAck()
        self.received: list[ControlPacket] = []
        #: For tests that take packets first and answer them later.
        self.unanswered: list[ControlPacket] = []
        self.close_reason: ReasonCode | None = None
        self.is_paused = False
        self._unread = b""
        self._unsent: list[bytes] = []
        self._packet_ids = count(1)

    # To the broker.

    def send(self, *packets: ControlPacket) -> None:
        """Send packets in one piece, and let the engine do what they ask for."""
        self.send_bytes(b"".join(encode_packet(packet, self.version) for packet in packets))

    def send_bytes(self, data: bytes) -> None:
        """Send raw bytes; while the broker does not read, they wait."""
        self._unsent.append(data)
        self.send_on()
        self.driver.settle()

    def send_on(self) -> None:
        """Hand over what waits, as far as the broker reads."""
        while self._unsent and not self.is_paused and self.close_reason is None:
            self.driver.engine.receive(self.connection, self._unsent.pop(0), self.driver.now)

    def lose(self) -> None:
        """The connection breaks without DISCONNECT."""
        self.close_reason = ReasonCode.UNSPECIFIED_ERROR
        self.driver.engine.lost(self.connection, "broken", self.driver.now)
        self.driver.settle()

    def set_writable(self, is_writable: bool) -> None:
        """The client stops taking bytes, or takes them again."""
        self.driver.engine.set_writable(self.connection, is_writable, self.driver.now)
        self.driver.settle()

    def subscribe(
        self,
        *requests: bytes | SubscriptionRequest,
        qos: int = 0,
        identifier: int | None = None,
    ) -> SubAck:
        """Subscribe and return the answer; what came with it stays in `received`."""
        made = tuple(
            request if isinstance(request, SubscriptionRequest) else request_for(request, qos)
            for request in requests
        )
        identifiers = () if identifier is None else (identifier,)
        properties = Properties(subscription_identifiers=identifiers) if identifiers else NO_PROPERTIES
        self.send(Subscribe(self.packet_id(), made, properties))
        return self.take_one(SubAck)

    def unsubscribe(self, *topic_filters: bytes) -> None:
        """Unsubscribe."""
        self.send(Unsubscribe(self.packet_id(), tuple(map(TopicFilter, topic_filters))))

    def publish(
        self,
        topic: bytes,
        payload: bytes = b"",
        *,
        qos: int = 0,
        is_retain: bool = False,
        properties: Properties = NO_PROPERTIES,
    ) -> int:
        """Publish; returns the packet id."""
        packet_id = self.packet_id() if qos else 0
        self.send(Publish(TopicName(topic), payload, qos, is_retain, False, packet_id, properties))
        return packet_id

    def disconnect(
        self, reason_code: ReasonCode = ReasonCode.SUCCESS, *, session_expiry_interval: int | None = None
    ) -> None:
        """Say good-bye."""
        properties = Properties(session_expiry_interval=session_expiry_interval)
        self.send(Disconnect(reason_code, properties))

    def packet_id(self) -> int:
        """The next packet id of this client."""
        return next(self._packet_ids)

    def acknowledge_all(self) -> list[Publish]:
        """Take part in every QoS 1 and 2 flow until nothing more comes; returns the messages, once each."""
        messages: list[Publish] = []
        while self.received:
            received, self.received = self.received, []
            answers: list[ControlPacket] = []
            for packet in received:
                if isinstance(packet, Publish):
                    messages.append(packet)
                    if packet.qos:
                        answer = PubAck if packet.qos == 1 else PubRec
                        answers.append(answer(packet.packet_id))
                elif isinstance(packet, PubRel):
                    answers.append(PubComp(packet.packet_id))
                elif isinstance(packet, PubRec) and packet.reason_code < ReasonCode.UNSPECIFIED_ERROR:
                    answers.append(PubRel(packet.packet_id))
            if answers:
                self.send(*answers)
        return messages

    # From the broker.

    def feed(self, data: bytes) -> None:
        """Bytes of the broker came; whole packets are decoded."""
        data = self._unread + data
        at = 0
        while (end := _end_of_packet(data, at)) is not None:
            start, stop = end
            packet = decode_packet(data[at], data[start:stop], self.version)
            self.received.append(packet)
            at = stop
        self._unread = data[at:]

    def take(self) -> list[ControlPacket]:
        """What came since the last call."""
        received, self.received = self.received, []
        return received

    def take_one(self, kind: type[PacketT]) -> PacketT:
        """Take the only packet of this kind out of what came."""
        found = [packet for packet in self.received if isinstance(packet, kind)]
        assert len(found) == 1, self.received
        self.received = [packet for packet in self.received if packet is not found[0]]
        return found[0]

    def messages(self) -> list[Publish]:
        """Take the messages out of what came."""
        found = [packet for packet in self.received if isinstance(packet, Publish)]
        self.received = [packet for packet in self.received if not isinstance(packet, Publish)]
        return found

    def payloads(self) -> list[bytes]:
        """Take the messages out of what came, and return their payloads."""
        return [message.payload for message in self.messages()]

    @property
    def is_closed(self) -> bool:
        """Whether the broker ended the connection."""
        return self.close_reason is not None


def connect_packet(client_id: str = "c", version: int = V5, **fields: Any) -> Connect:
    """A CONNECT; `expiry`, `receive_maximum` and `maximum_packet_size` are Properties."""
    properties = Properties(
        session_expiry_interval=fields.pop("expiry", None),
        receive_maximum=fields.pop("receive_maximum", None),
        maximum_packet_size=fields.pop("maximum_packet_size", None),
    )
    if version == V3_1_1:
        properties = NO_PROPERTIES
    fields.setdefault("properties", properties)
    return Connect(version=version, client_id=ClientId(client_id), **fields)


def will(topic: bytes = b"will", payload: bytes = b"gone", **fields: Any) -> Will:
    """A Will; `delay` and `expiry` are Properties."""
    delay, expiry = fields.pop("delay", None), fields.pop("expiry", None)
    properties = Properties(will_delay_interval=delay, message_expiry_interval=expiry)
    has_some = delay is not None or expiry is not None
    return Will(
        topic=TopicName(topic),
        payload=payload,
        properties=properties if has_some else NO_PROPERTIES,
        **fields,
    )


def request_for(topic_filter: bytes, qos: int = 0, **options: Any) -> SubscriptionRequest:
    """One Topic Filter of a SUBSCRIBE."""
    return SubscriptionRequest(TopicFilter(topic_filter), qos, **options)


def _end_of_packet(data: bytes, at: int) -> tuple[int, int] | None:
    """Where the body of the packet at `at` starts and stops; None until it is whole."""
    length = shift = 0
    body = at + 1
    while body < len(data):
        byte = data[body]
        length |= (byte & 0x7F) << shift
        shift += 7
        body += 1
        if byte < 0x80:
            return (body, body + length) if body + length <= len(data) else None
    return None
