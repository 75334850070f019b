"""The port through which the broker's state becomes durable, and what a store gives back.

Knows: the shape of stored state, what a commit promises.
Does not know: any way to store it.
Spec: v5 §4.1; v3.1.1 §4.1.
"""

from collections.abc import Awaitable, Sequence
from typing import Protocol

from msgspec import Struct, field

from ..protocol.packets import ClientId, TopicFilter, TopicName
from ..protocol.subscription import Subscription
from ..session.flow import Flow
from ..session.message import ApplicationMessage
from ..session.records import Operation
from ..session.session import Will


class StoredOutbound(Struct):
    """A delivery that was not complete; `flow` None where it had no packet id that is state."""

    message: ApplicationMessage
    qos: int
    is_retain: bool
    identifiers: tuple[int, ...]
    packet_id: int = 0
    flow: Flow | None = None


class StoredSession(Struct):
    """A Session; `disconnected_at` (epoch seconds) is None where a connection was attached."""

    expiry_interval: int
    disconnected_at: float | None
    identity: str | None
    subscriptions: dict[TopicFilter, Subscription] = field(default_factory=dict)
    outbound: dict[int, StoredOutbound] = field(default_factory=dict)
    inbound: set[int] = field(default_factory=set)


class Snapshot(Struct):
    """Everything that a store holds, by tenant and ClientId or topic."""

    sessions: dict[tuple[str, ClientId], StoredSession] = field(default_factory=dict)
    wills: dict[tuple[str, ClientId], Will] = field(default_factory=dict)
    retained: dict[tuple[str, TopicName], ApplicationMessage] = field(default_factory=dict)


class SessionStore(Protocol):
    """Keeps the broker's state beyond the process. One commit at a time, in order."""

    async def load(self) -> Snapshot:
        """Return the state as of the last commit.

        Raises:
            StorageError: it cannot be read.
        """

    def commit(self, operations: Sequence[Operation]) -> Awaitable[None] | None:
        """Make the operations durable, all or none.

        Returns:
            None if they are durable already, otherwise what to wait for.

        Raises:
            StorageError: they could not be made durable; nothing that waits for them may go on.
        """
