"""Deliveries that wait for their turn: in order, bounded, replaceable where the publisher says so.

Knows: the limits and what happens at them, which waiting message a later one may supersede.
Does not know: why they wait, packet ids, how they are stored.
Spec: v5 §4.6, §4.9; v3.1.1 §4.6.
"""

from collections import deque
from collections.abc import Callable

from msgspec import Struct

from ..protocol.packets import TopicName
from .message import Delivery
from .stats import SessionLimits, SessionStats


class Queued(Struct, gc=False):
    """A delivery that waits; `row` is 0 where no store knows it."""

    delivery: Delivery
    row: int = 0


class Pending:
    """The queue of one Session.

    `waiting` may be looked at, not changed. At a limit the newest is dropped and counted: what came
    first was promised first.
    """

    __slots__ = ("_limits", "_stats", "_superseding", "size_bytes", "waiting")

    def __init__(self, limits: SessionLimits, stats: SessionStats) -> None:
        self._limits = limits
        self._stats = stats
        self._superseding: dict[tuple[TopicName, bytes], Queued] = {}
        self.waiting: deque[Queued] = deque()
        self.size_bytes = 0

    def offer(self, delivery: Delivery, record: Callable[[Delivery, int], int]) -> None:
        """Queue a delivery, in the place of one that it supersedes or at the end, if there is room.

        `record(delivery, row)` stores it under a row, a new one for 0, and returns the row.
        """
        message = delivery.message
        key = None if message.supersede_key is None else (message.topic, message.supersede_key)
        if key is not None and (older := self._superseding.get(key)) is not None:
            self._stats.superseded += 1
            self.size_bytes += delivery.size_bytes() - older.delivery.size_bytes()
            older.delivery = delivery
            record(delivery, older.row)  # The row keeps its number, and with it its place.
            return
        limits = self._limits
        is_full = len(self.waiting) >= limits.pending_messages_maximum
        if is_full or self.size_bytes + delivery.size_bytes() > limits.pending_bytes_maximum:
            self._stats.dropped_pending_full += 1
            return
        queued = Queued(delivery, record(delivery, 0))
        self.put_back(queued)
        if key is not None:
            self._superseding[key] = queued

    def put_back(self, queued: Queued) -> None:
        """Queue what was promised before, whatever the limits say now."""
        self.waiting.append(queued)
        self.size_bytes += queued.delivery.size_bytes()

    def pop(self) -> Queued:
        """Take out the next; there is one."""
        queued = self.waiting.popleft()
        self._forget(queued)
        return queued

    def take(self, is_wanted: Callable[[Delivery], bool]) -> list[Queued]:
        """Take out those that are wanted; the others keep their order."""
        taken = []
        for _ in range(len(self.waiting)):
            queued = self.waiting.popleft()
            if is_wanted(queued.delivery):
                self._forget(queued)
                taken.append(queued)
            else:
                self.waiting.append(queued)
        return taken

    def _forget(self, queued: Queued) -> None:
        message = queued.delivery.message
        self.size_bytes -= queued.delivery.size_bytes()
        if message.supersede_key is not None:
            self._superseding.pop((message.topic, message.supersede_key), None)
