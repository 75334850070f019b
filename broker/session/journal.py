"""Changes on their way to the store, and who waits until they are there.

Knows: the changes since the last commit began, what is dropped before it was ever stored, who waits.
Does not know: how they are stored, when the commit happens.
Spec: v5 §4.1, §4.3; design: persist, then acknowledge, then publish.

A delivery that its Client acknowledges before the commit took it is never written: then the acknowledgement
does for the publisher what the commit would have done.
"""

from typing import Final, Protocol

from ..protocol.packets import ClientId, TopicFilter, TopicName
from ..protocol.subscription import Subscription
from .flow import Flow
from .message import ApplicationMessage, Delivery
from .records import Changes, DeliveryRow, SessionRow, Will

#: What a change weighs besides its message, in bytes; about what it takes in memory.
_WEIGHT: Final = 256


class Acknowledging(Protocol):
    """A connection that holds back acknowledgements until a commit is done."""

    def release(self) -> None:
        """Send the acknowledgements that wait no longer."""


class Delivering(Protocol):
    """A Session whose QoS 2 deliveries wait for their packet ids to be durable."""

    def send_committed(self, packet_id: int, now: float) -> None:
        """Send the delivery with this packet id."""


class Reading(Protocol):
    """A Session that wants to have what waits for it in the store."""

    @property
    def page(self) -> object | None:
        """Stands for what it asked for, None where it wants nothing any more."""


class Commit:
    """One group of changes on its way to the store, and who waits for it."""

    __slots__ = ("acknowledging", "delivering", "is_done", "reading", "size_bytes")

    def __init__(self) -> None:
        self.is_done = False
        #: What its changes weigh.
        self.size_bytes = 0
        #: Each once, in order.
        self.acknowledging: dict[Acknowledging, None] = {}
        self.delivering: list[tuple[Delivering, int]] = []
        #: With what each of them asked for.
        self.reading: list[tuple[Reading, object]] = []

    def hold(self, connection: Acknowledging) -> None:
        """Let `connection` be released as soon as it is done."""
        self.acknowledging[connection] = None

    def finish(self, now: float) -> None:
        """The store has the group: let everyone who waits for it go on."""
        self.is_done = True
        for connection in self.acknowledging:
            connection.release()
        for session, packet_id in self.delivering:
            session.send_committed(packet_id, now)


class Receipt:
    """What one acknowledgement waits for: `open_changes` that are neither durable nor without object."""

    __slots__ = ("_commit", "connection", "open_changes")

    def __init__(self, commit: Commit) -> None:
        self._commit = commit
        self.open_changes = 0
        self.connection: Acknowledging | None = None

    @property
    def is_done(self) -> bool:
        """Whether the acknowledgement may be sent."""
        return not self.open_changes or self._commit.is_done

    def hold(self, connection: Acknowledging) -> None:
        """Let `connection` be released as soon as it is done."""
        self.connection = connection
        self._commit.hold(connection)


class Journal:
    """The changes since the last commit began, and the commit that will hold them.

    `is_urgent`: somebody waits for the commit. `size_bytes`: what the changes weigh; `taken_bytes`: what
    those weigh that were taken and are not durable. `released`: connections
    whose acknowledgements wait no longer, without a commit.
    """

    __slots__ = (
        "_next_row",
        "_next_session",
        "_puts",
        "_receipt",
        "_receipts",
        "_replacing",
        "_taken",
        "changes",
        "commit",
        "is_urgent",
        "released",
        "size_bytes",
        "taken_bytes",
    )

    def __init__(self) -> None:
        self.changes = Changes()
        self.commit = Commit()
        self.is_urgent = False
        self.size_bytes = 0
        self.taken_bytes = 0
        self.released: dict[Acknowledging, None] = {}
        self._puts = self.changes.put
        self._next_row = 1
        self._next_session = 1
        self._receipt: Receipt | None = None
        #: By row of `put`: the receipt that waits for it; the rows that replace stored ones.
        self._receipts: dict[int, Receipt] = {}
        self._replacing: set[int] = set()
        #: On its way to the store, or there.
        self._taken: Commit | None = None

    def __bool__(self) -> bool:
        """Whether there is anything to commit, or anybody who waits for a commit."""
        return bool(self.changes or self.commit.acknowledging or self.commit.reading)

    def continue_from(self, *, next_row: int, next_session: int) -> None:
        """Number rows and Sessions from here on: the store has had the numbers below."""
        self._next_row = next_row
        self._next_session = next_session

    def session_number(self) -> int:
        """Return a number for a new Session."""
        number = self._next_session
        self._next_session += 1
        return number

    def take(self, now: float) -> tuple[Changes, Commit]:
        """Close the present group and return it; the next change opens another."""
        group = (self.changes, self.commit)
        self.changes.at = now
        self._taken = self.commit
        self._taken.size_bytes = self.size_bytes
        self.taken_bytes += self.size_bytes
        self.size_bytes = 0
        self.changes = Changes()
        self.commit = Commit()
        self.is_urgent = False
        self._puts = self.changes.put
        self._receipts = {}
        self._replacing = set()
        return group

    # Who waits.

    def open_receipt(self) -> None:
        """Gather what the acknowledgement of the message that comes now must wait for."""
        self._receipt = Receipt(self.commit)

    def close_receipt(self) -> Receipt | None:
        """Return what was gathered, None where there is nothing to wait for."""
        receipt = self._receipt
        self._receipt = None
        if receipt is None or not receipt.open_changes:
            return None
        self.is_urgent = True
        return receipt

    def awaited(self) -> Commit:
        """Return the commit of a change that was made just now; somebody will wait for it."""
        self.is_urgent = True
        return self.commit

    def latest(self) -> Commit | None:
        """Return the commit that makes everything up to now durable, None where it is."""
        if self.changes:
            return self.awaited()
        taken = self._taken
        return None if taken is None or taken.is_done else taken

    def settle(self, commit: Commit) -> None:
        """A commit that was taken is done."""
        self.taken_bytes -= commit.size_bytes

    def read_after_commit(self, session: Reading) -> None:
        """Let a Session read what waits for it in the store, once everything up to now is there."""
        self.is_urgent = True
        self.commit.reading.append((session, session.page))

    # Deliveries.

    def put_delivery(
        self, session: int, delivery: Delivery, row: int = 0, packet_id: int = 0, flow: Flow | None = None
    ) -> int:
        """Store a delivery under a row, a new one for 0; returns the row."""
        if row:
            if row not in self._puts:
                self._replacing.add(row)
        else:
            row = self._next_row
            self._next_row += 1
        message = delivery.message
        self._puts[row] = DeliveryRow(
            row,
            session,
            message,
            delivery.qos,
            delivery.is_retain,
            delivery.identifiers,
            delivery.share_filter,
            packet_id,
            flow,
        )
        self.size_bytes += len(message.payload) + _WEIGHT
        receipt = self._receipt
        if receipt is not None:
            receipt.open_changes += 1
            self._receipts[row] = receipt
        return row

    def move_delivery(self, row: int, packet_id: int, flow: Flow) -> None:
        """A delivery got its packet id, or moved on in its flow."""
        put = self._puts.get(row)
        if put is None:
            self.changes.moved[row] = (packet_id, flow)
            self.size_bytes += _WEIGHT
        else:
            put.packet_id = packet_id
            put.flow = flow

    def drop_delivery(self, row: int) -> None:
        """A delivery is complete, or was given up."""
        put = self._puts.pop(row, None)
        if put is None:
            self.changes.moved.pop(row, None)
            self.changes.dropped.append(row)
            return
        self.size_bytes -= len(put.message.payload) + _WEIGHT
        if self._replacing and row in self._replacing:
            self._replacing.discard(row)
            self.changes.dropped.append(row)
        receipt = self._receipts.pop(row, None)
        if receipt is not None:
            receipt.open_changes -= 1
            if not receipt.open_changes and receipt.connection is not None:
                self.released[receipt.connection] = None

    # Everything else.

    def put_session(self, row: SessionRow) -> None:
        """A Session began, or changed."""
        self.changes.sessions[row.number] = row
        self.size_bytes += _WEIGHT

    def drop_session(self, number: int) -> None:
        """A Session ended, and everything that it held with it."""
        self.changes.sessions[number] = None
        self.size_bytes += _WEIGHT

    def put_subscription(self, session: int, subscription: Subscription) -> None:
        """A Session subscribes; replaces the Subscription with the same filter."""
        self.changes.subscriptions[session, subscription.topic_filter] = subscription
        self.size_bytes += _WEIGHT

    def drop_subscription(self, session: int, topic_filter: TopicFilter) -> None:
        """A Session no longer subscribes."""
        self.changes.subscriptions[session, topic_filter] = None
        self.size_bytes += _WEIGHT

    def put_inbound(self, session: int, packet_id: int) -> Commit:
        """A QoS 2 message with this packet id was accepted from the Client."""
        return self._change_inbound(session, packet_id, True)

    def drop_inbound(self, session: int, packet_id: int) -> Commit:
        """The Client released the packet id of a QoS 2 message."""
        return self._change_inbound(session, packet_id, False)

    def put_will(self, tenant: str, client_id: ClientId, will: Will) -> None:
        """A connected Client has a Will."""
        self.changes.wills[tenant, client_id] = will
        self.size_bytes += will.message.size_bytes() + _WEIGHT

    def drop_will(self, tenant: str, client_id: ClientId) -> None:
        """The Will was published, or is no longer wanted."""
        self.changes.wills[tenant, client_id] = None
        self.size_bytes += _WEIGHT

    def put_retained(self, tenant: str, message: ApplicationMessage) -> None:
        """A retained message replaces the one of its topic."""
        self.changes.retained[tenant, message.topic] = message
        self._count(message.size_bytes())

    def drop_retained(self, tenant: str, topic: TopicName) -> None:
        """A topic has no retained message any more."""
        self.changes.retained[tenant, topic] = None
        self._count(0)

    # Private.

    def _change_inbound(self, session: int, packet_id: int, is_held: bool) -> Commit:
        self.changes.inbound[session, packet_id] = is_held
        self._count(0)
        return self.awaited()

    def _count(self, size_bytes: int) -> None:
        """Count a change that is written whatever comes."""
        self.size_bytes += size_bytes + _WEIGHT
        if self._receipt is not None:
            self._receipt.open_changes += 1
