"""Services beside somebody else's broker: wired together, started, and ended in order.

Knows: which services can run there, what they share, in which order they end, signals.
Does not know: any rule of a part.
Spec: v5 §3.14, §4.8.2.

The order of the end: take no more requests, answer those that were taken, wait a bounded time until the
broker has the answers, say DISCONNECT, watch no more (metrics, health), commit what waits and close the
database, let the data folder go. What was not taken stays with the broker.
"""

import asyncio
import signal
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final

import structlog

from broker.foreign import BusRefusedError, ForeignBus, ForeignFilesError
from shadow import PostgresqlSharedStore, ShadowService, Sharing
from storage import StorageError

from .data_folder import DataFolder
from .errors import ConfigurationError, EnvironmentFailureError, GnomonError
from .figures import Monitor
from .health import Health
from .logs import configure_logs
from .serve import choose_loop
from .service_manager import notify
from .settings import GnomonSettings
from .storage import Stores, open_stores

if TYPE_CHECKING:
    from .http import HTTPListener

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_TENANT: Final = "default"

_UNKNOWN_CLIENTS: Final = (
    "the broker does not tell who sends: the journal names nobody, requests in flight are counted for each "
    "thing, deltas are sent again by time; provisioning and onboarding do not run here"
)
_PROMISE: Final = (
    "a request that comes again changes nothing again, if it has a client token or the broker marks it (DUP)"
)
_BELOW_DOLLAR: Final = (
    "shared subscriptions of some brokers get nothing below $, mosquitto's among them, and nobody says so; "
    "test yours, or choose another root"
)


def run_services(settings: GnomonSettings) -> None:
    """Run the services until a signal ends them; a second one ends at once.

    Raises:
        ConfigurationError: a setting or a file that it names is wrong.
        EnvironmentFailureError: the machine or the database does not allow it.
        GnomonError: the broker refuses the client or its subscriptions.
    """
    is_shared = settings.foreign_broker.share is not None
    if is_shared and settings.storage.url is None:
        raise ConfigurationError(
            "foreign_broker.share: those who share the work need one PostgreSQL database; set storage.url"
        )
    loop_factory = choose_loop(settings.loop)
    configure_logs(settings.log)

    async def run() -> None:
        async with open_stores(settings.storage, settings.data, is_shared=is_shared) as stores:
            await _Services(settings, stores).run()

    with _own_folder(settings), asyncio.Runner(loop_factory=loop_factory) as runner:
        try:
            runner.run(run())
        except asyncio.CancelledError:
            raise GnomonError("ended at once by a second signal; requests stay with the broker") from None


def _own_folder(settings: GnomonSettings) -> AbstractContextManager[None]:
    """Lock the data folder where the database is a file in it."""
    if settings.storage.url is not None or settings.storage.durability == "memory":
        return nullcontext()
    return DataFolder(settings.data).locked()


class _Services:
    """One run of the services."""

    def __init__(self, settings: GnomonSettings, stores: Stores) -> None:
        self._settings = settings
        self._stores = stores
        self._log = structlog.get_logger("gnomon")
        self._bus = bus = ForeignBus(settings.foreign_broker)
        store = stores.shadows(_TENANT)
        self._shadow = ShadowService(
            bus,
            store,
            settings.shadow,
            root=settings.broker.topics_root,
            sharing=Sharing(store, bus.settled) if isinstance(store, PostgresqlSharedStore) else None,
        )
        self._health = _Health(bus, stores)
        self._monitor = Monitor(bus, stores)
        self._monitor.shadow.append(self._shadow.stats)
        self._monitor.drifting.append(self._shadow)

    async def run(self) -> None:
        """Serve until a signal; end in the order that the module's card tells."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._stop, number, asyncio.current_task())
        try:
            async with asyncio.TaskGroup() as group:
                listener = self._listen(group)
                watching = group.create_task(self._stores.watch(), name="storage")
                group.create_task(self._bus.run(), name="bus")
                serving = group.create_task(self._shadow.run(), name="shadow")
                self._tell_start(None if listener is None else listener.url)
                self._health.ready()
                notify("READY=1")  # The broker may be away for long; /ready tells that.
                await serving
                await self._bus.finish()
                if listener is not None:
                    listener.stop()
                watching.cancel()
        except ExceptionGroup as failures:
            raise _told(failures) from failures
        self._log.info("services.stopped")

    def _listen(self, group: asyncio.TaskGroup) -> "HTTPListener | None":
        http = self._settings.http
        if http.url is None:
            return None
        from .http import HTTPListener  # As in `Monitoring`: what few need, few load.
        from .http_app import monitoring_app

        listener = HTTPListener(http, http.url, monitoring_app(self._health, self._monitor.figures))
        group.create_task(listener.serve(), name="http")
        return listener

    def _tell_start(self, http: str | None) -> None:
        foreign, root = self._settings.foreign_broker, self._settings.broker.topics_root
        self._log.info("services.started", broker=foreign.url, root=root, share=foreign.share, http=http)
        self._log.info("services.clients_unknown", meaning=_UNKNOWN_CLIENTS)
        if foreign.share is not None:
            self._log.info("services.shared", promise=_PROMISE)
            if root.startswith("$"):
                self._log.warning("services.share_below_dollar", root=root, reason=_BELOW_DOLLAR)

    def _stop(self, number: signal.Signals, task: asyncio.Task[Any] | None) -> None:
        """End in order at the first signal; at the second, leave without waiting for anybody."""
        self._log.info("services.stopping", signal=number.name)
        self._health.draining()
        notify("STOPPING=1")
        self._bus.close()
        loop = asyncio.get_running_loop()
        for each in _SIGNALS:
            loop.remove_signal_handler(each)
            if task is not None:
                loop.add_signal_handler(each, task.cancel)


class _Health(Health):
    """Also whether there is a broker."""

    def __init__(self, bus: ForeignBus, stores: Stores) -> None:
        super().__init__(lambda: stores.health)
        self._bus = bus

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why nobody should wait for answers; empty when they come."""
        reasons = super().reasons
        return reasons if self._bus.is_connected else (*reasons, "not connected to the broker")


def _told(group: ExceptionGroup) -> Exception:
    """Return what to tell: one sentence where broker, machine or a file are to blame, else the group."""
    leaf: BaseException = group
    while isinstance(leaf, BaseExceptionGroup) and len(leaf.exceptions) == 1:
        leaf = leaf.exceptions[0]
    match leaf:
        case GnomonError():
            return leaf
        case StorageError():
            return EnvironmentFailureError(str(leaf))
        case BusRefusedError():
            return GnomonError(str(leaf))
        case ForeignFilesError():
            return ConfigurationError(f"foreign_broker: {leaf}")
        case _:
            return group
