"""Every count leaves the house under a documented name, in a form that Prometheus reads."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import fields
from prometheus_client.parser import text_string_to_metric_families

from broker.api import Census, Stats
from broker.foreign import BusStats, OutboundStats
from broker.protocol.reason_codes import ReasonCode
from broker.settings import LimitSettings
from gnomon.figures import Figures
from gnomon.metric_table import METRICS, written_name
from gnomon.metrics import prometheus_text
from shadow import ShadowSettings, ShadowStats
from storage import StorageSettings, StorageStats

ROOT = Path(__file__).parents[2]
MONITOR_PAGE = (ROOT / "docs/how-to/monitor.md").read_text("utf-8")
#: Counted for the sums `messages_sent` and `packets_sent` only.
PARTS_OF_SUMS = {"control_packets_sent", "publishes_sent", "unsent", "sent_later", "pubrels_sent"}


def samples(figures: Figures) -> dict[tuple[str, str], float]:
    """Scraped name and label value, "" for none, to value."""
    return {
        (sample.name, "".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(prometheus_text(figures).decode())
        for sample in family.samples
    }


def nothing() -> Figures:
    return Figures(Stats(), Census(), ShadowStats(), 0.0)


def fill(target: Any, names: list[str], numbers: "itertools.count[int]") -> dict[str, int]:
    """Give each integer a number that no other has."""
    given = {name: next(numbers) for name in names if isinstance(getattr(target, name), int)}
    for name, number in given.items():
        setattr(target, name, number)
    return given


def test_every_count_of_every_room_is_exported() -> None:
    figures, numbers = nothing(), itertools.count(1_000_003, 7_919)
    stats, sessions = figures.stats, figures.stats.sessions
    given = {
        **fill(stats, list(stats.__slots__), numbers),
        **fill(sessions, list(sessions.__slots__), numbers),
        **fill(figures.census, [field.name for field in fields(Census)], numbers),
        **fill(figures.bus, [field.name for field in fields(BusStats)], numbers),
        **fill(figures.outbound, [field.name for field in fields(OutboundStats)], numbers),
        **fill(figures.storage, [field.name for field in fields(StorageStats)], numbers),
        **fill(figures.shadow, [f"{field.name}" for field in fields(ShadowStats)], numbers),
    }
    exported = set(samples(figures).values())
    assert {name for name, number in given.items() if number not in exported} <= PARTS_OF_SUMS
    assert {stats.messages_sent, stats.packets_sent} <= exported


def test_a_scrape_has_every_metric_with_its_type_and_its_meaning() -> None:
    families = {
        family.name: family for family in text_string_to_metric_families(prometheus_text(nothing()).decode())
    }
    assert families.keys() == {metric.name for metric in METRICS}
    for metric in METRICS:
        assert families[metric.name].type == metric.kind
        assert families[metric.name].documentation == metric.meaning


def test_reasons_are_told_apart_by_the_words_of_the_specification() -> None:
    figures = nothing()
    figures.stats.closed = {ReasonCode.PACKET_TOO_LARGE: 3, ReasonCode.SUCCESS: 4}
    figures.stats.subscriptions_refused = {ReasonCode.QUOTA_EXCEEDED: 5}
    scraped = samples(figures)
    assert scraped["gnomon_broker_connections_closed_total", "packet_too_large"] == 3
    assert scraped["gnomon_broker_connections_closed_total", "success"] == 4
    assert scraped["gnomon_session_subscriptions_refused_total", "quota_exceeded"] == 5


def test_the_process_tells_its_time_and_memory() -> None:
    scraped = samples(nothing())
    assert scraped["process_cpu_seconds_total", ""] > 0
    assert scraped["process_resident_memory_bytes", ""] > 1_000_000


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_named_by_the_rule(metric: Any) -> None:
    rooms = "gnomon_(broker|bus|session|routing|shadow|storage|build)"
    assert re.fullmatch(rf"({rooms}|process|python)_[a-z_]+", metric.name)
    assert not metric.name.endswith("_total")
    assert metric.label in {"", "reason", "cause", "version", "quantile"}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_documented(metric: Any) -> None:
    page = (ROOT / "docs/reference/metrics.md").read_text("utf-8")
    assert f"| `{written_name(metric)}` | {metric.kind} |" in page


#: Of the shadows, these are no limits.
NO_LIMITS = {
    "drop_delta", "delta_supersedes", "sweep_interval_s", "reconcile_interval_s",
    "resend_after_connect_s", "resend_first_s", "resend_maximum_s",
}  # fmt: skip
NO_LIMITS_OF_STORAGE = {"url", "durability", "switch_interval_s"}
LIMITS = [
    *(("broker.limits", name) for name in LimitSettings.model_fields),
    *(("storage", name) for name in StorageSettings.model_fields if name not in NO_LIMITS_OF_STORAGE),
    *(("shadow", name) for name in ShadowSettings.model_fields if name not in NO_LIMITS),
]


@pytest.mark.parametrize(("section", "limit"), LIMITS)
def test_a_limit_has_its_act_and_its_metric_on_the_page_about_monitoring(section: str, limit: str) -> None:
    _, _, table = MONITOR_PAGE.partition(f"| Setting (`{section}`) |")
    lines = table.partition("\n\n")[0].splitlines()
    rows = [row.split("|")[1:-1] for row in lines if row.startswith("| `")]
    (row,) = [row for row in rows if f"`{limit}`" in row[0]]
    named = set(re.findall(r"`(\w+)`", row[2]))
    assert row[1].strip()
    assert named
    assert named <= {written_name(metric) for metric in METRICS}
