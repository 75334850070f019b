"""Statistics as retained messages on `$SYS/broker/...`, for clients that look there.

Knows: the topics that mosquitto made known, and how its load averages are computed.
Does not know: what else is measured (metric_table), who subscribes.
Spec: mosquitto(8), "Broker status"; v5 §4.7.2; v3.1.1 §4.7.2.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from broker.api import Bus

from .figures import Figures
from .version import installed_version

_ROOT: Final = "$SYS/broker/"
_MINUTES: Final = (1, 5, 15)


class LoadAverages:
    """Exponential averages of counts, per minute, over one, five and fifteen minutes."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._averages: dict[str, float] = {}

    def update(self, counts: Mapping[str, int], elapsed_s: float) -> Mapping[str, float]:
        """Return topic (`NAME/1min` and so on) to average, `elapsed_s` after the last call."""
        for name, count in counts.items():
            rate = (count - self._counts.get(name, 0)) * 60 / elapsed_s
            for minutes in _MINUTES:
                topic = f"{name}/{minutes}min"
                weight = math.exp(-elapsed_s / (60 * minutes))
                self._averages[topic] = rate + weight * (self._averages.get(topic, 0.0) - rate)
        self._counts.update(counts)
        return self._averages


class StatisticsService:
    """Publishes what changed, at QoS 0: nobody should find a night of statistics waiting."""

    def __init__(self, bus: Bus, figures: Callable[[], Awaitable[Figures]], *, interval_s: float) -> None:
        self._bus = bus
        self._figures = figures
        self._interval_s = interval_s
        self._loads = LoadAverages()
        self._clients_maximum = 0
        self._published: dict[str, str] = {}

    async def run(self) -> None:
        """Publish now and at every interval, until cancelled."""
        started = time.monotonic()
        self._publish(await self._figures(), {}, uptime_s=0)
        last = started
        while True:
            await asyncio.sleep(self._interval_s)
            figures = await self._figures()
            now = time.monotonic()
            averages = self._loads.update(loads(figures), now - last)
            self._publish(figures, averages, uptime_s=now - started)
            last = now

    def _publish(self, figures: Figures, averages: Mapping[str, float], *, uptime_s: float) -> None:
        self._clients_maximum = max(self._clients_maximum, figures.census.sessions_connected)
        values = {
            "version": f"gnomon version {installed_version()}",
            "uptime": f"{uptime_s:.0f} seconds",
            "clients/maximum": str(self._clients_maximum),
            **{topic: str(count) for topic, count in (amounts(figures) | counts(figures)).items()},
            **{f"load/{topic}": f"{average:.2f}" for topic, average in averages.items()},
        }
        for topic, value in values.items():
            if self._published.get(topic) != value:
                self._published[topic] = value
                self._bus.publish(_ROOT + topic, value.encode(), is_retain=True)


def amounts(figures: Figures) -> dict[str, int]:
    """Return topic to amount of what there is at the moment."""
    census = figures.census
    return {
        "clients/connected": census.sessions_connected,
        "clients/disconnected": census.sessions - census.sessions_connected,
        "clients/total": census.sessions,
        "subscriptions/count": census.subscriptions,
        "retained messages/count": census.retained_messages,
        "store/messages/count": census.retained_messages + census.pending_messages,
    }


def counts(figures: Figures) -> dict[str, int]:
    """Return topic to count since the start."""
    stats = figures.stats
    return {
        "bytes/received": stats.bytes_received,
        "bytes/sent": stats.bytes_sent,
        "clients/expired": stats.sessions_expired,
        "messages/received": stats.packets_received,
        "messages/sent": stats.packets_sent,
        "publish/messages/dropped": stats.sessions.dropped,
        "publish/messages/received": stats.publishes_received,
        "publish/messages/sent": stats.messages_sent,
    }


def loads(figures: Figures) -> dict[str, int]:
    """Return name below `load/` to the count of which it is the average."""
    stats = figures.stats
    return {
        "bytes/received": stats.bytes_received,
        "bytes/sent": stats.bytes_sent,
        "connections": stats.connects_accepted,
        "messages/received": stats.packets_received,
        "messages/sent": stats.packets_sent,
        "publish/dropped": stats.sessions.dropped,
        "publish/received": stats.publishes_received,
        "publish/sent": stats.messages_sent,
        "sockets": stats.connections_opened,
    }
