"""Services beside somebody else's broker: wired together, started, and ended in order.

Knows: which services can run there, in which order they end, signals.
Does not know: any rule of a part.
Spec: v5 §3.14.

The order of the end: take no more requests, answer those that were taken, wait a bounded time until the
broker has the answers, say DISCONNECT. What was not taken stays with the broker.
"""

import asyncio
import signal
from typing import Any, Final

import structlog

from broker.foreign import BusRefusedError, ForeignBus, ForeignFilesError
from shadow import MemoryShadowStore, ShadowService

from .errors import ConfigurationError, GnomonError
from .logs import configure_logs
from .serve import choose_loop
from .settings import GnomonSettings

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def run_services(settings: GnomonSettings) -> None:
    """Run the services until a signal ends them; a second one ends at once.

    Raises:
        ConfigurationError: a setting or a file that it names is wrong.
        GnomonError: the broker refuses the client or its subscriptions.
    """
    loop_factory = choose_loop(settings.loop)
    configure_logs(settings.log)
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        try:
            runner.run(_run(settings))
        except asyncio.CancelledError:
            raise GnomonError("ended at once by a second signal; requests stay with the broker") from None
        except ExceptionGroup as failures:
            raise _told(failures) from failures


async def _run(settings: GnomonSettings) -> None:
    bus = ForeignBus(settings.foreign_broker)
    service = ShadowService(bus, MemoryShadowStore(), settings.shadow, root=settings.broker.topics_root)
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, _stop, bus, asyncio.current_task())
    log = structlog.get_logger("gnomon")
    async with asyncio.TaskGroup() as group:
        group.create_task(bus.run(), name="bus")
        serving = group.create_task(service.run(), name="shadow")
        log.info("services.started", broker=settings.foreign_broker.url, root=settings.broker.topics_root)
        await serving
        await bus.finish()
    log.info("services.stopped")


def _told(group: ExceptionGroup) -> Exception:
    """Return what to tell: one sentence where the broker or a file is to blame, else the group."""
    match group.exceptions:
        case (BusRefusedError() as error,):
            return GnomonError(str(error))
        case (ForeignFilesError() as error,):
            return ConfigurationError(f"foreign_broker: {error}")
        case _:
            return group


def _stop(bus: ForeignBus, task: asyncio.Task[Any] | None) -> None:
    """End in order at the first signal; at the second, leave without waiting for anybody."""
    bus.close()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.remove_signal_handler(number)
        if task is not None:
            loop.add_signal_handler(number, task.cancel)
