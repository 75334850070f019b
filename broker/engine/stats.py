"""What the engine counts; plain integers that only rise.

Knows: the names.
Does not know: how they are exported.
"""

from ..session.session import SessionStats


class Stats:
    """Counts since the start; `sessions` has those of the Session room."""

    __slots__ = (
        "bytes_received",
        "connections_closed",
        "connections_opened",
        "connects_accepted",
        "connects_refused",
        "keep_alive_timeouts",
        "peer_errors",
        "publishes_denied",
        "publishes_dropped",
        "publishes_received",
        "publishes_sent",
        "retained_refused",
        "session_takeovers",
        "sessions",
        "wills_published",
    )

    def __init__(self) -> None:
        self.bytes_received = 0
        self.connects_accepted = 0
        self.connects_refused = 0
        self.connections_closed = 0
        self.connections_opened = 0
        self.keep_alive_timeouts = 0
        self.peer_errors = 0
        self.publishes_denied = 0
        #: QoS 0 messages not sent because the receiver's buffer was full, per receiver.
        self.publishes_dropped = 0
        self.publishes_received = 0
        #: Deliveries, one per receiver.
        self.publishes_sent = 0
        self.retained_refused = 0
        self.session_takeovers = 0
        self.wills_published = 0
        self.sessions = SessionStats()
