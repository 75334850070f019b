"""Messages on their way to one Client: pending, in flight, sent again; packet ids and quota.

Knows: the order of delivery, the flow of each packet id, what must be durable before it is sent.
Does not know: who publishes, Subscriptions, sockets, clocks (`now` comes in), how it is stored.
Spec: v5 §4.3, §4.4, §4.6, §4.9; v3.1.1 §4.3, §4.4, §4.6.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from ..protocol.connection import Connection
from ..protocol.packets import ClientId, PacketType, PubRel
from ..protocol.reason_codes import ReasonCode
from .flow import Flow, advance
from .journal import Commit, Journal
from .message import Delivery
from .pending import Pending
from .sender import Sender
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


class Outbox(Sender):
    """The sending half of a Session, attached to a Network Connection or not.

    `number` is the Session's in the store, 0 where no store knows it.
    """

    __slots__ = (
        "_journal",
        "_last_packet_id",
        "_limits",
        "_pending",
        "_quota",
        "_resend",
        "_waiting",
        "client_id",
        "disconnected_at",
        "in_flight",
        "in_flight_bytes",
        "number",
        "tenant",
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
        number: int = 0,
    ) -> None:
        super().__init__(stats=stats, dirty=dirty)
        self.tenant = tenant
        self.client_id = client_id
        #: Packet ids towards the Client, in the order of first sending (v5 [MQTT-4.6.0-1]).
        self.in_flight: dict[int, Outbound] = {}
        self.in_flight_bytes = 0
        #: Since when it has no connection (seconds), None while it has one.
        self.disconnected_at: float | None = None
        self._limits = limits
        # None where the Session ends with its connection, so that no store ever hears of it.
        self._journal = journal
        self.number = number or (0 if journal is None else journal.session_number())
        self._quota = limits.in_flight_maximum
        self._last_packet_id = 0
        self._pending = Pending(limits, stats)
        #: Its front in memory, at hand: it is asked for each message.
        self._waiting = self._pending.waiting
        self._resend: deque[int] = deque()

    @property
    def pending_messages(self) -> int:
        """How many deliveries wait for a connection, the quota, or a slow peer."""
        return self._pending.messages

    @property
    def pending_bytes(self) -> int:
        """What they weigh: payloads and topics."""
        return self._pending.size_bytes

    @property
    def stored_messages(self) -> int:
        """How many of them wait in the store only."""
        return self._pending.stored_messages

    @property
    def page(self) -> object | None:
        """Stands for the page of pending deliveries that was asked for, None where none is on its way."""
        return self._pending.page

    @property
    def page_after(self) -> int:
        """The page begins above this row."""
        return self._pending.last_row

    @property
    def is_durable(self) -> bool:
        """Whether the store keeps the Session."""
        return self._journal is not None

    def attach(
        self, connection: Connection, *, receive_maximum: int, topic_alias_maximum: int, now: float
    ) -> None:
        """Bind to a Network Connection after its CONNACK, and send again what is unacknowledged.

        The two maxima are the Client's. v5 [MQTT-4.4.0-1]; v3.1.1 [MQTT-4.4.0-1].
        """
        self._bind(connection, topic_alias_maximum=topic_alias_maximum)
        self.disconnected_at = None
        self._quota = min(receive_maximum, self._limits.in_flight_maximum)
        # What was sent before comes first: some had to wait for their commit, and their connection was lost
        # meanwhile.
        self._resend = deque(sorted(self.in_flight, key=self._is_unsent))
        self.pump(now)

    def detach(self, now: float) -> None:
        """Unbind from the Network Connection; `now` starts the expiry."""
        self.disconnected_at = now
        self._unbind()
        self._resend.clear()

    def leave_to_store(self) -> None:
        """Keep pending deliveries in the store only, until there is a connection again."""
        if self._journal is not None:
            self._pending.leave_to_store()

    def forget(self) -> None:
        """Let go of every message: the Session ended, and a route may still know it."""
        self.in_flight.clear()
        self.in_flight_bytes = 0
        self._pending.take(lambda _: True)

    def drop_pending(self, is_wanted: Callable[[Delivery], bool]) -> None:
        """Forget pending deliveries in memory that are wanted here no more."""
        for _, row in self._pending.take(is_wanted):
            self._drop_row(row)

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
        for delivery, row in self._pending.take(is_to_go):
            self._drop_row(row)
            given_up.append(delivery)
        return given_up

    def deliver(self, delivery: Delivery, now: float) -> None:
        """Send a QoS 1 or 2 delivery, or keep it until it may be sent.

        Sent at once if the Client's quota and the connection allow and nothing waits before it
        (v5 §4.9, [MQTT-4.6.0-6]); otherwise it is pending, up to the limits, beyond which the newest
        is dropped and counted.
        """
        if self._waiting or not self.is_writable or not self._has_room or self._pending.stored_messages:
            self._stats.unsent += 1
            pending = self._pending
            # Without a connection nothing is sent soon: what is stored need not be in memory, too.
            in_memory = self._journal is None or (self.connection is not None and pending.has_room)
            if not pending.offer(delivery, self._record, in_memory=in_memory):
                self.dropped += 1
        else:
            self._start(delivery, 0, now)

    def _is_unsent(self, packet_id: int) -> bool:
        return not self.in_flight[packet_id].is_sent

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
            delivery, row = self._pending.pop()
            if delivery.message.has_expired(now):
                self._stats.dropped_expired += 1
                self.dropped += 1
                self._drop_row(row)
            else:
                self._stats.sent_later += 1
                self._start(delivery, row, now)
        if self._pending.stored_messages and self.connection is not None:
            self.ask_for_page()

    def ask_for_page(self) -> None:
        """Have the next pending deliveries read from the store, if it is time."""
        if self._journal is not None and self._pending.needs_page:
            self._pending.ask_for_page()
            self._journal.read_after_commit(self)

    def take_page(self, page: Sequence[tuple[Delivery, int]], *, is_last: bool) -> None:
        """The store gave what was asked for: deliveries with their rows; `pump` sends them."""
        self._pending.add_page(page, is_last=is_last)

    def swept(self, row: int, size_bytes: int) -> None:
        """The store has forgotten a pending delivery that expired; what is in memory is seen to there."""
        if row > self._pending.last_row:
            self._stats.dropped_expired += 1
            self.dropped += 1
            self._pending.swept(size_bytes)

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
                self._journal.move_delivery(outbound.row, packet_id, flow)
                self._await_commit(self._journal, packet_id, outbound)
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

    def restore_in_flight(self, delivery: Delivery, *, row: int, packet_id: int, flow: Flow) -> None:
        """Put back a delivery whose packet id the store kept."""
        is_taken = flow is Flow.AWAIT_PUBCOMP
        self.in_flight_bytes += 0 if is_taken else delivery.size_bytes()
        self.in_flight[packet_id] = Outbound(None if is_taken else delivery, flow, row, True)
        self._last_packet_id = packet_id

    def restore_pending(self, messages: int, size_bytes: int) -> None:
        """Remember how many deliveries the store has for the Session besides."""
        self._pending.restore(messages, size_bytes)

    # Private.

    def _record(self, delivery: Delivery, row: int) -> int:
        """Store a pending delivery; returns the row, 0 where there is no store."""
        journal = self._journal
        return 0 if journal is None else journal.put_delivery(self.number, delivery, row)

    def _start(self, delivery: Delivery, row: int, now: float) -> None:
        """Give the delivery a packet id and send it; there is room for one. `row` 0: it was not pending."""
        in_flight = self.in_flight
        packet_id = self._last_packet_id % _PACKET_ID_MAXIMUM + 1
        while packet_id in in_flight:
            packet_id = packet_id % _PACKET_ID_MAXIMUM + 1
        self._last_packet_id = packet_id
        self.in_flight_bytes += delivery.size_bytes()
        flow = Flow.AWAIT_PUBACK if delivery.qos == 1 else Flow.AWAIT_PUBREC
        journal = self._journal
        if journal is not None:
            if row and delivery.message.expires_at is None:
                journal.move_delivery(row, packet_id, flow)
            else:  # Put again what expires: a sweep may be deleting it at this moment.
                row = journal.put_delivery(self.number, delivery, row, packet_id, flow)
            if flow is Flow.AWAIT_PUBREC:
                in_flight[packet_id] = outbound = Outbound(delivery, flow, row, False)
                self._await_commit(journal, packet_id, outbound)
                return
        in_flight[packet_id] = Outbound(delivery, flow, row, True)
        self._send(delivery, packet_id, now, flags=0)

    def _await_commit(self, journal: Journal, packet_id: int, outbound: Outbound) -> None:
        """Let the next packet of a QoS 2 delivery wait for `send_committed`."""
        outbound.commit = journal.awaited()
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
            self.dropped += 1
            self._drop_row(self.in_flight.pop(packet_id).row)
            self.in_flight_bytes -= delivery.size_bytes()
            return
        if flags:
            prefix = bytes((prefix[0] | flags,)) + prefix[1:]
        self._write(prefix, packet_id.to_bytes(2, "big"), suffix)

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
            self._journal.drop_delivery(row)
