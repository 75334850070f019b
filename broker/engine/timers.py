"""A wheel of coarse timers: one bucket per quarter of a second, no timer object per connection.

Knows: what is due when, to a quarter of a second, never early.
Does not know: what the entries mean, clocks.
"""

from collections.abc import Callable
from typing import Final, TypeVar

SubjectT = TypeVar("SubjectT")

_TICKS_PER_S: Final = 4


class TimerWheel:
    """Entries by the tick at which they are due.

    Entries are never taken out: whoever is called looks whether the matter still stands, and puts
    itself back where it has moved (Keep Alive moves with every packet, and costs nothing for it).
    """

    __slots__ = ("_buckets", "_tick")

    def __init__(self, *, now: float) -> None:
        self._tick = int(now * _TICKS_PER_S)
        self._buckets: dict[int, list[tuple[Callable[..., None], object]]] = {}

    def add(self, due: float, callback: Callable[[SubjectT, float], None], subject: SubjectT) -> None:
        """Call `callback(subject, now)` at `due` (seconds) or up to a quarter of a second later."""
        tick = max(int(due * _TICKS_PER_S) + 1, self._tick + 1)
        self._buckets.setdefault(tick, []).append((callback, subject))

    def advance(self, now: float) -> None:
        """Call everything that is due."""
        until = int(now * _TICKS_PER_S)
        if until <= self._tick:
            return
        if until - self._tick > len(self._buckets):
            due = sorted(tick for tick in self._buckets if tick <= until)
        else:
            due = [tick for tick in range(self._tick + 1, until + 1) if tick in self._buckets]
        self._tick = until
        for tick in due:
            for callback, subject in self._buckets.pop(tick):
                callback(subject, now)

    def next_due(self) -> float | None:
        """Return when `advance` has something to do (seconds), None for never."""
        return min(self._buckets) / _TICKS_PER_S if self._buckets else None
