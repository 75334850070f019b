"""The report of a swarm: what it was, how much it did, how long things took, what went wrong.

Knows: the report's shape, which counts are errors.
Does not know: how anything was counted, how it is shown.
Spec: none.
"""

from collections.abc import Sequence

from msgspec import Struct

from ..histogram import Histogram
from .scenario import Scenario
from .tally import LATENCIES, Counts, Tally


class Latency(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long something took in milliseconds, at most 3.2 % too high; None where it never happened."""

    count: int
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    maximum_ms: float | None


class Report(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a swarm did. Rates are of all devices over `seconds`, the measured part."""

    scenario: Scenario
    target: str
    seconds: float
    ready: int
    """Devices with a connection at the end."""
    drifting: int
    """Devices that at the end do not report what was asked of them."""
    sent_per_s: float
    answered_per_s: float
    """Updates that were accepted, or of plain telemetry acknowledged."""
    counts: Counts
    latencies: dict[str, Latency]
    refusals: dict[str, int]
    """How often a service (HTTP-like codes) or the broker (MQTT reason codes) refused."""
    failures: dict[str, int]
    """Why connections failed or were lost."""
    errors: dict[str, int]
    """What makes the run a failure; empty where all went well."""
    cpu_s: list[float]
    """What each process of the swarm took of a core."""


def make_report(
    scenario: Scenario,
    target: str,
    tally: Tally,
    *,
    seconds: float,
    ready: int,
    drifting: int,
    cpu_s: Sequence[float],
) -> Report:
    """Return the report of a swarm whose processes are merged into one tally."""
    counts = tally.counts
    answered = counts.accepted if scenario.follows_shadow else counts.pubacks
    standing = {"devices not connected": scenario.devices - ready, "devices drifting": drifting}
    return Report(
        scenario=scenario,
        target=target,
        seconds=round(seconds, 3),
        ready=ready,
        drifting=drifting,
        sent_per_s=_per_second(counts.updates_sent, seconds),
        answered_per_s=_per_second(answered, seconds),
        counts=counts,
        latencies={name: latency_of(tally.latencies[name]) for name in LATENCIES},
        refusals={str(code): times for code, times in sorted(tally.refusals.items())},
        failures=dict(tally.failures.most_common()),
        errors={**counts.errors, **{name: number for name, number in standing.items() if number}},
        cpu_s=[round(each, 3) for each in cpu_s],
    )


def latency_of(histogram: Histogram) -> Latency:
    """Return a histogram's figures."""
    p50, p90, p99, p999, maximum = (
        None if (us := histogram.quantile_us(share)) is None else round(us / 1000, 3)
        for share in (0.5, 0.9, 0.99, 0.999, 1.0)
    )
    count = histogram.counts.total()
    return Latency(count=count, p50_ms=p50, p90_ms=p90, p99_ms=p99, p999_ms=p999, maximum_ms=maximum)


def _per_second(number: int, seconds: float) -> float:
    return round(number / seconds, 1) if seconds > 0 else 0.0
