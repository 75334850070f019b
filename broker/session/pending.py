"""Deliveries that wait for their turn: in order, bounded, replaceable where the publisher says so.

Knows: the limits and what happens at them, which of them wait in memory and which in the store only, which
    waiting message a later one may supersede.
Does not know: why they wait, packet ids, how they are stored and read.
Spec: v5 §4.6, §4.9; v3.1.1 §4.6.

The front of the queue may be in memory, in `waiting`; what is behind it is in the store only, and comes in
pages.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from ..protocol.packets import TopicName
from .message import Delivery
from .stats import SessionLimits, SessionStats

#: What one page brings into memory, and what may be there before the rest waits in the store.
PAGE_MESSAGES: Final = 512
PAGE_BYTES: Final = 1024 * 1024
#: With so few left in memory the next page is asked for.
_LOW_MESSAGES: Final = PAGE_MESSAGES // 2
_LOW_BYTES: Final = PAGE_BYTES // 2


class Queued(Struct, gc=False):
    """A delivery that waits; `row` is 0 where no store knows it.

    `delivery` None: it waits in the store only, and is here because another may supersede it.
    """

    delivery: Delivery | None
    size_bytes: int
    row: int = 0


class Pending:
    """The queue of one Session.

    `waiting` and the counts may be looked at, not changed. At a limit the newest is dropped and counted: what
    came first was promised first. `stored_messages` wait in the store behind `waiting`, all with rows above
    `last_row`; it may be wrong by what expired there, until the last page puts it right, but not 0 in error.
    """

    __slots__ = (
        "_limits",
        "_since",
        "_stats",
        "_stored_bytes",
        "_superseding",
        "_waiting_bytes",
        "last_row",
        "page",
        "stored_messages",
        "waiting",
    )

    def __init__(self, limits: SessionLimits, stats: SessionStats) -> None:
        self._limits = limits
        self._stats = stats
        self._superseding: dict[tuple[TopicName, bytes], Queued] = {}
        self._waiting_bytes = 0
        self._stored_bytes = 0
        #: Messages and bytes that came to the store since the page was asked for.
        self._since = (0, 0)
        self.waiting: deque[Queued] = deque()
        self.stored_messages = 0
        self.last_row = 0
        #: Stands for the page that was asked for and is not here yet.
        self.page: object | None = None

    @property
    def messages(self) -> int:
        """How many wait."""
        return len(self.waiting) + self.stored_messages

    @property
    def size_bytes(self) -> int:
        """What they weigh: payloads and topics."""
        return self._waiting_bytes + self._stored_bytes

    @property
    def has_room(self) -> bool:
        """Whether more should wait in memory, where the store has it as well."""
        return len(self.waiting) < PAGE_MESSAGES and self._waiting_bytes < PAGE_BYTES

    @property
    def needs_page(self) -> bool:
        """Whether it is time to ask the store for more."""
        is_low = len(self.waiting) <= _LOW_MESSAGES and self._waiting_bytes <= _LOW_BYTES
        return bool(self.stored_messages) and self.page is None and is_low

    def offer(self, delivery: Delivery, record: Callable[[Delivery, int], int], *, in_memory: bool) -> bool:
        """Queue a delivery, in the place of one that it supersedes or at the end; False where it was dropped.

        `record(delivery, row)` stores it under a row, a new one for 0, and returns the row. Without
        `in_memory` it waits in the store only; as it does behind others that do.
        """
        message = delivery.message
        size_bytes = delivery.size_bytes()
        key = None if message.supersede_key is None else (message.topic, message.supersede_key)
        if key is not None and self._supersede(key, delivery, size_bytes, record):
            return True
        limits = self._limits
        if (
            self.messages >= limits.pending_messages_maximum
            or self.size_bytes + size_bytes > limits.pending_bytes_maximum
        ):
            self._stats.dropped_pending_full += 1
            return False
        queued = Queued(delivery, size_bytes, record(delivery, 0))
        if self.stored_messages or not in_memory:
            queued.delivery = None
            self.stored_messages += 1
            self._stored_bytes += size_bytes
            self._since = (self._since[0] + 1, self._since[1] + size_bytes)
        else:
            self._append(queued)
        if key is not None:
            # What expires may go from the store at any moment, and its place with it.
            if queued.delivery is not None or message.expires_at is None:
                self._superseding[key] = queued
            else:
                self._superseding.pop(key, None)
        return True

    def pop(self) -> tuple[Delivery, int]:
        """Take out the next in memory, and its row; there is one."""
        queued = self.waiting.popleft()
        return self._forget(queued), queued.row

    def take(self, is_wanted: Callable[[Delivery], bool]) -> list[tuple[Delivery, int]]:
        """Take those in memory that are wanted, with their rows; the others keep their order."""
        taken = []
        for _ in range(len(self.waiting)):
            queued = self.waiting.popleft()
            if queued.delivery is not None and is_wanted(queued.delivery):
                taken.append((self._forget(queued), queued.row))
            else:
                self.waiting.append(queued)
        return taken

    def leave_to_store(self) -> None:
        """Let go of what is in memory: the store has it, and gives it back in pages."""
        self.page = None
        if not self.waiting:
            return
        self.last_row = self.waiting[0].row - 1
        self.stored_messages += len(self.waiting)
        self._stored_bytes += self._waiting_bytes
        for queued in self.waiting:
            if queued.delivery is not None and queued.delivery.message.expires_at is not None:
                self._unlist(queued, queued.delivery)
            queued.delivery = None
        self.waiting.clear()
        self._waiting_bytes = 0

    def restore(self, messages: int, size_bytes: int) -> None:
        """Remember how much the store has of an earlier process."""
        self.stored_messages = messages
        self._stored_bytes = size_bytes

    def ask_for_page(self) -> None:
        """The next page is on its way."""
        self.page = object()
        self._since = (0, 0)

    def add_page(self, page: Sequence[tuple[Delivery, int]], *, is_last: bool) -> None:
        """Put what the store gave, with rows, at the end of what is in memory.

        `is_last`: nothing else was stored when it was read; only what came since is still there, and what of
        that was in the page is looked for in vain.
        """
        self.page = None
        for delivery, row in page:
            queued = Queued(delivery, delivery.size_bytes(), row)
            self._append(queued)
            self.stored_messages -= 1
            self._stored_bytes -= queued.size_bytes
            message = delivery.message
            if message.supersede_key is not None:
                key = (message.topic, message.supersede_key)
                listed = self._superseding.get(key)
                if listed is None or listed.row <= row:  # Else a newer one came meanwhile.
                    self._superseding[key] = queued
        if is_last:
            self.stored_messages, self._stored_bytes = self._since
        else:
            self.stored_messages = max(self.stored_messages, 1)
            self._stored_bytes = max(self._stored_bytes, 0)

    def swept(self, size_bytes: int) -> None:
        """The store has forgotten an expired delivery; the last that waits there is left to the page."""
        if self.stored_messages > 1:
            self.stored_messages -= 1
            self._stored_bytes = max(self._stored_bytes - size_bytes, 0)

    # Private.

    def _supersede(
        self,
        key: tuple[TopicName, bytes],
        delivery: Delivery,
        size_bytes: int,
        record: Callable[[Delivery, int], int],
    ) -> bool:
        """Replace an older delivery, if there is one; not while it may be on its way from the store."""
        older = self._superseding.get(key)
        if older is None or (older.delivery is None and self.page is not None):
            return False
        self._stats.superseded += 1
        if older.delivery is None:
            self._stored_bytes += size_bytes - older.size_bytes
        else:
            self._waiting_bytes += size_bytes - older.size_bytes
            older.delivery = delivery
        older.size_bytes = size_bytes
        record(delivery, older.row)  # The row keeps its number, and with it its place.
        return True

    def _append(self, queued: Queued) -> None:
        self.waiting.append(queued)
        self._waiting_bytes += queued.size_bytes
        self.last_row = queued.row

    def _forget(self, queued: Queued) -> Delivery:
        delivery = queued.delivery
        assert delivery is not None  # noqa: S101  (what is in memory has one)
        self._waiting_bytes -= queued.size_bytes
        self._unlist(queued, delivery)
        return delivery

    def _unlist(self, queued: Queued, delivery: Delivery) -> None:
        """Let nothing supersede it any more; a newer one of its key may be listed instead."""
        message = delivery.message
        if message.supersede_key is not None:
            key = (message.topic, message.supersede_key)
            if self._superseding.get(key) is queued:
                del self._superseding[key]
