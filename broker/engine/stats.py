"""What the engine counts; plain integers that only rise.

Knows: the names.
Does not know: how they are exported.
"""

from ..protocol.reason_codes import ReasonCode
from ..session.stats import SessionStats


class Stats:
    """Counts since the start; `sessions` has those of the Session room."""

    __slots__ = (
        "authentication_timeouts",
        "bytes_received",
        "bytes_sent",
        "closed",
        "connections_opened",
        "connections_rejected",
        "connections_rejected_by_source",
        "connects_accepted",
        "connects_refused",
        "connects_rejected_by_rate",
        "control_packets_sent",
        "frame_budgets_spent",
        "handshake_holds",
        "handshakes_failed",
        "keep_alive_timeouts",
        "mailbox_holds",
        "packets_received",
        "peer_errors",
        "proxy_headers_refused",
        "publish_rate_closes",
        "publish_rate_holds",
        "publishes_denied",
        "publishes_received",
        "publishes_sent",
        "receive_maximum_holds",
        "retained_refused",
        "route_cache_clears",
        "session_takeovers",
        "sessions",
        "sessions_expired",
        "slow_consumers_closed",
        "store_holds",
        "subscriptions_refused",
        "wills_published",
        "write_buffers_filled",
    )

    def __init__(self) -> None:
        self.authentication_timeouts = 0
        self.bytes_received = 0
        #: Bytes handed to the transports, before TLS.
        self.bytes_sent = 0
        #: Connections that ended, by the reason that was or would have been told.
        self.closed: dict[ReasonCode, int] = {}
        self.connections_opened = 0
        #: Connections closed unheard because there were too many.
        self.connections_rejected = 0
        #: The same because there were too many of one source address.
        self.connections_rejected_by_source = 0
        #: The same because too many came within a second.
        self.connects_rejected_by_rate = 0
        self.connects_accepted = 0
        self.connects_refused = 0
        #: Control Packets other than PUBLISH; `packets_sent` has all.
        self.control_packets_sent = 0
        #: Turns after which a connection still had packets to handle.
        self.frame_budgets_spent = 0
        #: How often a listener stopped accepting because too many handshakes were in progress.
        self.handshake_holds = 0
        #: TLS handshakes that failed or took too long, and PROXY headers that took too long.
        self.handshakes_failed = 0
        self.keep_alive_timeouts = 0
        #: Publishers not read from because a service had too many messages waiting.
        self.mailbox_holds = 0
        self.store_holds = 0
        self.packets_received = 0
        self.peer_errors = 0
        #: Connections closed because their PROXY header was none.
        self.proxy_headers_refused = 0
        #: Clients closed because they published too fast for too long.
        self.publish_rate_closes = 0
        #: How often a client was not read from because it published too fast.
        self.publish_rate_holds = 0
        self.publishes_denied = 0
        self.publishes_received = 0
        #: Deliveries handed to Sessions, one per receiver; `messages_sent` has those that went out.
        self.publishes_sent = 0
        #: 3.1.1 publishers not read from because too much of theirs was unacknowledged.
        self.receive_maximum_holds = 0
        self.retained_refused = 0
        self.route_cache_clears = 0
        self.session_takeovers = 0
        self.sessions_expired = 0
        self.slow_consumers_closed = 0
        #: Filters of SUBSCRIBE that were not granted, by the code of the SUBACK.
        self.subscriptions_refused: dict[ReasonCode, int] = {}
        self.wills_published = 0
        #: How often a peer did not take what was written for it.
        self.write_buffers_filled = 0
        self.sessions = SessionStats()

    @property
    def messages_sent(self) -> int:
        """PUBLISH packets sent, repetitions included."""
        return self.publishes_sent - self.sessions.unsent + self.sessions.sent_later

    @property
    def packets_sent(self) -> int:
        """Control Packets of all kinds sent."""
        return self.control_packets_sent + self.sessions.pubrels_sent + self.messages_sent


def count(counts: dict[ReasonCode, int], reason_code: ReasonCode) -> None:
    """Add one to the count of a reason."""
    counts[reason_code] = counts.get(reason_code, 0) + 1
