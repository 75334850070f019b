"""What of the broker's state must outlive the process: rows, and the changes of one commit.

Knows: the latest state of every key that one commit touches; rows that were put and dropped again are not
here.
Does not know: how and where it is stored, when the commit happens, who waits for it (journal).
Spec: v5 §4.1; v3.1.1 §4.1.

Times are seconds since the epoch on the process's steady clock (they never go back within a process).
Sessions and deliveries are numbered upwards and no number is used twice, so the order of the changes within
one commit does not matter, and the order of delivery is the order of the rows.
"""

from msgspec import Struct, field
from msgspec.structs import replace

from ..protocol.packets import ClientId, TopicFilter, TopicName
from ..protocol.subscription import Subscription
from .flow import Flow
from .message import ApplicationMessage


class Will(Struct, frozen=True):
    """The Will of the attached connection; `delay_s` after its end it is published (v5 §3.1.3.2.2)."""

    message: ApplicationMessage
    delay_s: int


class SessionRow(Struct, frozen=True, gc=False):
    """A Session exists; `disconnected_at` is None while a Network Connection is attached.

    `identity` is whose it is; None for a Client without identity. `dropped` counts the messages that it lost
    to its limits, their expiry, or its Client's.
    """

    number: int
    tenant: str
    client_id: ClientId
    expiry_interval: int
    disconnected_at: float | None
    identity: str | None
    dropped: int = 0


class DeliveryRow(Struct, gc=False):
    """A message for a Session. Pending: packet id 0 and no `flow`.

    `share` is the filter of the Shared Subscription (with `$share/`) that the Session was chosen from, None
    for an ordinary one. Values that come from a store may share one `message`.
    """

    row: int
    session: int
    message: ApplicationMessage
    qos: int
    is_retain: bool
    identifiers: tuple[int, ...]
    share: bytes | None = None
    packet_id: int = 0
    flow: Flow | None = None

    @property
    def size_bytes(self) -> int:
        """What the message weighs in a queue: payload and topic."""
        return self.message.size_bytes()


class Changes(Struct):
    """What one commit makes durable: the latest state by key, None where there is no such thing any more.

    `put` replaces rows of the same number; `moved` are rows of earlier commits that got a packet id or moved
    on in their flow; `dropped` are rows of earlier commits, and may be gone already. A dropped Session takes
    everything with it that it held, what this commit puts included, but its Will. `at` is the time of the
    commit.
    """

    at: float = 0.0
    sessions: dict[int, SessionRow | None] = field(default_factory=dict)
    subscriptions: dict[tuple[int, TopicFilter], Subscription | None] = field(default_factory=dict)
    put: dict[int, DeliveryRow] = field(default_factory=dict)
    moved: dict[int, tuple[int, Flow]] = field(default_factory=dict)
    dropped: list[int] = field(default_factory=list)
    inbound: dict[tuple[int, int], bool] = field(default_factory=dict)
    wills: dict[tuple[str, ClientId], Will | None] = field(default_factory=dict)
    retained: dict[tuple[str, TopicName], ApplicationMessage | None] = field(default_factory=dict)

    def add(self, later: "Changes") -> None:
        """Become what this and a later group are together; nobody else may use either of them meanwhile."""
        self.at = max(self.at, later.at)
        self.sessions |= later.sessions
        self.subscriptions |= later.subscriptions
        self.put |= later.put
        self.inbound |= later.inbound
        self.wills |= later.wills
        self.retained |= later.retained
        for row, (packet_id, flow) in later.moved.items():
            if row in self.put:
                self.put[row] = replace(self.put[row], packet_id=packet_id, flow=flow)
            else:
                self.moved[row] = (packet_id, flow)
        for row in later.dropped:
            self.put.pop(row, None)
            self.moved.pop(row, None)
        self.dropped += later.dropped

    def __bool__(self) -> bool:
        """Whether there is anything to store."""
        return bool(
            self.put
            or self.dropped
            or self.moved
            or self.inbound
            or self.sessions
            or self.subscriptions
            or self.wills
            or self.retained
        )
