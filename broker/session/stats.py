"""What Sessions count, and what bounds them.

Knows: the names.
Does not know: how counts are exported, where limits come from.
"""

from msgspec import Struct


class SessionStats:
    """Counts over all Sessions; only ever rise."""

    __slots__ = (
        "dropped_congested",
        "dropped_expired",
        "dropped_pending_full",
        "dropped_too_large",
        "pubrels_sent",
        "sent_later",
        "superseded",
        "unsent",
    )

    def __init__(self) -> None:
        self.dropped_congested = 0
        self.dropped_expired = 0
        self.dropped_pending_full = 0
        self.dropped_too_large = 0
        self.pubrels_sent = 0
        #: Pending deliveries that were sent after all, and what was sent again.
        self.sent_later = 0
        self.superseded = 0
        #: Deliveries that were not sent at once: pending, dropped or too large.
        self.unsent = 0

    @property
    def dropped(self) -> int:
        """Deliveries that their receivers never get."""
        never_sent = self.dropped_expired + self.dropped_pending_full + self.dropped_too_large
        return self.dropped_congested + never_sent


class SessionLimits(Struct, frozen=True):
    """What one Session may hold; messages and bytes of payload and topic."""

    in_flight_maximum: int
    pending_messages_maximum: int
    pending_bytes_maximum: int
