"""A service's Session at a foreign broker: what outlives a connection, without any I/O.

Knows: Subscriptions, what each packet of the broker means, what must be sent on a new connection.
Does not know: sockets, when to connect, who takes the messages; `now` comes in.
Spec: v5 §3.2, §3.3, §3.4, §3.8, §3.9, §3.14, §4.1, §4.4.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from ..foreign_settings import ForeignBusSettings
from ..protocol.client_connection import ClientConnection, ClientState
from ..protocol.errors import ProtocolError
from ..protocol.packets import (
    ConnAck,
    ControlPacket,
    Disconnect,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    SubscriptionRequest,
)
from ..protocol.reason_codes import ReasonCode
from .errors import BusEndedError, BusRefusedError
from .inbound import Inbound
from .outbound import PACKET_ID_MAXIMUM, Outbound

_PUBACK: Final = b"\x40\x02"
#: Refusals that another try does not heal; those of a busy or ending broker it may.
_FINAL: Final = frozenset(
    {
        ReasonCode.UNSUPPORTED_PROTOCOL_VERSION,
        ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
        ReasonCode.BAD_USER_NAME_OR_PASSWORD,
        ReasonCode.NOT_AUTHORIZED,
        ReasonCode.BANNED,
        ReasonCode.BAD_AUTHENTICATION_METHOD,
        ReasonCode.SESSION_TAKEN_OVER,
        ReasonCode.QOS_NOT_SUPPORTED,
    }
)


class BusStats(Struct):
    """What the bus has done so far."""

    connects: int = 0
    sessions_lost: int = 0
    messages_received: int = 0


class ForeignSession:
    """Subscriptions, messages of both directions, and acknowledgements, over many connections.

    `flush` moves what is due to the connection's `outgoing`; call it after everything else.
    """

    def __init__(self, settings: ForeignBusSettings) -> None:
        self.stats: Final = BusStats()
        self.inbound: Final = Inbound()
        self.outbound: Final = Outbound(
            in_flight_maximum=settings.in_flight_maximum,
            messages_maximum=settings.outgoing_messages_maximum,
            bytes_maximum=settings.outgoing_bytes_maximum,
        )
        self._requests: list[SubscriptionRequest] = []
        #: How many of them the present connection was sent, and what it has not answered.
        self._requested = 0
        self._unanswered: dict[int, tuple[SubscriptionRequest, ...]] = {}
        self._subscribe_id = PACKET_ID_MAXIMUM

    @property
    def is_granted(self) -> bool:
        """Whether the present connection has every Subscription."""
        return not self._unanswered and self._requested == len(self._requests)

    def subscribe(self, requests: Sequence[SubscriptionRequest]) -> None:
        """Subscribe, now and on every connection to come."""
        self._requests += requests

    def handle(self, connection: ClientConnection, packets: Sequence[ControlPacket]) -> None:
        """Take what the broker sent.

        Raises:
            PeerError: it broke the protocol.
            BusRefusedError: it refuses for good.
            BusEndedError: it ends this connection.
        """
        for packet in packets:
            if isinstance(packet, Publish):
                if packet.qos > 1:
                    raise ProtocolError("a QoS that was not granted", spec="v5 [MQTT-3.8.4-8]")
                self.stats.messages_received += 1
                self.inbound.put(packet)
            elif isinstance(packet, PubAck):
                self.outbound.handle_puback(packet.packet_id, packet.reason_code)
            elif isinstance(packet, ConnAck):
                self._let_in(connection, packet)
            elif isinstance(packet, SubAck):
                self._granted(packet)
            elif isinstance(packet, Disconnect):
                raise _ended("the foreign broker ended the connection", packet.reason_code)

    def flush(self, connection: ClientConnection, now: float, *, is_writable: bool) -> None:
        """Send what is due: Subscriptions, messages, and then the PUBACKs of the requests they answer."""
        if connection.state is not ClientState.CONNECTED:
            return
        if self._requested < len(self._requests):
            requests = tuple(self._requests[self._requested :])
            self._requested = len(self._requests)
            # Never an id of a PUBLISH, which has those up to PACKET_ID_MAXIMUM.
            self._subscribe_id = max(PACKET_ID_MAXIMUM, self._subscribe_id % 0xFFFF) + 1
            self._unanswered[self._subscribe_id] = requests
            connection.send(Subscribe(self._subscribe_id, requests))
        if is_writable:
            self.outbound.pump(connection, now)
        if due := self.inbound.pubacks():
            connection.outgoing.append(
                b"".join([_PUBACK + packet_id.to_bytes(2, "big") for packet_id in due])
            )

    def disconnected(self) -> None:
        """The connection is lost."""
        self.inbound.disconnected()
        self._unanswered.clear()
        self._requested = 0

    def _let_in(self, connection: ClientConnection, packet: ConnAck) -> None:
        if packet.reason_code is not ReasonCode.SUCCESS:
            raise _ended("the foreign broker refuses the connection", packet.reason_code)
        if not connection.maximum_qos:
            raise BusRefusedError("the foreign broker takes no QoS 1", ReasonCode.QOS_NOT_SUPPORTED)
        is_present = packet.is_session_present
        self.stats.sessions_lost += self.stats.connects > 0 and not is_present
        self.stats.connects += 1
        self.inbound.connected(is_session_present=is_present)
        self.outbound.connected(connection, is_session_present=is_present)

    def _granted(self, packet: SubAck) -> None:
        requests = self._unanswered.pop(packet.packet_id, ())
        if len(requests) != len(packet.reason_codes):
            raise ProtocolError("a SUBACK that does not fit its SUBSCRIBE", spec="v5 [MQTT-3.8.4-6]")
        for request, code in zip(requests, packet.reason_codes, strict=True):
            if code >= ReasonCode.UNSPECIFIED_ERROR or code < request.qos:
                what = f"the foreign broker refuses QoS {request.qos} on {request.topic_filter.decode()}"
                raise BusRefusedError(what, code)


def _ended(what: str, reason_code: ReasonCode) -> BusRefusedError | BusEndedError:
    return (BusRefusedError if reason_code in _FINAL else BusEndedError)(what, reason_code)
