"""Everything that watches one server: figures, `$SYS`, HTTP, the service manager.

Knows: which watchers the settings ask for, and when each is told what.
Does not know: any figure.
Spec: none.
"""

import asyncio
from typing import TYPE_CHECKING, Final

from broker.api import Broker

from .figures import Monitor
from .health import Health
from .service_manager import notify
from .settings import GnomonSettings
from .statistics import StatisticsService
from .storage import Stores

if TYPE_CHECKING:
    from .http import HTTPListener


class Monitoring:
    """The watchers of one server; they answer from before it listens until after it has drained."""

    def __init__(self, broker: Broker, stores: Stores, settings: GnomonSettings) -> None:
        self.monitor: Final = Monitor(broker, stores)
        self._broker = broker
        self._settings = settings
        self._health = Health(lambda: stores.health)
        self._listener: HTTPListener | None = None
        self._statistics: asyncio.Task[None] | None = None

    @property
    def url(self) -> str | None:
        """Where HTTP is answered; None where it is not."""
        return None if self._listener is None else self._listener.url

    def start(self, group: asyncio.TaskGroup) -> None:
        """Begin to watch.

        Raises:
            EnvironmentFailureError: the HTTP address cannot be bound.
        """
        http, broker = self._settings.http, self._settings.broker
        if http.url is not None:
            from .http import HTTPListener  # What few need, few load: 8 MiB, 0.1 s.
            from .http_app import monitoring_app

            app = monitoring_app(self._health, self.monitor.figures)
            self._listener = HTTPListener(http, http.url, app)
            group.create_task(self._listener.serve(), name="http")
        if broker.sys_interval_s:
            tenant = broker.sys_tenant or broker.listeners[0].tenant
            bus = self._broker.in_process_client("statistics", tenant=tenant)
            service = StatisticsService(bus, self.monitor.figures, interval_s=broker.sys_interval_s)
            self._statistics = group.create_task(service.run(), name="statistics")

    def ready(self) -> None:
        """Every listener listens."""
        self._health.ready()
        notify("READY=1")

    def draining(self) -> None:
        """The end has begun."""
        self._health.draining()
        notify("STOPPING=1")

    def stop(self) -> None:
        """Watch no more; the server has drained."""
        if self._statistics is not None:
            self._statistics.cancel()
        if self._listener is not None:
            self._listener.stop()
