"""The engine: the only writer of broker state. Packets and timers in, frames and effects out.

Knows: which handler serves which packet, the budget of a turn, what the shell must do next.
Does not know: sockets, tasks, clocks (`now` is seconds of a clock that never goes back), disks.
Spec: v5 §3, §4; v3.1.1 §3, §4.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from ..access.asking import Question
from ..access.ports import AccessRefusedError, Continue, EnhancedAuthenticator, Success
from ..access.principal import ClientCertificate, Principal
from ..protocol.connection import ConnectionState
from ..protocol.errors import PeerError, UnsupportedProtocolVersionError
from ..protocol.packets import (
    Auth,
    ClientId,
    ConnAck,
    Connect,
    ControlPacket,
    Disconnect,
    PubAck,
    Publish,
    TopicFilter,
)
from ..protocol.reason_codes import ReasonCode
from ..protocol.subscription import Subscription
from ..session.journal import Acknowledging, Commit, Journal
from ..session.message import ApplicationMessage
from ..session.records import Changes
from ..session.session import Session
from ..settings import LimitSettings
from ..storage.ports import Page, Snapshot, SweptDelivery
from .census import Census, take_census
from .connect import handle_authenticated, handle_connect, watch_connect
from .connection import Hold, ServedConnection
from .decisions import UndecidedError, handle_decided, postpone
from .effects import Authorize, Effect, Proceed, ReadPending, ResumeReading
from .enhanced import handle_auth, handle_method_answer
from .handlers import HANDLERS
from .holds import drained, hold, unhold
from .lifecycle import close_connection, end_connection
from .mailbox import Mailbox
from .pages import take_page, take_swept
from .publish import handle_publish, publish_message
from .rates import charge
from .restore import restore
from .rights import handle_authenticated_again
from .state import EngineState
from .stats import Stats
from .subscribe import send_backlog


class Engine:
    """One broker's logic, without I/O.

    After every call the shell looks at three lists and empties them: `effects`, `filled` (mailboxes
    with a batch) and `dirty` (connections with frames). Before it writes `dirty` it calls `release`. Some
    time it commits what `take_changes` returns and calls `committed`; only acknowledgements and QoS 2
    deliveries that need that commit are held back until then.
    """

    def __init__(
        self,
        limits: LimitSettings,
        *,
        journal: Journal | None,
        new_client_id: Callable[[], ClientId],
        now: float,
        methods: Iterable[EnhancedAuthenticator] = (),
        reason_strings: bool = False,
        stores_every_will: bool = True,
    ) -> None:
        self.state = EngineState(
            limits,
            journal=journal,
            new_client_id=new_client_id,
            now=now,
            methods=methods,
            reason_strings=reason_strings,
            stores_every_will=stores_every_will,
        )

    def restore(self, snapshot: Snapshot, now: float) -> None:
        """Take over what a store kept; once, before the first connection."""
        restore(self.state, snapshot, now)

    # What waits for the shell.

    @property
    def stats(self) -> Stats:
        """Counts since the start."""
        return self.state.stats

    def take_census(self, census: Census) -> Iterator[None]:
        """Count what there is; yields whenever others should have their turn."""
        return take_census(self.state.tenants.values(), census)

    def take_effects(self) -> list[Effect]:
        """Return the effects since the last call, in order."""
        effects = self.state.effects
        self.state.effects = []
        return effects

    def take_changes(self, now: float) -> tuple[Changes, Commit] | None:
        """Return what the store must commit, and the handle for `committed`; None for nothing.

        The changes are empty where somebody only waits for an earlier commit.
        """
        journal = self.state.journal
        return journal.take(now) if journal else None

    def committed(self, commit: Commit, now: float) -> None:
        """The store has the changes that came with `commit`."""
        state = self.state
        commit.finish(now)
        self._resume(commit.acknowledging)
        if state.journal is not None:
            state.journal.settle(commit)
        state.effects += self.reads(commit)
        waiting, state.waiting_for_store = state.waiting_for_store, []
        for connection in waiting:
            unhold(state, connection, Hold.STORE_BUSY)

    def reads(self, commit: Commit) -> list[ReadPending]:
        """Return what is to be read for the Sessions that wait for a commit."""
        return [
            ReadPending(session, asked, session.page_after)
            for session, asked in commit.reading
            if isinstance(session, Session) and session.page is asked
        ]

    def release(self) -> None:
        """Send the acknowledgements that have nothing more to wait for although no commit was done."""
        journal = self.state.journal
        if journal is not None and journal.released:
            released, journal.released = journal.released, {}
            for connection in released:
                connection.release()
            self._resume(released)

    def take_page(self, effect: ReadPending, page: Page, now: float) -> None:
        """The store was read."""
        take_page(self.state, effect.session, effect.asked, page, now)

    def take_swept(self, swept: Iterable[SweptDelivery]) -> None:
        """The store has forgotten pending deliveries that expired."""
        for delivery in swept:
            take_swept(self.state, delivery)

    # Network Connections.

    def open(
        self,
        *,
        listener: str,
        tenant: str,
        peer_address: str,
        certificate: ClientCertificate | None,
        now: float,
    ) -> ServedConnection:
        """A peer connected, and its TLS handshake, if any, is done."""
        state = self.state
        connection = ServedConnection(
            listener=listener,
            tenant_name=tenant,
            peer_address=peer_address,
            certificate=certificate,
            connect_packet_size_maximum=state.limits.connect_packet_size_maximum,
            dirty=state.dirty,
            stats=state.stats,
            now=now,
        )
        state.stats.connections_opened += 1
        due = now + state.limits.connect_timeout_s
        connection.timer = state.timers.add(due, partial(watch_connect, state), connection)
        return connection

    def receive(self, connection: ServedConnection, data: bytes, now: float) -> None:
        """Bytes came; what they complete is handled at once, up to the budget of a turn."""
        self.state.stats.bytes_received += len(data)
        connection.receive(data, now=now)
        if not connection.hold:
            self.proceed(connection, now)

    def proceed(self, connection: ServedConnection, now: float) -> None:
        """Handle buffered packets, up to the budget of a turn, and send what waits its turn."""
        state = self.state
        if connection.state is ConnectionState.CLOSED:
            return
        is_held = False
        if held := connection.hold:
            is_held = True
            # Reading stays paused. Where another reason stands, whoever takes that away starts again.
            connection.hold = held & ~Hold.BUDGET
            if held is not Hold.BUDGET:
                return
        budget = state.limits.frame_budget
        packets: Sequence[ControlPacket]
        if postponed := connection.postponed:
            packets, connection.postponed = postponed, ()
        else:
            packets = connection.events(budget)
            state.stats.packets_received += len(packets)
            if connection.tap is not None:
                connection.tap.received(packets, connection.version)
        try:
            self._handle(connection, packets, now)
            if connection.unacknowledged >= state.limits.receive_maximum:
                hold(state, connection, Hold.ACKNOWLEDGEMENTS)
            if (
                state.limits.publish_rate_maximum is not None
                and connection.state is ConnectionState.CONNECTED
            ):
                handled = packets[: len(packets) - len(connection.postponed)]
                charge(state, connection, sum(type(packet) is Publish for packet in handled), now)
            if connection.postponed:
                return
            if connection.failure is not None:
                raise connection.failure
        except PeerError as error:
            self._fail(connection, error, now)
            return
        if connection.state is not ConnectionState.CONNECTED:
            return
        has_backlog = bool(connection.backlog) and send_backlog(state, connection, now)
        if postponed or len(packets) == budget:
            # More may be buffered: nothing is read before that is handled.
            state.stats.frame_budgets_spent += 1
            hold(state, connection, Hold.BUDGET)
            state.effects.append(Proceed(connection))
            return
        if is_held and not connection.hold:
            state.effects.append(ResumeReading(connection))
        if has_backlog:
            state.effects.append(Proceed(connection))

    def authenticated(
        self, connection: ServedConnection, answer: Principal | AccessRefusedError, now: float
    ) -> None:
        """The Authenticator has answered."""
        handle_authenticated(self.state, connection, answer, now)

    def authenticated_again(
        self, connection: ServedConnection, answer: Principal | AccessRefusedError, now: float
    ) -> None:
        """The Authenticator was asked once more about a connected Client, and has answered."""
        handle_authenticated_again(self.state, connection, answer, now)

    def method_answered(
        self, connection: ServedConnection, answer: Continue | Success | AccessRefusedError, now: float
    ) -> None:
        """A method of enhanced authentication has answered."""
        handle_method_answer(self.state, connection, answer, now)

    def decided(self, effect: Authorize, answers: Mapping[Question, bool], now: float) -> None:
        """Who decides has answered; questions that are missing in `answers` have no answer."""
        handle_decided(effect, answers, now)

    def set_writable(self, connection: ServedConnection, is_writable: bool, now: float) -> None:
        """The transport's buffer is full, or has room again."""
        connection.congested_since = None if is_writable else now
        session = connection.session
        if session is not None:
            session.is_writable = is_writable
        if not is_writable:
            # Whoever takes no answers is asked no questions: they would pile up here.
            hold(self.state, connection, Hold.CONGESTED)
            self.state.stats.write_buffers_filled += 1
            limit_s = self.state.limits.slow_consumer_s
            self.state.timers.add(now + limit_s, partial(self._watch_congestion, now), connection)
            return
        unhold(self.state, connection, Hold.CONGESTED)
        if session is not None:
            session.pump(now)
            if connection.backlog and send_backlog(self.state, connection, now):
                self.state.effects.append(Proceed(connection))

    def lost(self, connection: ServedConnection, detail: str, now: float) -> None:
        """The Network Connection is gone; nothing can be written any more."""
        connection.outgoing.clear()
        end_connection(self.state, connection, ReasonCode.UNSPECIFIED_ERROR, detail, now)

    def close(self, connection: ServedConnection, reason_code: ReasonCode, detail: str, now: float) -> None:
        """End a connection from our side, telling the peer why."""
        close_connection(self.state, connection, reason_code, detail, now)

    # Services inside the process.

    def open_mailbox(self, name: str, wake: Callable[[], None]) -> Mailbox:
        """Make the place where a service receives; `wake` tells it that a batch is there."""
        return Mailbox(
            name, high=self.state.limits.mailbox_messages_high, filled=self.state.filled, wake=wake
        )

    def subscribe_mailbox(self, tenant: str, mailbox: Mailbox, topic_filter: TopicFilter) -> None:
        """Let a service receive what matches the filter, from now on."""
        of = self.state.tenant(tenant)
        of.services.add(Subscription(topic_filter, 2), mailbox)
        of.changed()

    def close_mailbox(self, tenant: str, mailbox: Mailbox, topic_filters: list[TopicFilter]) -> None:
        """The service receives nothing more."""
        of = self.state.tenant(tenant)
        for topic_filter in topic_filters:
            of.services.remove(topic_filter, mailbox)
        of.changed()
        self.take_mailbox(mailbox)

    def take_mailbox(self, mailbox: Mailbox) -> list[ApplicationMessage]:
        """Return a service's batch, and read again from publishers that were held back for it."""
        messages = mailbox.take()
        drained(self.state, mailbox)
        return messages

    def publish(self, tenant: str, message: ApplicationMessage, now: float) -> None:
        """Route a service's message."""
        publish_message(self.state, self.state.tenant(tenant), message, now)

    # Time.

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self.state.timers.advance(now)

    def next_timer(self) -> float | None:
        """Return when `handle_timer` has something to do, None for never."""
        return self.state.timers.next_due()

    # Private.

    def _resume(self, released: Iterable[Acknowledging]) -> None:
        for connection in released:
            if isinstance(connection, ServedConnection) and connection.hold and not connection.unacknowledged:
                unhold(self.state, connection, Hold.ACKNOWLEDGEMENTS)

    def _handle(self, connection: ServedConnection, packets: Sequence[ControlPacket], now: float) -> None:
        state = self.state
        session = connection.session
        if session is None:
            for packet in packets:
                self._handle_first(connection, packet, now)
            return
        tenant = state.tenants[session.tenant]
        try:
            for packet in packets:
                kind = type(packet)
                if kind is Publish:
                    state.stats.publishes_received += 1
                    handle_publish(state, tenant, connection, packet, now)  # type: ignore[arg-type]
                elif kind is PubAck:
                    session.handle_puback(packet.packet_id, now)  # type: ignore[union-attr]
                else:
                    HANDLERS[kind](state, tenant, connection, packet, now)
                    if connection.state is ConnectionState.CLOSED:
                        return
        except UndecidedError as undecided:
            postpone(state, connection, packets, packet, undecided.questions)

    def _handle_first(self, connection: ServedConnection, packet: ControlPacket, now: float) -> None:
        if isinstance(packet, Connect):
            handle_connect(self.state, connection, packet, now)
        elif isinstance(packet, Disconnect):
            end_connection(self.state, connection, packet.reason_code, "DISCONNECT before CONNACK", now)
        elif isinstance(packet, Auth):
            handle_auth(self.state, connection, packet)

    def _fail(self, connection: ServedConnection, error: PeerError, now: float) -> None:
        """The peer broke the protocol: tell it, where there are words for it, and close (v5 §4.13)."""
        self.state.stats.peer_errors += 1
        if isinstance(error, UnsupportedProtocolVersionError):
            connection.write_packet(ConnAck(False, error.reason_code))
        close_connection(self.state, connection, error.reason_code, str(error), now)

    def _watch_congestion(self, since: float, connection: ServedConnection, now: float) -> None:
        if connection.congested_since == since and connection.state is ConnectionState.CONNECTED:
            self.state.stats.slow_consumers_closed += 1
            self.close(connection, ReasonCode.QUOTA_EXCEEDED, "took nothing for too long", now)
