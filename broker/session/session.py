"""One Session: what outlives a Network Connection.

Knows: whose it is, Subscriptions by filter, packet ids from the Client, the Will, its expiry.
Does not know: how messages reach the Client (outbound), routing, sockets, clocks, how it is stored.
Spec: v5 §4.1, §4.3; v3.1.1 §4.1, §4.3.
"""

from collections.abc import Callable
from typing import Final

from ..protocol.connection import Connection
from ..protocol.packets import ClientId, TopicFilter, TopicName
from ..protocol.reason_codes import ReasonCode
from ..protocol.subscription import Subscription
from .journal import Commit, Journal
from .outbound import Outbox
from .records import SessionRow, Will
from .stats import SessionLimits, SessionStats

#: v5 §3.1.2.11.2: the Session does not expire.
NEVER_EXPIRES: Final = 0xFFFFFFFF


class Session(Outbox):
    """Session State of one ClientId in one tenant; the engine creates, attaches, feeds and ends it."""

    __slots__ = (
        "expiry_interval",
        "identity",
        "inbound",
        "inbound_commit",
        "may_receive",
        "permissions",
        "subscriptions",
        "will",
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
        super().__init__(
            tenant, client_id, limits=limits, stats=stats, dirty=dirty, journal=journal, number=number
        )
        #: Whose Session it is; nobody else may attach to it. None: a Client without identity.
        self.identity: str | None = None
        #: What it may do, as it was asked last; None after a restart.
        self.permissions: object | None = None
        self.expiry_interval = 0
        self.subscriptions: dict[TopicFilter, Subscription] = {}
        self.will: Will | None = None
        #: Asked per topic; None after a restart, until the Client is back and has been asked who it is.
        self.may_receive: Callable[[TopicName], bool] | None = None
        #: Packet ids of QoS 2 messages that the Client has not released yet (v5 §4.3.3).
        self.inbound: set[int] = set()
        #: Of the last change to them. The Client may ask again before it is done, on another connection.
        self.inbound_commit: Commit | None = None

    def has_expired(self, now: float) -> bool:
        """Whether the Session Expiry Interval has passed since the connection ended (v5 §3.1.2.11.2)."""
        if self.disconnected_at is None or self.expiry_interval == NEVER_EXPIRES:
            return False
        return now >= self.disconnected_at + self.expiry_interval

    def store(self) -> None:
        """Tell the store how the Session stands, where one keeps it."""
        if self._journal is not None:
            self._journal.put_session(
                SessionRow(
                    self.number,
                    self.tenant,
                    self.client_id,
                    self.expiry_interval,
                    self.disconnected_at,
                    self.identity,
                    self.dropped,
                )
            )

    def drop_forbidden(self) -> None:
        """Forget pending deliveries that the Client may not receive any more."""
        may_receive = self.may_receive
        if may_receive is not None:
            self.drop_pending(lambda delivery: not may_receive(delivery.message.topic))

    def accept_inbound(self, packet_id: int) -> Commit | None:
        """Remember the packet id of a QoS 2 message until it is released (v5 §4.3.3 method A).

        Returns the commit that the PUBREC must wait for, None where there is no store.
        """
        self.inbound.add(packet_id)
        if self._journal is not None:
            self.inbound_commit = self._journal.put_inbound(self.number, packet_id)
        return self.inbound_commit

    def release_inbound(self, packet_id: int) -> tuple[ReasonCode, Commit | None]:
        """Forget the packet id.

        Returns:
            The code of the PUBCOMP (v5 §3.7.2.1), and the commit that it must wait for: the Client may
            use the id for another message then, which must not be taken for this one after a crash.
        """
        if packet_id not in self.inbound:
            return ReasonCode.PACKET_IDENTIFIER_NOT_FOUND, self.inbound_commit
        self.inbound.discard(packet_id)
        if self._journal is not None:
            self.inbound_commit = self._journal.drop_inbound(self.number, packet_id)
        return ReasonCode.SUCCESS, self.inbound_commit
