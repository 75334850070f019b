"""A wheel of coarse timers: one bucket per quarter of a second, no timer of the loop per connection.

Knows: what is due when, to a quarter of a second, never early.
Does not know: what the entries mean, clocks.
"""

from collections.abc import Callable
from typing import Final, TypeVar

SubjectT = TypeVar("SubjectT")

_TICKS_PER_S: Final = 4


class Timer:
    """One entry of the wheel; the handle to take it out."""

    __slots__ = ("callback", "subject", "tick")

    def __init__(self, tick: int, callback: Callable[..., None], subject: object) -> None:
        self.tick = tick
        self.callback = callback
        self.subject = subject


class TimerWheel:
    """Entries by the tick at which they are due.

    Whoever is called looks whether the matter still stands, and puts itself back where it has moved
    (Keep Alive moves with every packet, and costs nothing for it). What can wait for hours is taken
    out when its matter is settled, so that peers who come and go leave nothing behind.
    """

    __slots__ = ("_buckets", "_tick")

    def __init__(self, *, now: float) -> None:
        self._tick = int(now * _TICKS_PER_S)
        self._buckets: dict[int, dict[Timer, None]] = {}

    def __len__(self) -> int:
        """Count the entries."""
        return sum(map(len, self._buckets.values()))

    def add(self, due: float, callback: Callable[[SubjectT, float], None], subject: SubjectT) -> Timer:
        """Call `callback(subject, now)` at `due` (seconds) or up to a quarter of a second later."""
        timer = Timer(max(int(due * _TICKS_PER_S) + 1, self._tick + 1), callback, subject)
        self._buckets.setdefault(timer.tick, {})[timer] = None
        return timer

    def cancel(self, timer: Timer) -> None:
        """Take an entry out; nothing happens where it was called already."""
        bucket = self._buckets.get(timer.tick)
        if bucket is not None:
            bucket.pop(timer, None)
            if not bucket:
                del self._buckets[timer.tick]

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
            # What was due with it may have cancelled a whole bucket.
            for timer in self._buckets.pop(tick, ()):
                timer.callback(timer.subject, now)

    def next_due(self) -> float | None:
        """Return when `advance` has something to do (seconds), None for never."""
        return min(self._buckets) / _TICKS_PER_S if self._buckets else None
