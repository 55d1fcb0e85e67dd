"""What is counted of requests, for Prometheus."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

LATENCY_BUCKETS_S: Final = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
)  # fmt: skip


class RequestMetrics:
    """Counters of one node's requests. Names of labels come from the code, never from a caller."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register with `registry`."""
        self._requests = Counter(
            "atoll_http_requests",
            "Requests answered, by face, operation and status.",
            ("face", "operation", "status"),
            registry=registry,
        )
        self._latency = Histogram(
            "atoll_http_request_seconds",
            "Time from a request's headers to the end of its answer.",
            ("face", "operation"),
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._received = Counter(
            "atoll_http_received_bytes", "Bytes of bodies received.", ("face",), registry=registry
        )
        self._sent = Counter(
            "atoll_http_sent_bytes", "Bytes of bodies sent.", ("face",), registry=registry
        )
        # Looking children up by label costs more than counting, so they are kept.
        self._children: dict[tuple[str, str, int], _Children] = {}

    def count(
        self,
        *,
        face: str,
        operation: str,
        status: int,
        elapsed_s: float,
        received_bytes: int,
        sent_bytes: int,
    ) -> None:
        """Count a request that was answered."""
        children = self._children.get((face, operation, status))
        if children is None:
            children = (
                self._requests.labels(face, operation, str(status)),
                self._latency.labels(face, operation),
                self._received.labels(face),
                self._sent.labels(face),
            )
            self._children[face, operation, status] = children
        requests, latency, received, sent = children
        requests.inc()
        latency.observe(elapsed_s)
        if received_bytes:
            received.inc(received_bytes)
        if sent_bytes:
            sent.inc(sent_bytes)


_Children = tuple[Counter, Histogram, Counter, Counter]
