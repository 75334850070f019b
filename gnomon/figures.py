"""The figures of one server: what its rooms counted, and what there is at the moment.

Knows: where each room keeps its counts, that a census costs time.
Does not know: how figures are called outside (metric_table, statistics).
Spec: none.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct, field
from msgspec.structs import fields

from broker.api import Broker, Census, Stats
from broker.foreign import BusStats, ForeignBus, OutboundStats
from shadow import ShadowService, ShadowStats, quantile
from storage import StorageStats

from .storage import Stores

#: After a census none is taken for so many times its duration, so that nobody can keep us counting.
_CENSUS_REST: Final = 9
_QUANTILES: Final = ("0.5", "0.99")


class Figures(Struct, frozen=True):
    """All figures of one moment; `started_at` in seconds since the epoch."""

    stats: Stats
    census: Census
    shadow: ShadowStats
    started_at: float
    bus: BusStats = field(default_factory=BusStats)
    outbound: OutboundStats = field(default_factory=OutboundStats)
    shadow_drift_age_s: float = 0.0
    shadow_converge_s: Mapping[str, float] = {}
    storage: StorageStats = field(default_factory=StorageStats)
    is_storage_failing: bool = False


class Monitor:
    """Where the figures of one server are found, or of services at a bus beside a foreign broker."""

    def __init__(self, broker: Broker | ForeignBus, stores: Stores) -> None:
        self._broker = broker if isinstance(broker, Broker) else None
        self._bus = broker if isinstance(broker, ForeignBus) else None
        self._stores = stores
        #: Of the shadow services, one per tenant.
        self.shadow: Final[list[ShadowStats]] = []
        #: The shadow services themselves, whose drifts are measured when somebody asks.
        self.drifting: Final[list[ShadowService]] = []
        self._started_at = time.time()
        self._census = Census()
        self._census_until = 0.0
        self._counting = asyncio.Lock()

    async def figures(self) -> Figures:
        """Return all figures; where counting takes long, they are as old as ten times that."""
        async with self._counting:
            began = time.monotonic()
            if self._broker is not None and began >= self._census_until:
                self._census = await self._broker.census()
                ended = time.monotonic()
                self._census_until = ended + _CENSUS_REST * (ended - began)
        return Figures(
            Stats() if self._broker is None else self._broker.stats,
            self._census,
            _sum(self.shadow),
            self._started_at,
            BusStats() if self._bus is None else self._bus.stats,
            OutboundStats() if self._bus is None else self._bus.outbound_stats,
            max((service.drift_age_s() for service in self.drifting), default=0.0),
            _quantiles([service.convergence() for service in self.drifting]),
            self._stores.stats,
            self._stores.health.failing_since is not None,
        )


def _quantiles(parts: Sequence[Sequence[int]]) -> Mapping[str, float]:
    counts = [sum(bucket) for bucket in zip(*parts, strict=True)]
    return {name: quantile(counts, float(name)) for name in _QUANTILES}


def _sum(parts: Sequence[ShadowStats]) -> ShadowStats:
    return ShadowStats(
        **{field.name: sum(getattr(part, field.name) for part in parts) for field in fields(ShadowStats)}
    )
