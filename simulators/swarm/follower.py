"""How a device of the swarm follows its shadow: from a delta to the report that was accepted.

Knows: what the device is set to, what it must still report, stale deltas, edits that wait.
Does not know: packets, the window (device), clocks (`now_ns` is monotonic nanoseconds and comes in).
Spec: AWS IoT device shadow service, simulating a device.
"""

from collections import deque
from typing import Final

from ..shadow_values import JsonObject, delta, merge, section
from .scenario import EDITED_KEY
from .tally import Tally

#: Edits of one device that are waited for; beyond it the oldest is forgotten, and never converges.
_EDITS_MAXIMUM: Final = 1000


class Follower:
    """The settings of one device. At most one report of them is on its way."""

    def __init__(self, tally: Tally) -> None:
        self.version = 0
        """The newest version of the shadow that the device heard of."""
        self._tally = tally
        self._settings: JsonObject = {}
        self._wanted: JsonObject = {}
        self._wanted_ns = 0
        self._reporting: JsonObject = {}
        self._reporting_ns = 0
        self._edits: deque[tuple[int, int]] = deque(maxlen=_EDITS_MAXIMUM)

    @property
    def is_drifting(self) -> bool:
        """Whether something that was asked for is not reported and accepted."""
        return bool(self._wanted or self._reporting or self._edits)

    @property
    def has_report(self) -> bool:
        """Whether there is something to report, and no report on its way."""
        return bool(self._wanted and not self._reporting)

    def start(self, state: JsonObject, version: int, now_ns: int) -> None:
        """Take the shadow's `state` as it stands, after a connect; {} and 0 where there is none."""
        self.version = version
        self._settings = section(state, "reported")
        self._wanted, self._reporting = {}, {}
        self._follow(section(state, "delta"), now_ns)

    def take_delta(self, wanted: JsonObject, version: int, now_ns: int) -> None:
        """Follow a delta, unless it is not newer than what is known."""
        self._tally.counts.deltas += 1
        if version <= self.version:
            self._tally.counts.deltas_stale += 1
            return
        self.version = version
        self._follow(wanted, now_ns)

    def take_report(self) -> JsonObject:
        """Return what to report now; `reported` or `failed` says what became of it."""
        self._reporting, self._wanted = self._wanted, {}
        self._reporting_ns = self._wanted_ns
        return self._reporting

    def reported(self, now_ns: int) -> None:
        """The report was accepted."""
        self._tally.counts.deltas_followed += 1
        self._tally.latencies["delta_converged"].add(now_ns - self._reporting_ns)
        self._reporting = {}
        self._converge(now_ns)

    def failed(self) -> None:
        """The report was refused or not answered: the next delta is followed whatever the settings are."""
        self._reporting, self._settings = {}, {}

    def expect_edit(self, number: int, due_ns: int) -> None:
        """An edit is on its way."""
        self._edits.append((number, due_ns))

    def edit_accepted(self, now_ns: int) -> None:
        """An edit was accepted; its delta came before, unless it asked for what is so."""
        if not self._wanted and not self._reporting:
            self._converge(now_ns)

    def edit_failed(self, number: int) -> None:
        """An edit was refused: nobody waits for it."""
        self._edits = deque((edit for edit in self._edits if edit[0] != number), _EDITS_MAXIMUM)

    def _follow(self, wanted: JsonObject, now_ns: int) -> None:
        """Become what is wanted; what is being reported already is not reported twice."""
        unknown = delta(wanted, self._settings)
        if unknown:
            self._settings = merge(self._settings, unknown)
            self._wanted_ns = self._wanted_ns if self._wanted else now_ns
            self._wanted = merge(self._wanted, unknown)

    def _converge(self, now_ns: int) -> None:
        """Close the edits up to the one that the device is set to."""
        reached = self._settings.get(EDITED_KEY)
        while self._edits and isinstance(reached, int) and self._edits[0][0] <= reached:
            _, due_ns = self._edits.popleft()
            self._tally.counts.edits_converged += 1
            self._tally.latencies["edit_converged"].add(now_ns - due_ns)
