"""The reconciler: which deltas to publish again, and when.

Knows: which shadows drift, since when, when each device was last told and whether it is connected.
Does not know: documents, the store, how a delta is published, clocks.
Spec: design: level-based. It compares what is with what should be, so to look twice does no harm.

A device that is away is told nothing: what its session keeps waits there, and one without a session asks by
`get`. When it comes back it has some seconds to subscribe and to act on what waited; then it is told. As long
as it is connected and does not follow, it is told in growing pauses. Beside a foreign broker nobody knows who
is connected, and the pauses alone count.
"""

import heapq
import math
from collections.abc import Iterable
from typing import Final, Protocol

from msgspec import Struct

from .records import Drifting
from .settings import ShadowSettings
from .topics import ShadowKey

#: Shadows looked at in one pass, some 3 ms; an interval has one pass more for each so many shadows.
_PASS: Final = 1_000
_PASSES_PER: Final = 10_000
_DOUBLINGS_MAXIMUM: Final = 32


class Presence(Protocol):
    """Who is connected."""

    def connected_since(self, thing_name: str) -> float | None:
        """Return since when (seconds since the epoch) the thing's device is connected; None if it is not."""


class Drift(Struct, frozen=True, kw_only=True):
    """A shadow with a delta, as an operator sees it; times are seconds since the epoch.

    Attributes:
        since: since when it drifts, without a break.
        last_told: when the delta was last published.
        is_connected: whether the device is; None where nobody knows.
        keys: at the top of the delta.
    """

    thing_name: str
    shadow_name: str | None
    since: float
    last_told: float
    is_connected: bool | None
    keys: int


class Reconciler:
    """The drifting shadows of one tenant, in memory."""

    def __init__(self, settings: ShadowSettings, presence: Presence | None = None) -> None:
        self._settings = settings
        self._presence = presence
        self._drifts: dict[ShadowKey, Drifting] = {}
        self._round: list[ShadowKey] = []
        #: Whether the store knows of more than are followed here.
        self.is_partial = False

    def __len__(self) -> int:
        return len(self._drifts)

    @property
    def has_room(self) -> bool:
        """Whether so much room is free that it is worth reading the store again."""
        return len(self._drifts) <= self._settings.drifts_maximum * 0.9

    @property
    def oldest_since(self) -> float | None:
        """Since when the longest drifting one does; O(n)."""
        return min((drift.since for drift in self._drifts.values()), default=None)

    @property
    def passes(self) -> int:
        """How often to call `due` in one interval."""
        return 1 + len(self._drifts) // _PASSES_PER

    def note(self, key: ShadowKey, drift: Drifting | None) -> None:
        """Learn how a shadow is now."""
        if drift is None:
            self._drifts.pop(key, None)
        elif key in self._drifts or len(self._drifts) < self._settings.drifts_maximum:
            self._drifts[key] = drift
        else:
            self.is_partial = True

    def load(self, drifts: Iterable[tuple[ShadowKey, Drifting]]) -> None:
        """Learn what the store knows; what is followed already is known better here."""
        for key, drift in drifts:
            if key not in self._drifts:
                self.note(key, drift)

    def due(self, now: float) -> list[ShadowKey]:
        """Look at the next shadows in turn, and return those whose delta is to be published now."""
        if not self._round:
            self._round = list(self._drifts)
        looked_at, self._round = self._round[-_PASS:], self._round[:-_PASS]
        return [key for key in looked_at if (drift := self._drifts.get(key)) and self.is_due(key, drift, now)]

    def oldest(self, limit: int) -> list[Drift]:
        """Return the longest drifting shadows."""
        found: Iterable[tuple[ShadowKey, Drifting]] = heapq.nsmallest(
            limit, self._drifts.items(), key=lambda item: item[1].since
        )
        return [
            Drift(
                thing_name=key.thing_name,
                shadow_name=key.shadow_name,
                since=drift.since,
                last_told=drift.told_at,
                is_connected=None
                if self._presence is None
                else self._presence.connected_since(key.thing_name) is not None,
                keys=drift.keys,
            )
            for key, drift in found
        ]

    def is_due(self, key: ShadowKey, drift: Drifting, now: float) -> bool:
        """Whether it is time to publish this delta again."""
        settings = self._settings
        told_at = drift.told_at if drift.told_at <= now else -math.inf  # The clock was set back.
        if self._presence is not None:
            since = self._presence.connected_since(key.thing_name)
            if since is None:
                return False
            if since > told_at:
                return now - since >= settings.resend_after_connect_s
        doublings = min(drift.tellings - 1, _DOUBLINGS_MAXIMUM)
        pause_s = min(settings.resend_first_s * 2.0**doublings, settings.resend_maximum_s)
        return now - told_at >= pause_s
