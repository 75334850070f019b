"""Messages on their way to one Client: pending, in flight, sent again; packet ids and quota.

Knows: the order of delivery, the flow of each packet id, what must be durable before it is sent.
Does not know: who publishes, Subscriptions, sockets, clocks (`now` comes in), how it is stored.
Spec: v5 §4.3, §4.4, §4.6, §4.9; v3.1.1 §4.3, §4.4, §4.6.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from ..protocol.connection import Connection
from ..protocol.packets import V3_1_1, ClientId, PacketType, PubRel
from ..protocol.reason_codes import ReasonCode
from .aliases import OutboundAliases
from .flow import Flow, advance
from .message import Delivery
from .pending import Pending, Queued
from .records import Commit, DropOutbound, Journal, MoveOutbound, PutOutbound
from .stats import SessionLimits, SessionStats

_PACKET_ID_MAXIMUM: Final = 0xFFFF
_DUP: Final = 0x08


class Outbound(Struct, gc=False):
    """One packet id in use towards the Client; `delivery` is gone once the Client has the message.

    `commit` is set while the flow's state must become durable before its next packet is sent. `is_sent`
    once the message may have reached the Client, so that DUP is set when it is sent again.
    """

    delivery: Delivery | None
    flow: Flow
    row: int
    is_sent: bool
    commit: Commit | None = None


class Outbox:
    """The sending half of a Session, attached to a Network Connection or not.

    Everything it sends goes to the connection's `outgoing`; a connection whose `outgoing` was empty is
    put on `dirty`, so that the shell writes it at the end of the turn.
    """

    __slots__ = (
        "_aliases",
        "_dirty",
        "_journal",
        "_last_packet_id",
        "_limits",
        "_pending",
        "_quota",
        "_resend",
        "_stats",
        "_waiting",
        "client_id",
        "connection",
        "disconnected_at",
        "in_flight",
        "in_flight_bytes",
        "is_writable",
        "maximum_packet_size",
        "outgoing",
        "tenant",
        "version",
    )

    def __init__(
        self,
        tenant: str,
        client_id: ClientId,
        *,
        limits: SessionLimits,
        stats: SessionStats,
        dirty: list[Connection],
        journal: Journal | None,
    ) -> None:
        self.tenant = tenant
        self.client_id = client_id
        #: Packet ids towards the Client, in the order of first sending (v5 [MQTT-4.6.0-1]).
        self.in_flight: dict[int, Outbound] = {}
        self.in_flight_bytes = 0
        self.connection: Connection | None = None
        #: Since when it has no connection (seconds), None while it has one.
        self.disconnected_at: float | None = None
        self.outgoing: list[bytes] = []
        self.is_writable = False
        self.version = V3_1_1
        self.maximum_packet_size = 0xFFFFFFFF
        self._aliases: OutboundAliases | None = None
        self._limits = limits
        self._stats = stats
        self._dirty = dirty
        # None where the Session ends with its connection, so that no store ever hears of it.
        self._journal = journal
        self._quota = limits.in_flight_maximum
        self._last_packet_id = 0
        self._pending = Pending(limits, stats)
        #: The same queue, at hand: it is asked for each message.
        self._waiting = self._pending.waiting
        self._resend: deque[int] = deque()

    @property
    def pending_messages(self) -> int:
        """How many deliveries wait for a connection, the quota, or a slow peer."""
        return len(self._waiting)

    @property
    def pending_bytes(self) -> int:
        """What they weigh: payloads and topics."""
        return self._pending.size_bytes

    @property
    def is_durable(self) -> bool:
        """Whether the store keeps the Session."""
        return self._journal is not None

    @property
    def has_aliases(self) -> bool:
        """Whether its frames may hold Topic Aliases, and so are nobody else's."""
        return self._aliases is not None

    @property
    def frame_needs(self) -> tuple[int, int, bool]:
        """What decides which frames it can share with others; plans depend on it."""
        return self.version, self.maximum_packet_size, self.has_aliases

    def attach(
        self, connection: Connection, *, receive_maximum: int, topic_alias_maximum: int, now: float
    ) -> None:
        """Bind to a Network Connection after its CONNACK, and send again what is unacknowledged.

        The two maxima are the Client's. v5 [MQTT-4.4.0-1]; v3.1.1 [MQTT-4.4.0-1].
        """
        self.connection = connection
        self.outgoing = connection.outgoing
        self.version = connection.version
        self.maximum_packet_size = connection.maximum_packet_size
        self.is_writable = True
        self.disconnected_at = None
        self._aliases = OutboundAliases(topic_alias_maximum) if topic_alias_maximum else None
        self._quota = min(receive_maximum, self._limits.in_flight_maximum)
        self._resend = deque(self.in_flight)
        self.pump(now)

    def detach(self, now: float) -> None:
        """Unbind from the Network Connection; `now` starts the expiry."""
        self.disconnected_at = now
        self.connection = None
        self.outgoing = []
        self.is_writable = False
        self._aliases = None
        self._resend.clear()

    def forget(self) -> None:
        """Let go of every message: the Session ended, and a route may still know it."""
        self.in_flight.clear()
        self.in_flight_bytes = 0
        self._pending.take(lambda _: True)

    def send(self, delivery: Delivery, now: float) -> None:
        """Send a QoS 0 delivery with a frame of its own, if the connection and its limits allow."""
        if not self.is_writable:
            self._stats.unsent += 1
            self._stats.dropped_congested += self.connection is not None
            return
        prefix, suffix = self._parts(delivery, now)
        if len(prefix) + len(suffix) > self.maximum_packet_size:
            self._stats.unsent += 1
            self._stats.dropped_too_large += 1
            return
        self._write(prefix, suffix)

    def drop_pending(self, is_wanted: Callable[[Delivery], bool]) -> None:
        """Forget pending deliveries that are wanted here no more."""
        for queued in self._pending.take(is_wanted):
            self._drop_row(queued.row)

    def give_up_shared(self, is_wanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take back QoS 1 deliveries of Shared Subscriptions that somebody else is to have (v5 §4.8.2)."""

        def is_to_go(delivery: Delivery) -> bool:
            return delivery.share is not None and delivery.qos == 1 and is_wanted(delivery)

        given_up = []
        for packet_id, outbound in tuple(self.in_flight.items()):
            if outbound.delivery is not None and is_to_go(outbound.delivery):
                del self.in_flight[packet_id]
                self.in_flight_bytes -= outbound.delivery.size_bytes()
                self._drop_row(outbound.row)
                given_up.append(outbound.delivery)
        for queued in self._pending.take(is_to_go):
            self._drop_row(queued.row)
            given_up.append(queued.delivery)
        return given_up

    def deliver(self, delivery: Delivery, now: float) -> None:
        """Send a QoS 1 or 2 delivery, or keep it until it may be sent.

        Sent at once if the Client's quota and the connection allow and nothing waits before it
        (v5 §4.9, [MQTT-4.6.0-6]); otherwise it is pending, up to the limits, beyond which the newest
        is dropped and counted.
        """
        if self._waiting or not self.is_writable or not self._has_room:
            self._stats.unsent += 1
            self._pending.offer(delivery, self._record)
        elif self._journal is not None:
            self._start(delivery, self._record(delivery, 0), now)
        else:
            self._start(delivery, 0, now)

    @property
    def _has_room(self) -> bool:
        return len(self.in_flight) < self._quota and self.in_flight_bytes < self._limits.pending_bytes_maximum

    def pump(self, now: float) -> None:
        """Send what waits, as far as the quota and the connection allow."""
        in_flight = self.in_flight
        resend = self._resend
        while resend and len(in_flight) - len(resend) < self._quota:
            packet_id = resend.popleft()
            outbound = in_flight.get(packet_id)
            if outbound is not None and outbound.commit is None:
                self._continue(packet_id, outbound, now)
        waiting = self._waiting
        while waiting and self.is_writable and self._has_room:
            queued = self._pending.pop()
            if queued.delivery.message.has_expired(now):
                self._stats.dropped_expired += 1
                self._drop_row(queued.row)
            else:
                self._stats.sent_later += 1
                self._start(queued.delivery, queued.row, now)

    def send_committed(self, packet_id: int, now: float) -> None:
        """Go on with a QoS 2 delivery whose state is durable by now, if it still waits for that."""
        outbound = self.in_flight.get(packet_id)
        if outbound is None or outbound.commit is None or not outbound.commit.is_done:
            return
        outbound.commit = None
        if packet_id not in self._resend:  # Otherwise its turn comes with the others'.
            self._continue(packet_id, outbound, now)
            if self._waiting:
                self.pump(now)  # What was too large for the Client made room.

    def handle_puback(self, packet_id: int, now: float) -> None:
        """The Client has a QoS 1 message. An unknown id is a late one, and ignored.

        Raises:
            ProtocolError: the id belongs to a QoS 2 message.
        """
        outbound = self.in_flight.get(packet_id)
        if outbound is None:
            return
        if outbound.flow is not Flow.AWAIT_PUBACK:
            advance(outbound.flow, PacketType.PUBACK, 0)
        self._finish(packet_id, outbound, now)

    def handle_pubrec(self, packet_id: int, reason_code: ReasonCode, now: float) -> ReasonCode | None:
        """The Client has a QoS 2 message; returns the code of the PUBREL to send now, None for none.

        A durable Session's PUBREL follows by itself after the commit: the Client forgets the packet id
        then, and a PUBLISH sent again after a crash would be a second message to it. An unknown id is
        answered by 0x92 (v5 §3.6.2.1); 3.1.1 has no code, and its Client goes on.

        Raises:
            ProtocolError: the id belongs to a QoS 1 message.
        """
        outbound = self.in_flight.get(packet_id)
        if outbound is None:
            is_error = reason_code >= ReasonCode.UNSPECIFIED_ERROR
            return None if is_error else ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
        flow = advance(outbound.flow, PacketType.PUBREC, reason_code)
        if flow is Flow.DONE:
            self._finish(packet_id, outbound, now)
            return None
        if outbound.flow is not flow:
            outbound.flow = flow
            if outbound.delivery is not None:
                self.in_flight_bytes -= outbound.delivery.size_bytes()
            outbound.delivery = None  # v5 §4.3.3: the message is the Client's now.
            if outbound.row and self._journal is not None:
                self._move(self._journal, packet_id, outbound)
        return ReasonCode.SUCCESS if outbound.commit is None else None

    def handle_pubcomp(self, packet_id: int, now: float) -> None:
        """The Client closed a QoS 2 flow. An unknown id is a late one, and ignored.

        Raises:
            ProtocolError: the message was not acknowledged by PUBREC before.
        """
        outbound = self.in_flight.get(packet_id)
        if outbound is None:
            return
        advance(outbound.flow, PacketType.PUBCOMP, 0)
        self._finish(packet_id, outbound, now)

    def restore(self, delivery: Delivery, *, row: int, packet_id: int, flow: Flow | None) -> None:
        """Put back a delivery that the store kept; `flow` None means that it was pending."""
        if flow is None:
            self._pending.put_back(Queued(delivery, row))
            return
        is_taken = flow is Flow.AWAIT_PUBCOMP
        self.in_flight_bytes += 0 if is_taken else delivery.size_bytes()
        self.in_flight[packet_id] = Outbound(None if is_taken else delivery, flow, row, True)
        self._last_packet_id = packet_id

    # Private.

    def _record(self, delivery: Delivery, row: int) -> int:
        """Store a delivery under a row, a new one for 0; returns the row, 0 where there is no store."""
        journal = self._journal
        if journal is None:
            return 0
        row = row or journal.row()
        journal.append(
            PutOutbound(
                self.tenant,
                self.client_id,
                row,
                delivery.message,
                delivery.qos,
                delivery.is_retain,
                delivery.identifiers,
            )
        )
        return row

    def _start(self, delivery: Delivery, row: int, now: float) -> None:
        """Give the delivery a packet id and send it; there is room for one."""
        in_flight = self.in_flight
        packet_id = self._last_packet_id % _PACKET_ID_MAXIMUM + 1
        while packet_id in in_flight:
            packet_id = packet_id % _PACKET_ID_MAXIMUM + 1
        self._last_packet_id = packet_id
        self.in_flight_bytes += delivery.size_bytes()
        if delivery.qos == 1:
            in_flight[packet_id] = Outbound(delivery, Flow.AWAIT_PUBACK, row, True)
        elif row and self._journal is not None:
            in_flight[packet_id] = outbound = Outbound(delivery, Flow.AWAIT_PUBREC, row, False)
            self._move(self._journal, packet_id, outbound)
            return
        else:
            in_flight[packet_id] = Outbound(delivery, Flow.AWAIT_PUBREC, row, True)
        self._send(delivery, packet_id, now, flags=0)

    def _move(self, journal: Journal, packet_id: int, outbound: Outbound) -> None:
        """Record the flow of a QoS 2 delivery; its next packet waits for `send_committed`."""
        outbound.commit = journal.append(
            MoveOutbound(self.tenant, self.client_id, outbound.row, packet_id, outbound.flow)
        )
        outbound.commit.delivering.append((self, packet_id))

    def _send(self, delivery: Delivery, packet_id: int, now: float, *, flags: int) -> None:
        if delivery.encoded_version == self.version and self._aliases is None:
            prefix = delivery.prefix
            suffix = delivery.suffix
        else:
            prefix, suffix = self._parts(delivery, now)
        if len(prefix) + len(suffix) + 2 > self.maximum_packet_size:
            # v5 [MQTT-3.1.2-25]: act as if it had been sent and acknowledged.
            self._stats.dropped_too_large += 1
            self._stats.unsent += 1
            self._drop_row(self.in_flight.pop(packet_id).row)
            self.in_flight_bytes -= delivery.size_bytes()
            return
        if flags:
            prefix = bytes((prefix[0] | flags,)) + prefix[1:]
        self._write(prefix, packet_id.to_bytes(2, "big"), suffix)

    def _parts(self, delivery: Delivery, now: float) -> tuple[bytes, bytes]:
        if self._aliases is None:
            return delivery.parts(self.version, now)
        topic, alias = self._aliases.choose(delivery.message.topic)
        prefix, suffix = delivery.encode(self.version, now, topic, alias)
        if topic and alias is not None and len(prefix) + len(suffix) + 2 > self.maximum_packet_size:
            self._aliases.retract(topic)  # The Client will not be sent this packet.
        return prefix, suffix

    def _write(self, *parts: bytes) -> None:
        outgoing = self.outgoing
        if not outgoing and self.connection is not None:
            self._dirty.append(self.connection)
        outgoing += parts

    def _continue(self, packet_id: int, outbound: Outbound, now: float) -> None:
        """Send what is next in the flow of a packet id: the message, or its PUBREL."""
        connection = self.connection
        if connection is None:
            return
        if outbound.delivery is not None:
            if outbound.is_sent:
                self._stats.sent_later += 1
                self._send(outbound.delivery, packet_id, now, flags=_DUP)
            else:
                outbound.is_sent = True
                # v5 [MQTT-4.6.0-1]: in flight stands in the order of first sending.
                self.in_flight[packet_id] = self.in_flight.pop(packet_id)
                self._send(outbound.delivery, packet_id, now, flags=0)
            return
        if not connection.outgoing:
            self._dirty.append(connection)
        connection.send(PubRel(packet_id))
        self._stats.pubrels_sent += 1

    def _finish(self, packet_id: int, outbound: Outbound, now: float) -> None:
        del self.in_flight[packet_id]
        if outbound.delivery is not None:
            self.in_flight_bytes -= outbound.delivery.size_bytes()
        if outbound.row:
            self._drop_row(outbound.row)
        if self._waiting or self._resend:
            self.pump(now)

    def _drop_row(self, row: int) -> None:
        if row and self._journal is not None:
            self._journal.append(DropOutbound(self.tenant, self.client_id, row))
