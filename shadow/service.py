"""The shadow service of one tenant: serves requests, tells deltas again, sweeps, answers operators.

Knows: its tasks and how they end, what operators may ask.
Does not know: the way of a request (pipeline), when a delta is due (reconciler), tables.
Spec: AWS IoT device shadow service, MQTT topics.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from broker.api import Bus, BusClosedError

from .document import Document, Stored
from .errors import ShadowStoreError
from .journal import BASE_S, BASE_VERSIONS, replay, stored_of
from .pipeline import Pipeline, log_store_failure
from .reconciler import Drift, Presence, Reconciler
from .records import JournalEntry
from .settings import ShadowSettings
from .shared_pipeline import SharedPipeline
from .sharing import Sharing
from .stats import ShadowStats
from .store import ShadowStore
from .topics import ShadowKey, ShadowTopics

_DAY_S: Final = 86_400.0
_HOUR_S: Final = 3600.0
#: A forgotten tombstone must be older than a second, by which numberings are told apart.
_TOMBSTONE_LEAST_S: Final = 60.0
#: Rows that one commit removes; some 10 ms of the committer.
_SWEEP_ROWS: Final = 1_000
_DRIFTS_PAGE: Final = 5_000


class ShadowService:
    """The shadows of one tenant, served over one bus.

    It subscribes when it is made, so that no request is missed between that and `run`. Without `presence`
    nobody knows which device is connected, and deltas are told again by time alone. With `sharing`, whose
    store is then `store`, other processes may serve the same shadows.
    """

    def __init__(
        self,
        bus: Bus,
        store: ShadowStore,
        settings: ShadowSettings,
        *,
        clock: Callable[[], float] = time.time,
        root: str = "$aws",
        presence: Presence | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        self.stats: Final = ShadowStats()
        self._bus = bus
        self._store = store
        self._settings = settings
        self._clock = clock
        self._reconciler = Reconciler(settings, presence)
        topics = ShadowTopics(root)
        parts: dict[str, Any] = {
            "clock": clock,
            "topics": topics,
            "stats": self.stats,
            "reconciler": self._reconciler,
        }
        self._pipeline = (
            Pipeline(bus, store, settings, **parts)
            if sharing is None
            else SharedPipeline(bus, sharing, settings, **parts)
        )
        bus.subscribe(*topics.request_filters, qos=1)

    async def run(self) -> None:
        """Serve until the bus is closed; what was taken by then is still decided, committed and answered."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pipeline.write_turns(), name="shadow:writer")
            upkeep = [group.create_task(self._sweep_regularly(), name="shadow:sweeper")]
            if self._settings.reconcile_interval_s:
                upkeep.append(group.create_task(self._reconcile_regularly(), name="shadow:reconciler"))
            await self._read_requests()
            for task in upkeep:
                task.cancel()
            await asyncio.wait(upkeep)
            self._pipeline.close()

    # What operators ask.

    async def history(
        self, key: ShadowKey, *, limit: int, before_version: int | None = None
    ) -> list[JournalEntry]:
        """Return the latest changes, newest first; those before a version if one is given.

        Raises:
            ShadowStoreError: the store could not be read.
        """
        return list(await self._store.history(key, limit=limit, before_version=before_version))

    async def as_of(self, key: ShadowKey, version: int) -> Document | None:
        """Return the document that an accepted update with this version made.

        None where there was none (it is a delete's version, or of the future), or nobody knows any more.

        Raises:
            ShadowStoreError: the store could not be read, or what it holds is damaged.
        """
        row = (await self._store.load([key])).get(key)
        stored: Stored | None = None
        try:
            if row is not None and row.version == version:
                stored = stored_of(row)
            else:
                entries = await self._store.history(key, limit=BASE_VERSIONS, before_version=version + 1)
                if entries and entries[0].version == version:
                    stored = replay(entries)
        except msgspec.MsgspecError as error:
            raise ShadowStoreError(f"the journal is damaged: {error}") from error
        return stored if isinstance(stored, Document) else None

    async def names(self, thing_name: str, *, after: str = "", limit: int = 25) -> list[str]:
        """Return the named shadows of a thing in order, the classic one left out; those after a name.

        Raises:
            ShadowStoreError: the store could not be read.
        """
        return list(await self._store.names(thing_name, after=after, limit=limit))

    async def things(self, *, after: str = "", limit: int = 25) -> list[str]:
        """Return the things that have a shadow in order; those after a name.

        Raises:
            ShadowStoreError: the store could not be read.
        """
        return list(await self._store.things(after=after, limit=limit))

    def drift(self, *, limit: int) -> list[Drift]:
        """Return the shadows that have a delta for the longest time."""
        return self._reconciler.oldest(limit)

    def drift_age_s(self) -> float:
        """Return for how long the longest drifting shadow does, in seconds; 0 without one."""
        since = self._reconciler.oldest_since
        return 0.0 if since is None else max(0.0, self._clock() - since)

    def convergence(self) -> list[int]:
        """Return how long shadows drifted that followed in the last minutes, for `durations.quantile`."""
        return self._pipeline.converged.counts(now=self._clock())

    # Its tasks.

    async def reconcile(self) -> None:
        """Look at the drifting shadows whose turn it is, and publish the deltas that are due."""
        for _ in range(self._reconciler.passes):
            if keys := self._reconciler.due(self._clock()):
                await self._pipeline.tell(keys)
            else:
                await asyncio.sleep(0)

    async def sweep(self) -> None:
        """Remove expired tombstones and journal entries, in batches.

        Raises:
            ShadowStoreError: the store cannot.
        """
        settings, now = self._settings, self._clock()
        deleted_before = now - max(settings.tombstone_hours * _HOUR_S, _TOMBSTONE_LEAST_S)
        journal_before = now - settings.journal_days * _DAY_S - BASE_S
        swept = _SWEEP_ROWS
        while swept == _SWEEP_ROWS:
            swept = await self._store.sweep(
                deleted_before=deleted_before, journal_before=journal_before, limit=_SWEEP_ROWS
            )
            self.stats.swept += swept

    async def _read_requests(self) -> None:
        while True:
            try:
                batch = await self._bus.receive()
            except BusClosedError:
                return
            await self._pipeline.take(batch)

    async def _sweep_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._settings.sweep_interval_s)
            try:
                await self.sweep()
            except Exception as error:  # noqa: BLE001 - boundary of the store: the next sweep tries again
                self.stats.store_failures += 1
                log_store_failure("shadow.sweep_failed", error)

    async def _reconcile_regularly(self) -> None:
        self._reconciler.is_partial = True
        while True:
            if self._reconciler.is_partial and self._reconciler.has_room:
                await self._load_drifts()
            await self.reconcile()
            await asyncio.sleep(self._settings.reconcile_interval_s)

    async def _load_drifts(self) -> None:
        """Follow what the store knows of, the longest drifting first, as far as there is room."""
        reconciler, after = self._reconciler, None
        reconciler.is_partial = False
        try:
            while not reconciler.is_partial:
                page = await self._store.drifting(after=after, limit=_DRIFTS_PAGE)
                reconciler.load(page)
                if len(page) < _DRIFTS_PAGE:
                    return
                key, drift = page[-1]
                after = (drift.since, key)
        except Exception as error:  # noqa: BLE001 - boundary of the store: the next pass tries again
            self.stats.store_failures += 1
            reconciler.is_partial = True
            log_store_failure("shadow.drifts_not_read", error)
