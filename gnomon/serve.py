"""The server: everything wired together, started, and ended in order.

Knows: which parts there are, in which order they start and end, signals, the event loop.
Does not know: any rule of a part.
Spec: v5 §3.14, §4.13; v3.1.1 §3.14.

The order of the end is written here once: stop accepting and say DISCONNECT (v5 0x8B), drain with a
deadline, let the services answer what they took, watch no more (metrics, health), commit what waits and
close the database, let the data folder go. ready.json is taken back first, and /ready says so.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from broker.access import PasswordUsers, Rule, RulesAuthenticator
from broker.api import Broker, ListenerAddress, TLSFilesError
from broker.settings import BrokerSettings
from shadow import ShadowService
from storage import StorageError

from .admin import AdminService
from .collector import settle_collector
from .data_folder import PKI_FOLDER, DataFolder
from .errors import ConfigurationError, EnvironmentFailureError, GnomonError
from .logs import configure_logs
from .monitoring import Monitoring
from .passwords import PasswordWorkers
from .presence import BrokerPresence
from .setting_files import check_listener_files, load_passwords, load_rules, with_development_pki
from .settings import GnomonSettings, LoopName
from .storage import Stores, open_stores
from .version import installed_version

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def serve(settings: GnomonSettings) -> None:
    """Run the server until a signal ends it.

    SIGTERM or SIGINT drains; a second one ends at once. SIGHUP reads certificates, rules and passwords anew.

    Raises:
        ConfigurationError: a setting or a file that it names is wrong.
        EnvironmentFailureError: the machine does not allow it (folder in use, port in use, permission).
    """
    rules = load_rules(settings.broker)
    hashes = load_passwords(settings.broker.password_file)
    check_listener_files(settings.broker)
    loop_factory = choose_loop(settings.loop)
    configure_logs(settings.log)
    folder = DataFolder(settings.data)
    with folder.locked():
        broker_settings = with_development_pki(settings.broker, settings.data / PKI_FOLDER)

        async def run() -> None:
            async with open_stores(settings.storage, settings.data) as stores:
                await _Server(settings, broker_settings, rules, hashes, folder, stores).run()

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            try:
                runner.run(run())
            except asyncio.CancelledError:
                raise GnomonError("ended at once by a second signal; clients were not told") from None


def choose_loop(name: LoopName) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the event loop; None for the one of the standard library.

    Raises:
        ConfigurationError: uvloop is asked for by name and not installed.
    """
    if name == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        if name == "uvloop":
            raise ConfigurationError('loop: uvloop is not installed; install it, or say "auto"') from None
        return None
    return uvloop.new_event_loop


class _Server:
    """One run of the server."""

    def __init__(
        self,
        settings: GnomonSettings,
        broker_settings: BrokerSettings,
        rules: Sequence[Rule],
        hashes: Mapping[str, str] | None,
        folder: DataFolder,
        stores: Stores,
    ) -> None:
        self._settings = settings
        self._listeners = broker_settings.listeners
        self._folder = folder
        self._stores = stores
        self._log = structlog.get_logger("gnomon")
        self._is_ready = self._is_stopping = False
        limits = broker_settings.limits
        self._passwords = PasswordWorkers(
            workers=limits.password_workers, waiting_maximum=limits.password_checks_maximum
        )
        self._users = None if hashes is None else PasswordUsers(hashes, verify=self._passwords.verify)
        self._authenticator = RulesAuthenticator(
            rules,
            allow_anonymous=broker_settings.allow_anonymous,
            require_client_id_is_common_name=broker_settings.require_client_id_is_common_name,
            now=lambda: datetime.now(UTC),
            topics_root=broker_settings.topics_root,
            passwords=self._users,
        )
        self._broker = Broker(broker_settings, authenticator=self._authenticator, store=stores.sessions())
        self._monitoring = Monitoring(self._broker, stores, settings)

    async def run(self) -> None:
        """Start the services, then the listeners; end in the order that the module's card tells."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._stop, number, asyncio.current_task())
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        monitoring = self._monitoring
        tenants = sorted({listener.tenant for listener in self._listeners})
        buses = [self._broker.in_process_client("shadow", tenant=tenant) for tenant in tenants]
        admin_buses = [self._broker.in_process_client("admin", tenant=tenant) for tenant in tenants]
        try:
            async with asyncio.TaskGroup() as group:
                monitoring.start(group)
                watching = group.create_task(self._stores.watch(), name="storage")
                for tenant, bus, admin_bus in zip(tenants, buses, admin_buses, strict=True):
                    service = ShadowService(
                        bus,
                        self._stores.shadows(tenant),
                        self._settings.shadow,
                        root=self._settings.broker.topics_root,
                        presence=BrokerPresence(self._broker, tenant=tenant),
                    )
                    monitoring.monitor.shadow.append(service.stats)
                    monitoring.monitor.drifting.append(service)
                    group.create_task(service.run(), name=f"shadow:{tenant}")
                    admin = AdminService(admin_bus, self._broker, service, tenant=tenant)
                    group.create_task(admin.run(), name=f"admin:{tenant}")
                await self._broker.serve(started=self._announce)
                for bus in (*buses, *admin_buses):
                    bus.close()
                monitoring.stop()
                watching.cancel()
        except ExceptionGroup as failures:
            raise self._told(failures) from failures
        finally:
            self._passwords.close()
        self._log.info("server.stopped")

    def _announce(self, addresses: Sequence[ListenerAddress]) -> None:
        settle_collector()
        listeners = [{"url": address.url, "name": address.name} for address in addresses]
        self._folder.write_ready(
            {
                "pid": os.getpid(),
                "listeners": listeners,
                "version": installed_version(),
                "started_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                **({} if self._monitoring.url is None else {"http": self._monitoring.url}),
            }
        )
        self._is_ready = True
        self._monitoring.ready()
        self._log.info("server.ready", listeners=[listener["url"] for listener in listeners])
        broker = self._settings.broker
        is_open = broker.allow_anonymous or broker.password_file is not None
        for listener in self._listeners:
            if listener.client_ca is None and not is_open:
                self._log.warning(
                    "listener.useless",
                    name=listener.name,
                    reason="no certificates, no password file, no --anonymous",
                )

    def _reload(self) -> None:
        """Use certificates, rules and passwords as their files are now; a wrong file changes nothing."""
        if not self._is_ready or self._is_stopping:
            return
        self._broker.reload_certificates()
        try:
            rules = load_rules(self._settings.broker)
            hashes = load_passwords(self._settings.broker.password_file)
        except ConfigurationError as error:
            self._log.error("server.rules_kept", reason=str(error))
            return
        self._authenticator.reload(rules)
        if self._users is not None and hashes is not None:
            self._users.reload(hashes)
        self._broker.authenticate_again()
        self._log.info("server.rules_renewed")

    def _stop(self, number: signal.Signals, task: asyncio.Task[Any] | None) -> None:
        """Drain at the first signal; at the second, leave without waiting for anybody."""
        if not self._is_stopping:
            self._is_stopping = True
            self._log.info("server.stopping", signal=number.name)
            self._folder.remove_ready()
            self._monitoring.draining()
            self._broker.stop()
            return
        loop = asyncio.get_running_loop()
        for each in _SIGNALS:
            loop.remove_signal_handler(each)
        if task is not None:
            task.cancel()

    def _told(self, group: ExceptionGroup) -> Exception:
        """Return what to tell: one sentence where the machine or a file is to blame, else the group."""
        leaf: BaseException = group
        while isinstance(leaf, BaseExceptionGroup) and len(leaf.exceptions) == 1:
            leaf = leaf.exceptions[0]
        match leaf:
            case GnomonError():
                return leaf
            case StorageError():
                return EnvironmentFailureError(str(leaf))
            case TLSFilesError():
                return ConfigurationError(str(leaf))
            case OSError() if not self._is_ready:
                urls = ", ".join(listener.url for listener in self._listeners)
                return EnvironmentFailureError(
                    f"cannot listen on {urls}: {leaf}; free the port or choose another"
                )
            case _:
                return group
