"""What a swarm counted: of one process, and of all together.

Knows: the counts and latencies, how those of two processes become one.
Does not know: when anything is counted, what is printed.
Spec: none.
"""

from collections import Counter
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import asdict

from ..histogram import Histogram

#: What took how long. All but `delta_converged` run from the time in the schedule:
#: connect: to the last answer before a device is ready; puback, accepted: of an update;
#: delta_converged: a delta's arrival to the accepted of the report that follows it;
#: edit_converged: an edit of desired to the same; late: the generator's own delay in sending an update.
LatencyName = Literal["connect", "puback", "accepted", "delta_converged", "edit_converged", "late"]
LATENCIES: Final[tuple[LatencyName, ...]] = (
    "connect",
    "puback",
    "accepted",
    "delta_converged",
    "edit_converged",
    "late",
)
#: Different reasons of failures that are kept apart.
_REASONS_MAXIMUM: Final = 20
_OTHER: Final = "other reasons"


class Counts(Struct, kw_only=True, forbid_unknown_fields=True):
    """How often what happened. Updates are what devices report by themselves, not what follows a delta."""

    connects: int = 0
    """Connections that became ready."""
    connect_failures: int = 0
    connections_lost: int = 0
    """Connections that were ready and ended unasked."""
    updates_due: int = 0
    updates_sent: int = 0
    updates_missed: int = 0
    """Due and never sent: the device had no connection, or too many were waiting."""
    pubacks: int = 0
    accepted: int = 0
    refused: int = 0
    """Requests answered by rejected, or by a PUBACK that refuses."""
    unanswered: int = 0
    """Requests without an answer in time, or cut off by the end of their connection."""
    deltas: int = 0
    deltas_stale: int = 0
    deltas_followed: int = 0
    edits_sent: int = 0
    edits_converged: int = 0
    edits_missed: int = 0
    """Due and never sent: the operator had no connection."""
    malformed: int = 0
    """Messages of the service that are not what they should be."""

    @property
    def errors(self) -> dict[str, int]:
        """What went wrong, and how often; empty where all went well."""
        errors = {
            "connects failed": self.connect_failures,
            "connections lost": self.connections_lost,
            "requests refused": self.refused,
            "requests unanswered": self.unanswered,
            "updates missed": self.updates_missed,
            "edits missed": self.edits_missed,
            "messages malformed": self.malformed,
        }
        return {name: number for name, number in errors.items() if number}


class Tally:
    """Counts, latencies and reasons; the time of the last answer is monotonic nanoseconds."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.latencies: dict[LatencyName, Histogram] = {name: Histogram() for name in LATENCIES}
        #: How often a service or broker refused, by its code.
        self.refusals: Counter[int] = Counter()
        #: Why connections failed or ended.
        self.failures: Counter[str] = Counter()
        self.last_answer_ns = 0

    def fail(self, reason: str) -> None:
        """Count the reason of a failed or lost connection."""
        if reason not in self.failures and len(self.failures) >= _REASONS_MAXIMUM:
            reason = _OTHER
        self.failures[reason] += 1

    def refuse(self, code: int) -> None:
        """Count a refused request."""
        self.counts.refused += 1
        self.refusals[code] += 1

    def merge(self, other: "Tally") -> None:
        """Add what another process counted."""
        for name, value in asdict(other.counts).items():
            setattr(self.counts, name, getattr(self.counts, name) + value)
        for name in LATENCIES:
            self.latencies[name].merge(other.latencies[name])
        self.refusals.update(other.refusals)
        self.failures.update(other.failures)
        self.last_answer_ns = max(self.last_answer_ns, other.last_answer_ns)
