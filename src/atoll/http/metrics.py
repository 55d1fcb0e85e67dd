"""What is counted of requests, for Prometheus.

Counted in plain numbers and turned into metrics when somebody asks: a node's requests all run on
one loop, so there is nothing to lock, and every write pays for what is counted.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

LATENCY_BUCKETS_S: Final = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
)  # fmt: skip


KEEPER: Final = "keeper"


class Operation(msgspec.Struct, kw_only=True):
    """The numbers of one operation of one face."""

    face: str
    operation: str
    statuses: dict[int, int] = msgspec.field(default_factory=dict[int, int])
    buckets: list[int]
    elapsed_s: float = 0.0
    received_bytes: int = 0
    sent_bytes: int = 0

    def count(self, status: int, *, elapsed_s: float, received_bytes: int, sent_bytes: int) -> None:
        """Count a request that was answered."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.buckets[bisect_left(LATENCY_BUCKETS_S, elapsed_s)] += 1
        self.elapsed_s += elapsed_s
        self.received_bytes += received_bytes
        self.sent_bytes += sent_bytes


Readers = Callable[[], Mapping[str, bytes]]
"""Returns what the readers of a location have counted, by process: see `RequestMetrics.counted`."""

_decode: Final = msgspec.msgpack.Decoder(list[Operation]).decode


class RequestMetrics(Collector):
    """The numbers of one node. Names of labels come from the code, never from a caller."""

    def __init__(self, registry: CollectorRegistry, *, readers: Readers | None = None) -> None:
        """Be asked by `registry`.

        Args:
            registry: Who asks.
            readers: At a keeper: what its readers counted. Series then say whose they are, so
                that a process that begins anew is seen to do so.
        """
        self._operations: dict[tuple[str, str], Operation] = {}
        self._readers = readers
        registry.register(self)

    def counted(self) -> bytes:
        """Return everything that was counted, for a keeper to show."""
        return msgspec.msgpack.encode(list(self._operations.values()))

    def of(self, face: str, operation: str) -> Operation:
        """Return what counts one operation of one face."""
        numbers = self._operations.get((face, operation))
        if numbers is None:
            numbers = self._operations[face, operation] = Operation(
                face=face, operation=operation, buckets=[0] * (len(LATENCY_BUCKETS_S) + 1)
            )
        return numbers

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        labels: tuple[str, ...] = ("face", "operation")
        if self._readers is not None:
            labels = ("process", *labels)
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
        for at, numbers in self._all():
            for status, count in numbers.statuses.items():
                requests.add_metric((*at, str(status)), count)
            latency.add_metric(at, _cumulated(numbers.buckets), numbers.elapsed_s)
            received.add_metric(at, numbers.received_bytes)
            sent.add_metric(at, numbers.sent_bytes)
        return requests, latency, received, sent

    def _all(self) -> Iterator[tuple[tuple[str, ...], Operation]]:
        """Yield the numbers with their labels."""
        if self._readers is None:
            for numbers in self._operations.values():
                yield (numbers.face, numbers.operation), numbers
            return
        told = {name: _decode(counted) for name, counted in self._readers().items()}
        for name, operations in (KEEPER, self._operations.values()), *told.items():
            for numbers in operations:
                yield (name, numbers.face, numbers.operation), numbers


def _cumulated(buckets: list[int]) -> list[tuple[str, float]]:
    """Write a histogram as Prometheus has it: each bucket counts those below it too."""
    bounds = [*map(str, LATENCY_BUCKETS_S), "+Inf"]
    return [(bound, float(sum(buckets[: i + 1]))) for i, bound in enumerate(bounds)]
