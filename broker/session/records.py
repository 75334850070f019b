"""What of the broker's state must outlive the process: one value per change, collected per turn.

Knows: the changes that a store applies, and the commit that makes them durable.
Does not know: how and where they are stored, when the commit happens.
Spec: v5 §4.1; design: persist, then acknowledge, then publish.

Times are seconds since the epoch on the process's steady clock (they never go back within a process).
Rows are numbered upwards, so their order is the order of delivery.
"""

from typing import Protocol

from msgspec import Struct

from ..protocol.packets import ClientId, TopicFilter, TopicName
from ..protocol.subscription import Subscription
from .flow import Flow
from .message import ApplicationMessage


class PutSession(Struct, frozen=True, gc=False):
    """A Session exists; `disconnected_at` is None while a Network Connection is attached.

    `identity` is whose it is; None for a Client without identity.
    """

    tenant: str
    client_id: ClientId
    expiry_interval: int
    disconnected_at: float | None
    identity: str | None


class DropSession(Struct, frozen=True, gc=False):
    """A Session ended, and everything that it held with it."""

    tenant: str
    client_id: ClientId


class PutSubscription(Struct, frozen=True, gc=False):
    """A Session subscribes; replaces the Subscription with the same filter."""

    tenant: str
    client_id: ClientId
    subscription: Subscription


class DropSubscription(Struct, frozen=True, gc=False):
    """A Session no longer subscribes."""

    tenant: str
    client_id: ClientId
    topic_filter: TopicFilter


class PutOutbound(Struct, frozen=True, gc=False):
    """A message is for a Session; packet id 0 while it is pending or where the id is no state (QoS 1)."""

    tenant: str
    client_id: ClientId
    row: int
    message: ApplicationMessage
    qos: int
    is_retain: bool
    identifiers: tuple[int, ...]
    packet_id: int = 0


class MoveOutbound(Struct, frozen=True, gc=False):
    """A QoS 2 delivery got its packet id, or moved on in its flow."""

    tenant: str
    client_id: ClientId
    row: int
    packet_id: int
    flow: Flow


class DropOutbound(Struct, frozen=True, gc=False):
    """A delivery is complete, or was given up."""

    tenant: str
    client_id: ClientId
    row: int


class PutInbound(Struct, frozen=True, gc=False):
    """A QoS 2 message with this packet id was accepted from the Client."""

    tenant: str
    client_id: ClientId
    packet_id: int


class DropInbound(Struct, frozen=True, gc=False):
    """The Client released the packet id of a QoS 2 message."""

    tenant: str
    client_id: ClientId
    packet_id: int


class PutWill(Struct, frozen=True, gc=False):
    """A connected Client has a Will; `delay_s` after the connection ended it is published."""

    tenant: str
    client_id: ClientId
    message: ApplicationMessage
    delay_s: int


class DropWill(Struct, frozen=True, gc=False):
    """The Will was published or is no longer wanted."""

    tenant: str
    client_id: ClientId


class PutRetained(Struct, frozen=True, gc=False):
    """A retained message replaces the one of its topic."""

    tenant: str
    message: ApplicationMessage


class DropRetained(Struct, frozen=True, gc=False):
    """A topic has no retained message any more."""

    tenant: str
    topic: TopicName


Operation = (
    PutSession
    | DropSession
    | PutSubscription
    | DropSubscription
    | PutOutbound
    | MoveOutbound
    | DropOutbound
    | PutInbound
    | DropInbound
    | PutWill
    | DropWill
    | PutRetained
    | DropRetained
)


class Acknowledging(Protocol):
    """A connection that holds back acknowledgements until a commit is done."""

    def release(self) -> None:
        """Send the acknowledgements that wait no longer."""


class Delivering(Protocol):
    """A Session whose QoS 2 deliveries wait for their packet ids to be durable."""

    def send_committed(self, packet_id: int, now: float) -> None:
        """Send the delivery with this packet id."""


class Commit:
    """One group of operations on its way to the store, and who waits for it."""

    __slots__ = ("acknowledging", "delivering", "is_done")

    def __init__(self) -> None:
        self.is_done = False
        self.acknowledging: list[Acknowledging] = []
        self.delivering: list[tuple[Delivering, int]] = []

    def finish(self, now: float) -> None:
        """The store has the group: let everyone who waits for it go on."""
        self.is_done = True
        for connection in self.acknowledging:
            connection.release()
        for session, packet_id in self.delivering:
            session.send_committed(packet_id, now)


class Journal:
    """Operations of the current loop turn, and the commit that will hold them.

    Rows: `next_row` numbers deliveries upwards over the life of the data.
    """

    __slots__ = ("commit", "next_row", "operations")

    def __init__(self, *, next_row: int = 1) -> None:
        self.commit = Commit()
        self.operations: list[Operation] = []
        self.next_row = next_row

    def append(self, operation: Operation) -> Commit:
        """Add a change; returns the commit that makes it durable."""
        self.operations.append(operation)
        return self.commit

    def row(self) -> int:
        """Return the next row number."""
        row = self.next_row
        self.next_row += 1
        return row

    def take(self) -> tuple[list[Operation], Commit]:
        """Close the current group and return it; the next change opens another."""
        group = (self.operations, self.commit)
        self.operations = []
        self.commit = Commit()
        return group
