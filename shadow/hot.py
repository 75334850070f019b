"""Hot documents: what the service knows of the store's rows without asking.

Knows: which rows are in use by unanswered requests, and which were used last.
Does not know: how rows are loaded, decided or stored.
Spec: none; a row is never forgotten while a request that saw or changed it waits for its commit.
"""

import enum
from collections import OrderedDict
from typing import Final

from .document import Stored
from .topics import ShadowKey


class Unknown(enum.Enum):
    """Only the store can tell what is under the key."""

    UNKNOWN = enum.auto()


UNKNOWN: Final = Unknown.UNKNOWN


class Slot:
    """One row in use.

    Attributes:
        key: the row's key.
        stored: the latest decided value, possibly ahead of the store; None when there is no row.
    """

    __slots__ = ("key", "stored", "users")

    def __init__(self, key: ShadowKey, stored: Stored | Unknown | None) -> None:
        self.key = key
        self.stored = stored
        self.users = 0


class HotDocuments:
    """Rows in use, bounded by the requests that use them, and up to `maximum` idle rows."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._in_use: dict[ShadowKey, Slot] = {}
        self._idle: OrderedDict[ShadowKey, Stored | None] = OrderedDict()

    def borrow(self, key: ShadowKey) -> Slot:
        """Return the row's one slot, which stays valid until it is given back as often as borrowed."""
        slot = self._in_use.get(key)
        if slot is None:
            slot = self._in_use[key] = Slot(key, self._idle.pop(key, UNKNOWN))
        slot.users += 1
        return slot

    def give_back(self, slot: Slot) -> None:
        """End one use; after the last one the row becomes idle, and the longest idle one may be forgotten."""
        slot.users -= 1
        if slot.users:
            return
        del self._in_use[slot.key]
        if slot.stored is not UNKNOWN:
            self._idle[slot.key] = slot.stored
            if len(self._idle) > self._maximum:
                self._idle.popitem(last=False)
