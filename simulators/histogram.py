"""A latency histogram that is cheap to fill and merges over processes.

Knows: buckets of one part in thirty-two, so that a quantile is at most 3.2 % too high.
Does not know: what is measured.
Spec: none.

A kept library (hdrhistogram) does the same at twice the price a value.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

_SUBBUCKET_BITS: Final = 5
_SUBBUCKETS: Final = 1 << _SUBBUCKET_BITS


class Histogram:
    """Counts of nanoseconds by size, from `counts` as another one has them."""

    __slots__ = ("counts",)

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self.counts: Counter[int] = Counter(counts or {})

    def add(self, value_ns: int) -> None:
        """Count one value; a negative one is counted as 0."""
        shift = max(0, value_ns.bit_length() - _SUBBUCKET_BITS - 1)
        self.counts[(shift << _SUBBUCKET_BITS) + (value_ns >> shift) if value_ns > 0 else 0] += 1

    def merge(self, other: "Histogram") -> None:
        """Add the counts of another process."""
        self.counts.update(other.counts)

    def quantile_us(self, share: float) -> float | None:
        """Return the value in microseconds that `share` (0..1) of all values do not exceed, None of none."""
        rank = share * self.counts.total()
        for bucket in sorted(self.counts):
            rank -= self.counts[bucket]
            if rank <= 0:
                return _upper_edge(bucket) / 1000
        return None


def _upper_edge(bucket: int) -> int:
    """Return the largest value of a bucket: mantissas 32..63 follow each other, one shift after another."""
    if bucket < 2 * _SUBBUCKETS:
        return bucket
    shift = (bucket >> _SUBBUCKET_BITS) - 1
    mantissa = bucket - (shift << _SUBBUCKET_BITS)
    return ((mantissa + 1) << shift) - 1
