"""Messages to a foreign broker: waiting, in flight, and sent again after the connection was lost.

Knows: packet ids, Receive Maximum of the broker, order, expiry while waiting, limits.
Does not know: sockets, who publishes, clocks (`now` comes in).
Spec: v5 §3.3.2.3.3, §4.3.1, §4.3.2, §4.4, §4.6, §4.9.
"""

from collections import deque
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ..protocol.client_connection import ClientConnection
from ..protocol.packets import Publish, TopicName
from ..protocol.reason_codes import ReasonCode

#: The ids above are for SUBSCRIBE, so that the two never meet.
PACKET_ID_MAXIMUM: Final = 0xFEFF


class OutboundStats(Struct):
    """What became of messages that the broker did not take."""

    dropped_full: int = 0
    dropped_expired: int = 0
    dropped_too_large: int = 0
    #: The broker answered with a failure, or said before that it takes no such message.
    refused: int = 0
    superseded: int = 0


class _Queued(Struct):
    publish: Publish
    expires_at: float | None
    supersede_key: bytes | None = None

    @property
    def size_bytes(self) -> int:
        return len(self.publish.topic) + len(self.publish.payload)


class Outbound:
    """Every message that was published and that the broker has not taken yet, in order.

    QoS 1 messages outlive connections: what is in flight is sent again, with DUP and under its packet id
    if the broker kept the Session, else as a new message. So none is lost, and after a loss of the
    connection some come twice.
    """

    def __init__(self, *, in_flight_maximum: int, messages_maximum: int, bytes_maximum: int) -> None:
        self.stats: Final = OutboundStats()
        #: Payload and topic bytes of what is not yet taken.
        self.size_bytes = 0
        self._in_flight_maximum = in_flight_maximum
        self._messages_maximum = messages_maximum
        self._bytes_maximum = bytes_maximum
        self._pending: deque[_Queued] = deque()
        self._in_flight: dict[int, _Queued] = {}
        self._resend: deque[int] = deque()
        self._superseding: dict[tuple[TopicName, bytes], _Queued] = {}
        self._last_packet_id = 0
        self._quota = 0

    def __len__(self) -> int:
        return len(self._pending) + len(self._in_flight)

    def put(self, publish: Publish, *, expires_at: float | None, supersede_key: bytes | None) -> bool:
        """Take in a message of QoS 0 or 1; False where there are too many, so that it is dropped."""
        queued = _Queued(publish, expires_at, supersede_key)
        if supersede_key is not None:
            older = self._superseding.get((publish.topic, supersede_key))
            if older is not None:
                self.stats.superseded += 1
                self.size_bytes += queued.size_bytes - older.size_bytes
                older.publish, older.expires_at = publish, expires_at
                return True
        if len(self) >= self._messages_maximum or self.size_bytes + queued.size_bytes > self._bytes_maximum:
            self.stats.dropped_full += 1
            return False
        if supersede_key is not None:
            self._superseding[publish.topic, supersede_key] = queued
        self._pending.append(queued)
        self.size_bytes += queued.size_bytes
        return True

    def connected(self, connection: ClientConnection, *, is_session_present: bool) -> None:
        """A new connection stands; `pump` goes on with what the last one left (v5 [MQTT-4.4.0-1])."""
        self._quota = min(connection.receive_maximum, self._in_flight_maximum)
        if is_session_present:
            self._resend = deque(self._in_flight)
        else:
            self._resend.clear()
            self._pending.extendleft(reversed(self._in_flight.values()))
            self._in_flight.clear()

    def pump(self, connection: ClientConnection, now: float) -> None:
        """Send what may be sent, in order, as far as the broker's Receive Maximum allows."""
        in_flight, resend, pending = self._in_flight, self._resend, self._pending
        while resend and len(in_flight) - len(resend) < self._quota:
            self._send_again(connection, resend.popleft(), now)
        while pending and (not pending[0].publish.qos or len(in_flight) < self._quota):
            self._send_first(connection, pending.popleft(), now)

    def handle_puback(self, packet_id: int, reason_code: ReasonCode) -> None:
        """The broker has the message, or refuses it; an answer to nothing is nothing."""
        queued = self._in_flight.pop(packet_id, None)
        if queued is None:
            return
        self.size_bytes -= queued.size_bytes
        if reason_code >= ReasonCode.UNSPECIFIED_ERROR:
            self.stats.refused += 1

    def _send_first(self, connection: ClientConnection, queued: _Queued, now: float) -> None:
        publish = queued.publish
        if queued.supersede_key is not None:
            self._superseding.pop((publish.topic, queued.supersede_key), None)
        if queued.expires_at is not None and queued.expires_at <= now:
            self.stats.dropped_expired += 1
        elif publish.is_retain and not connection.is_retain_available:
            self.stats.refused += 1  # v5 [MQTT-3.2.2-14]
        elif publish.qos == 0:
            self._send(connection, queued, now)
        else:
            packet_id = self._next_packet_id()
            queued.publish = replace(publish, packet_id=packet_id, is_dup=False)
            if self._send(connection, queued, now):
                self._in_flight[packet_id] = queued
                return
        self.size_bytes -= queued.size_bytes

    def _send_again(self, connection: ClientConnection, packet_id: int, now: float) -> None:
        queued = self._in_flight.get(packet_id)
        if queued is None:
            return
        queued.publish = replace(queued.publish, is_dup=True)
        if not self._send(connection, queued, now):
            del self._in_flight[packet_id]
            self.size_bytes -= queued.size_bytes

    def _send(self, connection: ClientConnection, queued: _Queued, now: float) -> bool:
        publish = queued.publish
        if queued.expires_at is not None:
            remaining = max(1, round(queued.expires_at - now))
            publish = replace(
                publish, properties=replace(publish.properties, message_expiry_interval=remaining)
            )
        if connection.send(publish):
            return True
        self.stats.dropped_too_large += 1
        return False

    def _next_packet_id(self) -> int:
        packet_id = self._last_packet_id % PACKET_ID_MAXIMUM + 1
        while packet_id in self._in_flight:
            packet_id = packet_id % PACKET_ID_MAXIMUM + 1
        self._last_packet_id = packet_id
        return packet_id
