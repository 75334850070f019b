"""The port through which the broker's state becomes durable, and what a store gives back.

Knows: the shape of stored state, what a commit promises, that pending messages are read in pages.
Does not know: any way to store it.
Spec: v5 §4.1; v3.1.1 §4.1.
"""

from collections.abc import Awaitable, Sequence
from typing import Protocol

from msgspec import Struct, field

from ..protocol.packets import ClientId, TopicFilter, TopicName
from ..protocol.subscription import Subscription
from ..session.message import ApplicationMessage
from ..session.records import Changes, DeliveryRow, SessionRow, Will


class StoredSession(Struct):
    """A Session without its pending messages: of those only how many there are, and what they weigh.

    `in_flight` are the rows with a packet id, in the order of their numbers; `inbound` the packet ids of QoS
    2 messages that the Client has not released.
    """

    row: SessionRow
    subscriptions: dict[TopicFilter, Subscription] = field(default_factory=dict)
    in_flight: list[DeliveryRow] = field(default_factory=list)
    inbound: set[int] = field(default_factory=set)
    pending_messages: int = 0
    pending_bytes: int = 0


class Snapshot(Struct):
    """What a broker starts with.

    `next_row` and `next_session` are above every number that was ever committed. `at` is the latest
    `Changes.at`, 0 for a new store.
    """

    sessions: dict[int, StoredSession] = field(default_factory=dict)
    wills: dict[tuple[str, ClientId], Will] = field(default_factory=dict)
    retained: dict[tuple[str, TopicName], ApplicationMessage] = field(default_factory=dict)
    next_row: int = 1
    next_session: int = 1
    at: float = 0.0


class Page(Struct):
    """Pending deliveries of one Session in the order of their rows; `is_last` if no more are stored."""

    deliveries: list[DeliveryRow]
    is_last: bool


class SweptDelivery(Struct, gc=False):
    """A pending delivery that expired, and that the store has forgotten."""

    session: int
    row: int
    size_bytes: int


class SessionStore(Protocol):
    """Keeps the broker's state beyond the process. One commit at a time, in order."""

    async def load(self) -> Snapshot:
        """Return the state as of the last commit.

        Raises:
            StorageError: it cannot be read.
        """

    def commit(self, changes: Changes) -> Awaitable[None] | None:
        """Make the changes durable, all or none.

        Returns:
            None if they are durable already, otherwise what to wait for: it takes as long as it takes, also
            where the disk is full for hours.

        Raises:
            StorageError: the store is damaged; nothing that waits for it may go on.
        """

    async def read_pending(self, session: int, *, after: int, messages: int, size_bytes: int) -> Page:
        """Return pending deliveries with rows above `after`, as of the last commit before the call.

        Up to `messages`, and no more once they weigh `size_bytes`, but at least one if there is any.

        Raises:
            StorageError: they cannot be read.
        """

    async def sweep(self, now: float, *, messages: int) -> Sequence[SweptDelivery]:
        """Forget pending deliveries that have expired by `now`, and what dropped Sessions left behind.

        Returns:
            The deliveries. Up to `messages` of them are forgotten in one call, and as much of the rest.

        Raises:
            StorageError: it could not be done.
        """
