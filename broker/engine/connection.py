"""A Network Connection as the engine serves it: protocol state, and who and what is behind it.

Knows: its principal, Session, tenant, cached routes, acknowledgements in order, what holds its reading.
Does not know: sockets; the shell hangs itself on `shell` and is opaque here.
Spec: v5 §4.6; v3.1.1 §4.6.
"""

import enum
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from msgspec import Struct

from ..access.ports import ConnectRequest, Continue, EnhancedAuthenticator, Success
from ..access.principal import ClientCertificate, Permissions, Principal
from ..protocol.connection import Connection, ConnectionState
from ..protocol.errors import LocalUsageError
from ..protocol.packets import Connect, ControlPacket, TopicFilter
from ..routing.plan import Group
from ..routing.tree import SharedGroup
from ..session.journal import Commit, Receipt
from ..session.message import Delivery
from ..session.session import Session
from .mailbox import Mailbox
from .stats import Stats
from .tap import Tap
from .timers import Timer

_PUBACK_HEADER: Final = 0x40


class Origin(Struct, frozen=True):
    """Who published a message; `is_will` where it was the Will, sent after the Client was gone."""

    client_id: str
    principal: Principal | None
    is_will: bool = False


class Audience(Struct, frozen=True):
    """Who gets the messages of one topic: Sessions in groups, shared Subscriptions, services.

    `no_local` are Sessions whose own messages need an Audience of their own (v5 [MQTT-3.8.3-3]).
    """

    groups: Sequence[Group[Session]]
    shared: Sequence[SharedGroup[Session]]
    mailboxes: Sequence[Mailbox]
    no_local: frozenset[Session]

    @property
    def is_empty(self) -> bool:
        """Whether nobody subscribes."""
        return not (self.groups or self.shared or self.mailboxes)


class Route(Struct, frozen=True, gc=False):
    """What one connection's messages on one topic meet; holds for one generation of its tenant.

    `is_plain`: publishing is allowed and only Sessions listen, each by its own Subscription.
    """

    generation: int
    may_publish: bool
    may_retain: bool
    is_plain: bool
    audience: Audience


class Exchange(Struct):
    """Where enhanced authentication stands (v5 §4.12).

    `proceed` is there while the Client has the next word, `is_over` while there is nothing to say; `data` is
    what CONNACK carries.
    """

    method: EnhancedAuthenticator
    request: ConnectRequest
    proceed: Callable[[bytes | None], Awaitable[Continue | Success]] | None = None
    is_over: bool = False
    data: bytes | None = None


class Hold(enum.Flag):
    """Why nothing is read from a connection at the moment."""

    NONE = 0
    AUTHENTICATING = enum.auto()
    BUDGET = enum.auto()
    MAILBOX_FULL = enum.auto()
    ACKNOWLEDGEMENTS = enum.auto()
    PUBLISH_RATE = enum.auto()
    CONGESTED = enum.auto()
    UNDECIDED = enum.auto()
    STORE_BUSY = enum.auto()


class Bucket(Struct, gc=False):
    """How many messages a connection may publish at once; negative where it owes time."""

    level: float
    filled_at: float
    overdrawn_since: float | None = None


class ServedConnection(Connection):
    """What the engine keeps per Network Connection."""

    __slots__ = (
        "_acknowledgements",
        "_dirty",
        "_stats",
        "_unacknowledged_publishes",
        "backlog",
        "certificate",
        "client_id",
        "congested_since",
        "connect",
        "exchange",
        "hold",
        "is_outdated",
        "listener",
        "opened_at",
        "origin",
        "peer_address",
        "postponed",
        "principal",
        "publish_bucket",
        "request",
        "routes",
        "session",
        "shell",
        "tap",
        "tenant_name",
        "timer",
    )

    def __init__(
        self,
        *,
        listener: str,
        tenant_name: str,
        peer_address: str,
        certificate: ClientCertificate | None,
        connect_packet_size_maximum: int,
        dirty: list[Connection],
        stats: Stats,
        now: float,
    ) -> None:
        super().__init__(connect_packet_size_maximum=connect_packet_size_maximum, now=now)
        self.listener = listener
        self.tenant_name = tenant_name
        self.peer_address = peer_address
        self.certificate = certificate
        self.opened_at = now
        self.client_id = ""
        #: The CONNECT that waits for its answer.
        self.connect: Connect | None = None
        #: Of Clients that named an authentication method only.
        self.exchange: Exchange | None = None
        self.principal: Principal | None = None
        #: What the Authenticator was asked, to ask again when the rules change.
        self.request: ConnectRequest | None = None
        self.origin: Origin | None = None
        self.session: Session | None = None
        self.routes: dict[bytes, Route] = {}
        self.publish_bucket = Bucket(0.0, now)
        #: Retained messages still to be sent, by Subscription, a slice per turn.
        self.backlog: OrderedDict[TopicFilter, Iterator[Delivery]] = OrderedDict()
        #: Packets that wait for a decision.
        self.postponed: Sequence[ControlPacket] = ()
        self.hold = Hold.NONE
        self.is_outdated = False
        #: Since when (seconds) the peer takes nothing, None while it does.
        self.congested_since: float | None = None
        #: When the CONNECT is due, later when the Client has been silent for too long.
        self.timer: Timer | None = None
        #: The transport's own object for this connection.
        self.shell: object | None = None
        #: Somebody follows the Client's packets.
        self.tap: Tap | None = None
        self._dirty = dirty
        self._stats = stats
        self._acknowledgements: deque[tuple[bytes, Commit | Receipt | None]] = deque()
        self._unacknowledged_publishes = 0

    def write(self, frame: bytes) -> None:
        """Put an encoded packet into `outgoing`."""
        if not self.outgoing:
            self._dirty.append(self)
        self.outgoing.append(frame)
        self._stats.control_packets_sent += 1

    def write_packet(self, packet: ControlPacket) -> bool:
        """Encode a packet into `outgoing`; False where it exceeds the peer's Maximum Packet Size."""
        was_empty = not self.outgoing
        if not self.send(packet):
            return False
        self._stats.control_packets_sent += 1
        if was_empty:
            self._dirty.append(self)
        return True

    def acknowledge(self, frame: bytes, condition: Commit | Receipt | None) -> None:
        """Send an acknowledgement, once `condition` is done and all earlier ones are gone.

        Acknowledgements leave in the order in which the packets came, so one that waits for nothing
        does not pass one that waits for the disk (v5 [MQTT-4.6.0-2] to [MQTT-4.6.0-4]).
        """
        if condition is not None and not condition.is_done:
            condition.hold(self)
        elif not self._acknowledgements:
            self.write(frame)
            return
        self._acknowledgements.append((frame, condition))
        self._unacknowledged_publishes += frame[0] == _PUBACK_HEADER

    def release(self) -> None:
        """Send the acknowledgements that wait no longer; after the end there is nobody to send to."""
        waiting = self._acknowledgements
        if self.state is ConnectionState.CLOSED:
            waiting.clear()
        while waiting and (waiting[0][1] is None or waiting[0][1].is_done):
            frame = waiting.popleft()[0]
            self._unacknowledged_publishes -= frame[0] == _PUBACK_HEADER
            self.write(frame)

    @property
    def attached(self) -> Session:
        """The Session, which every CONNECTED connection has."""
        if self.session is None:
            raise LocalUsageError("no Session before CONNACK")
        return self.session

    @property
    def permissions(self) -> Permissions:
        """What the principal may do; every CONNECTED connection has one."""
        if self.principal is None:
            raise LocalUsageError("no principal before CONNACK")
        return self.principal.permissions

    @property
    def unacknowledged(self) -> int:
        """How many acknowledgements of any kind are held back."""
        return len(self._acknowledgements)

    @property
    def unacknowledged_publishes(self) -> int:
        """How many QoS 1 messages of the Client have no PUBACK yet."""
        return self._unacknowledged_publishes
