"""What the ledger and the quotas say, for Prometheus: the numbers of statements and analytics.

Counted since this process began, from what all nodes have delivered. Labels hold ids of accounts
and namespaces, which no caller chooses, and names of locations.
"""

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from atoll.metering import Metering
from atoll.usage.counts import (
    KINDS,
    OPERATION_OF,
    OPERATIONS,
    RECEIVED_AT,
    SENT_AT,
    ages_in,
    latency_in,
    merged,
)
from atoll.usage.histogram import BUCKETS, bounds_of

SERIES_MAX: Final = 2000
"""How many namespaces times nodes are shown; those with the most operations."""

US_PER_S: Final = 1_000_000
MS_PER_S: Final = 1000
SHOWN_EVERY: Final = 8
"""Of the buckets that are counted, every eighth bound is shown: one to each doubling."""


class UsageMetrics(Collector):
    """See above."""

    def __init__(self, metering: Metering, registry: CollectorRegistry) -> None:
        """Be asked by `registry`."""
        self._metering = metering
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        labels = ("location", "namespace", "operation")
        operations = CounterMetricFamily(
            "atoll_operations",
            "Operations on keys, by the face that answered and what came of them.",
            labels=(*labels, "face", "outcome"),
        )
        latency = HistogramMetricFamily(
            "atoll_operation_seconds", "Time that requests took.", labels=labels
        )
        ages = HistogramMetricFamily(
            "atoll_answer_age_seconds", "Age of answers to reads.", labels=labels[:2]
        )
        received = CounterMetricFamily(
            "atoll_operation_received_bytes", "Bytes of bodies received.", labels=labels
        )
        sent = CounterMetricFamily(
            "atoll_operation_sent_bytes", "Bytes of bodies sent.", labels=labels
        )
        rows: dict[tuple[str, str], list[tuple[str, dict[int, int]]]] = {}
        for (_, namespace, node, face), counts in self._metering.ledger.totals.items():
            rows.setdefault((node, namespace), []).append((face, counts))
        for at, of_faces in sorted(rows.items(), key=_busy, reverse=True)[:SERIES_MAX]:
            for face, counts in of_faces:
                for kind in KINDS:
                    if counts.get(kind):
                        of = (*at, OPERATION_OF[kind], face, kind.name.lower())
                        operations.add_metric(of, counts[kind])
            counts = merged(counts for _, counts in of_faces)
            for number, operation in enumerate(OPERATIONS):
                told = latency_in(counts, operation)
                if told:
                    buckets, total = _shown(told, US_PER_S)
                    latency.add_metric((*at, operation), buckets, total)
                    received.add_metric((*at, operation), counts.get(RECEIVED_AT + number, 0))
                    sent.add_metric((*at, operation), counts.get(SENT_AT + number, 0))
            told = ages_in(counts)
            if told:
                buckets, total = _shown(told, MS_PER_S)
                ages.add_metric(at, buckets, total)
        return operations, latency, ages, received, sent, *self._quotas()

    def _quotas(self) -> Iterable[Metric]:
        labels = ("account", "namespace", "meter", "period", "hard")
        limit = GaugeMetricFamily("atoll_quota_limit", "What a quota allows.", labels=labels)
        used = GaugeMetricFamily("atoll_quota_used", "What of it is used.", labels=labels)
        for state in self._metering.states:
            quota = state.quota
            hard = "true" if quota.hard else "false"
            of = (state.account, quota.namespace or "", quota.meter, quota.period, hard)
            limit.add_metric(of, quota.limit)
            used.add_metric(of, state.used)
        return limit, used


def _busy(row: tuple[tuple[str, str], list[tuple[str, dict[int, int]]]]) -> int:
    """Return how many operations a series is about."""
    return sum(counts.get(kind, 0) for _, counts in row[1] for kind in KINDS)


def _shown(histogram: dict[int, int], per_s: int) -> tuple[list[tuple[str, float]], float]:
    """Write a histogram as Prometheus has it, with its sum as near as buckets tell."""
    total = sum(n * (sum(bounds_of(bucket)) - 1) / 2 for bucket, n in histogram.items())
    shown: list[tuple[str, float]] = []
    below = 0
    for bucket in range(BUCKETS):
        below += histogram.get(bucket, 0)
        if (bucket + 1) % SHOWN_EVERY == 0:
            shown.append((str(bounds_of(bucket)[1] / per_s), float(below)))
    shown.append(("+Inf", float(sum(histogram.values()))))
    return shown, total / per_s
