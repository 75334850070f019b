"""How long something takes, as quantiles over the last minutes.

Knows: counts in buckets that grow by a fifth, over the present window and the one before.
Does not know: what takes long, clocks.
Spec: none; a quantile is exact to a bucket, that is to 19 %.
"""

import math
from collections.abc import Sequence
from typing import Final

_LEAST_S: Final = 0.001
_PER_OCTAVE: Final = 4
_BUCKETS: Final = 30 * _PER_OCTAVE  # Up to twelve days.
_WINDOW_S: Final = 300.0


class Durations:
    """Durations in seconds; one is forgotten five to ten minutes after it was added."""

    def __init__(self) -> None:
        self._window = 0
        self._counts = [0] * _BUCKETS
        self._earlier = [0] * _BUCKETS

    def add(self, duration_s: float, *, now: float) -> None:
        """Count one that ended at `now` (seconds)."""
        self._turn(now)
        place = math.ceil(math.log2(max(duration_s, _LEAST_S) / _LEAST_S) * _PER_OCTAVE)
        self._counts[min(place, _BUCKETS - 1)] += 1

    def counts(self, *, now: float) -> list[int]:
        """Return the counts by bucket, which may be added up over several."""
        self._turn(now)
        return [one + other for one, other in zip(self._counts, self._earlier, strict=True)]

    def _turn(self, now: float) -> None:
        window = int(now // _WINDOW_S)
        if window != self._window:
            self._earlier = self._counts if window == self._window + 1 else [0] * _BUCKETS
            self._counts = [0] * _BUCKETS
            self._window = window


def quantile(counts: Sequence[int], part: float) -> float:
    """Return the upper end in seconds of the bucket below which `part` (0 to 1) of all are; 0 for none."""
    wanted = math.ceil(sum(counts) * part)
    seen = 0
    for place, count in enumerate(counts):
        seen += count
        if count and seen >= wanted:
            return _LEAST_S * math.exp2(place / _PER_OCTAVE)
    return 0.0
