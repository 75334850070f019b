"""The figures of one server: what its rooms counted, and what there is at the moment.

Knows: where each room keeps its counts, that a census costs time.
Does not know: how figures are called outside (metric_table, statistics).
Spec: none.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import fields

from broker.api import Broker, Census, Stats
from shadow import ShadowStats

#: After a census none is taken for so many times its duration, so that nobody can keep us counting.
_CENSUS_REST: Final = 9


class Figures(Struct, frozen=True):
    """All figures of one moment; `started_at` in seconds since the epoch."""

    stats: Stats
    census: Census
    shadow: ShadowStats
    started_at: float


class Monitor:
    """Where the figures of one server are found."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        #: Of the shadow services, one per tenant.
        self.shadow: Final[list[ShadowStats]] = []
        self._started_at = time.time()
        self._census = Census()
        self._census_until = 0.0
        self._counting = asyncio.Lock()

    async def figures(self) -> Figures:
        """Return all figures; where counting takes long, they are as old as ten times that."""
        async with self._counting:
            began = time.monotonic()
            if began >= self._census_until:
                self._census = await self._broker.census()
                ended = time.monotonic()
                self._census_until = ended + _CENSUS_REST * (ended - began)
        return Figures(self._broker.stats, self._census, _sum(self.shadow), self._started_at)


def _sum(parts: Sequence[ShadowStats]) -> ShadowStats:
    return ShadowStats(
        **{field.name: sum(getattr(part, field.name) for part in parts) for field in fields(ShadowStats)}
    )
