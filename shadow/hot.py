"""Hot rows: what the service knows of the store without asking.

Knows: which rows are in use by unanswered requests, and which were used last.
Does not know: how rows are loaded, decided or stored.
Spec: none; a row is never forgotten while a request that saw or changed it waits for its commit.

An idle document is kept as its JSON: to read it again takes 2 µs; its values would take eight times
the memory.
"""

import enum
from collections import OrderedDict
from typing import Final

from .document import Stored
from .journal import stored_of
from .records import Row
from .topics import ShadowKey

#: What an idle row takes beside its document, about, in bytes: objects, names, its place in the order.
_OVERHEAD: Final = 700


class Unknown(enum.Enum):
    """Only the store can tell what is under the key."""

    UNKNOWN = enum.auto()


UNKNOWN: Final = Unknown.UNKNOWN


class Slot:
    """One row in use.

    Attributes:
        key: the row's key.
        row: the latest decided row, possibly ahead of the store; None when there is none.
    """

    __slots__ = ("_of", "_stored", "key", "row", "users")

    def __init__(self, key: ShadowKey, row: Row | Unknown | None) -> None:
        self.key = key
        self.row = row
        self.users = 0
        self._stored: Stored | None = None
        self._of: Row | Unknown | None = None

    def stored(self) -> Stored | None:
        """What the row holds, read once; None when there is none.

        Raises:
            msgspec.MsgspecError: the row holds something else than a document.
        """
        row = self.row
        if row is None or row is UNKNOWN:
            return None
        if row is not self._of:
            self._of, self._stored = row, stored_of(row)
        return self._stored

    def change(self, row: Row, stored: Stored) -> None:
        """Set the row, and what it holds."""
        self.row = self._of = row
        self._stored = stored


class HotRows:
    """Rows in use, bounded by the requests that use them, and idle rows up to a number and a size."""

    def __init__(self, *, rows_maximum: int, bytes_maximum: int) -> None:
        self._rows_maximum = rows_maximum
        self._bytes_maximum = bytes_maximum
        self._in_use: dict[ShadowKey, Slot] = {}
        self._idle: OrderedDict[ShadowKey, Row | None] = OrderedDict()
        #: Of the idle rows, about.
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._in_use) + len(self._idle)

    def borrow(self, key: ShadowKey) -> Slot:
        """Return the row's one slot, which stays valid until it is given back as often as borrowed."""
        slot = self._in_use.get(key)
        if slot is None:
            row = self._idle.pop(key, UNKNOWN)
            if row is not UNKNOWN:
                self.size_bytes -= _size(row)
            slot = self._in_use[key] = Slot(key, row)
        slot.users += 1
        return slot

    def give_back(self, slot: Slot) -> None:
        """End one use; after the last one the row becomes idle, and the longest idle one may be forgotten."""
        slot.users -= 1
        if slot.users:
            return
        del self._in_use[slot.key]
        if slot.row is UNKNOWN:
            return
        self._idle[slot.key] = slot.row
        self.size_bytes += _size(slot.row)
        while len(self._idle) > self._rows_maximum or self.size_bytes > self._bytes_maximum:
            _, row = self._idle.popitem(last=False)
            self.size_bytes -= _size(row)


def _size(row: Row | None) -> int:
    return _OVERHEAD + (0 if row is None or row.document is None else len(row.document))
