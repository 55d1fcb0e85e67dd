"""What is counted of requests, for Prometheus.

Counted in plain numbers and turned into metrics when somebody asks: a node's requests all run on
one loop, so there is nothing to lock, and every write pays for what is counted.
"""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

LATENCY_BUCKETS_S: Final = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
)  # fmt: skip


class Operation:
    """The numbers of one operation of one face."""

    __slots__ = ("buckets", "elapsed_s", "received_bytes", "sent_bytes", "statuses")

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.buckets = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self.elapsed_s = 0.0
        self.received_bytes = 0
        self.sent_bytes = 0

    def count(self, status: int, *, elapsed_s: float, received_bytes: int, sent_bytes: int) -> None:
        """Count a request that was answered."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.buckets[bisect_left(LATENCY_BUCKETS_S, elapsed_s)] += 1
        self.elapsed_s += elapsed_s
        self.received_bytes += received_bytes
        self.sent_bytes += sent_bytes


class RequestMetrics(Collector):
    """The numbers of one node. Names of labels come from the code, never from a caller."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Be asked by `registry`."""
        self._operations: dict[tuple[str, str], Operation] = {}
        registry.register(self)

    def of(self, face: str, operation: str) -> Operation:
        """Return what counts one operation of one face."""
        numbers = self._operations.get((face, operation))
        if numbers is None:
            numbers = self._operations[face, operation] = Operation()
        return numbers

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        labels = ("face", "operation")
        requests = CounterMetricFamily(
            "atoll_http_requests",
            "Requests answered, by face, operation and status.",
            labels=(*labels, "status"),
        )
        latency = HistogramMetricFamily(
            "atoll_http_request_seconds",
            "Time from a request's headers to the end of its answer.",
            labels=labels,
        )
        received = CounterMetricFamily(
            "atoll_http_received_bytes", "Bytes of bodies received.", labels=labels
        )
        sent = CounterMetricFamily("atoll_http_sent_bytes", "Bytes of bodies sent.", labels=labels)
        for at, numbers in self._operations.items():
            for status, count in numbers.statuses.items():
                requests.add_metric((*at, str(status)), count)
            latency.add_metric(at, _cumulated(numbers.buckets), numbers.elapsed_s)
            received.add_metric(at, numbers.received_bytes)
            sent.add_metric(at, numbers.sent_bytes)
        return requests, latency, received, sent


def _cumulated(buckets: list[int]) -> list[tuple[str, float]]:
    """Write a histogram as Prometheus has it: each bucket counts those below it too."""
    bounds = [*map(str, LATENCY_BUCKETS_S), "+Inf"]
    return [(bound, float(sum(buckets[: i + 1]))) for i, bound in enumerate(bounds)]
