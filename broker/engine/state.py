"""The broker's state in memory, one value that the engine's handlers share.

Knows: tenants with their Sessions, Subscriptions and retained messages; what waits for the shell.
Does not know: what any packet does to it (the handlers).
Spec: design: isolation of tenants by construction.
"""

from collections.abc import Callable, Iterable

from ..access.ports import EnhancedAuthenticator
from ..protocol.connection import Connection
from ..protocol.packets import ClientId, TopicName
from ..routing.retained import RetainedIndex
from ..routing.tree import SubscriptionTree
from ..session.journal import Journal
from ..session.message import ApplicationMessage
from ..session.session import Session
from ..session.stats import SessionLimits
from ..settings import LimitSettings
from .connection import Audience, ServedConnection
from .effects import Effect
from .mailbox import Mailbox
from .stats import Stats
from .tap import Tap
from .timers import Timer, TimerWheel


class Tenant:
    """Everything of one tenant; nothing in here refers to another.

    `generation` rises with every change that may alter who gets a message or may publish one; routes
    and audiences of an older generation are made anew.
    """

    __slots__ = (
        "audiences",
        "expiries",
        "generation",
        "name",
        "retained",
        "retained_bytes",
        "services",
        "sessions",
        "statistics",
        "tree",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.sessions: dict[ClientId, Session] = {}
        self.tree: SubscriptionTree[Session] = SubscriptionTree()
        self.services: SubscriptionTree[Mailbox] = SubscriptionTree()
        self.retained: RetainedIndex[ApplicationMessage] = RetainedIndex()
        #: Payloads and topics of them all.
        self.retained_bytes = 0
        #: When retained messages expire, for those that do.
        self.expiries: dict[TopicName, Timer] = {}
        #: How many of the retained messages are statistics, which count towards no limit.
        self.statistics = 0
        self.generation = 1
        #: Of the present generation only, so they need not carry its number.
        self.audiences: dict[TopicName, Audience] = {}

    def changed(self) -> None:
        """Make every route and plan of this tenant out of date."""
        self.generation += 1
        self.audiences.clear()


class EngineState:
    """What the handlers read and write; the engine is the only owner.

    `dirty`: connections with frames to write. `filled`: mailboxes with a batch. `effects`: the rest,
    in order. `journal` is None where no store keeps anything.
    """

    __slots__ = (
        "connections",
        "dirty",
        "durable_sessions",
        "effects",
        "filled",
        "journal",
        "limits",
        "methods",
        "new_client_id",
        "reason_strings",
        "session_count",
        "session_limits",
        "session_timers",
        "stats",
        "stores_every_will",
        "taps",
        "tenants",
        "timers",
        "waiting",
        "waiting_for_store",
    )

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
        self.limits = limits
        #: Whether v5 Clients are told in words why.
        self.reason_strings = reason_strings
        #: Whether Wills of Sessions that end with their connection outlive the process, too.
        self.stores_every_will = stores_every_will
        #: Enhanced authentication, by what Clients name.
        self.methods = {method.method: method for method in methods}
        self.session_limits = SessionLimits(
            limits.in_flight_maximum, limits.pending_messages_maximum, limits.pending_bytes_maximum
        )
        self.journal = journal
        self.new_client_id = new_client_id
        self.stats = Stats()
        self.timers = TimerWheel(now=now)
        #: Of Sessions without a connection: when their Will is due, when they expire.
        self.session_timers: dict[Session, list[Timer]] = {}
        self.tenants: dict[str, Tenant] = {}
        #: Of the Clients that somebody follows, by tenant and ClientId.
        self.taps: dict[tuple[str, str], Tap] = {}
        self.connections = 0
        self.session_count = 0
        #: Those that the store keeps, by number.
        self.durable_sessions: dict[int, Session] = {}
        self.dirty: list[Connection] = []
        self.filled: list[Mailbox] = []
        #: Connections that are not read from until the mailbox is taken.
        self.waiting: dict[Mailbox, list[ServedConnection]] = {}
        #: Connections that are not read from until the store has taken what there is.
        self.waiting_for_store: list[ServedConnection] = []
        self.effects: list[Effect] = []

    def keep(self, session: Session) -> None:
        """Let a new Session be found."""
        self.tenant(session.tenant).sessions[session.client_id] = session
        self.session_count += 1
        if session.is_durable:
            self.durable_sessions[session.number] = session

    def tenant(self, name: str) -> Tenant:
        """Return the tenant, made on first use (names come from settings and certificates only)."""
        tenant = self.tenants.get(name)
        if tenant is None:
            tenant = self.tenants[name] = Tenant(name)
        return tenant
