"""What was measured: one run, and the median of several.

Knows: the figures, how runs are summed up, the ratio to mosquitto.
Does not know: how they were taken, how they are shown.
"""

from collections.abc import Sequence
from statistics import median
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from .processes import Spent

#: The broker that the others are compared with.
REFERENCE: Final = "mosquitto"


class Delivery(Struct, frozen=True, kw_only=True):
    """What a generator saw in one run: messages, or connections where those are counted.

    Latencies are in microseconds: from writing (paced: from the time in the schedule) to the read that
    brought the message; of connections, from connect to CONNACK. `late_p99_us` is how late the
    generator itself was.
    """

    expected: int
    delivered: int
    lost: int = 0
    duplicates: int = 0
    reordered: int = 0
    foreign: int = 0
    seconds: float
    generator_cpu_s: float
    p50_us: float | None
    p99_us: float | None
    late_p99_us: float | None = None

    @property
    def is_exact(self) -> bool:
        """Whether everything came exactly once and in order."""
        return not (self.lost or self.duplicates or self.reordered or self.foreign)


class Measurement(Struct, frozen=True, kw_only=True):
    """One run of one scenario against one broker."""

    scenario: str
    peer: str
    delivery: Delivery
    spent: Spent

    @property
    def cpu_us(self) -> float:
        """Broker CPU per message delivered, or per connection, in microseconds."""
        return self.spent.cpu_s * 1e6 / max(1, self.delivery.delivered)

    @property
    def rss_kb(self) -> float:
        """Growth of the broker's memory per connection (or message) in KiB."""
        return self.spent.rss_growth_kb / max(1, self.delivery.delivered)


class Summary(Struct, frozen=True, kw_only=True):
    """Several runs of one scenario against one broker.

    `error` says why it could not be run; neither runs nor an error means that the broker does not offer it.
    """

    scenario: str
    peer: str
    runs: int
    scale: float = 1.0
    error: str | None = None
    cpu_us: float | None = None
    cpu_us_least: float | None = None
    cpu_us_most: float | None = None
    ratio: float | None = None
    per_second: float | None = None
    p50_us: float | None = None
    p99_us: float | None = None
    late_p99_us: float | None = None
    rss_kb_per_connection: float | None = None
    generator_cpu_us: float | None = None
    others_share: float | None = None
    lost: int = 0
    duplicates: int = 0
    reordered: int = 0


def summarize(runs: Sequence[Measurement], *, scale: float, counts_connections: bool) -> Summary:
    """Return medians over runs, and sums of what went wrong; at least one run."""
    deliveries = [run.delivery for run in runs]
    return Summary(
        scenario=runs[0].scenario,
        peer=runs[0].peer,
        runs=len(runs),
        scale=scale,
        cpu_us=median(run.cpu_us for run in runs),
        cpu_us_least=min(run.cpu_us for run in runs),
        cpu_us_most=max(run.cpu_us for run in runs),
        per_second=median(each.delivered / each.seconds for each in deliveries),
        p50_us=_median([each.p50_us for each in deliveries]),
        p99_us=_median([each.p99_us for each in deliveries]),
        late_p99_us=_median([each.late_p99_us for each in deliveries]),
        rss_kb_per_connection=median(run.rss_kb for run in runs) if counts_connections else None,
        generator_cpu_us=median(each.generator_cpu_s * 1e6 / max(1, each.delivered) for each in deliveries),
        others_share=median(run.spent.others_share for run in runs),
        lost=sum(each.lost for each in deliveries),
        duplicates=sum(each.duplicates for each in deliveries),
        reordered=sum(each.reordered for each in deliveries),
    )


def with_ratios(summaries: Sequence[Summary]) -> list[Summary]:
    """Fill in the ratio of each broker's CPU to the reference's in the same scenario."""
    reference = {each.scenario: each.cpu_us for each in summaries if each.peer == REFERENCE}
    return [
        replace(each, ratio=each.cpu_us / of)
        if each.cpu_us and (of := reference.get(each.scenario))
        else each
        for each in summaries
    ]


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
