"""Metrics as Prometheus text.

Knows: how a metric is written.
Does not know: which metrics there are (metric_table), who asks.
Spec: Prometheus text format 0.0.4.
"""

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from .figures import Figures
from .metric_table import METRICS, Metric


def prometheus_text(figures: Figures) -> bytes:
    """Write all metrics."""
    registry = CollectorRegistry()
    registry.register(_Collector(figures))
    return generate_latest(registry)


class _Collector:
    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        for metric in METRICS:
            yield _family(metric, metric.read(self._figures))


def _family(metric: Metric, value: float | Mapping[str, float]) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    if not isinstance(value, Mapping):
        return kind(metric.name, metric.meaning, value=value)
    family = kind(metric.name, metric.meaning, labels=[metric.label])
    for label, number in value.items():
        family.add_metric([label], number)
    return family
