"""What is counted of requests, by one process or by all of a location."""

from prometheus_client import CollectorRegistry, generate_latest

from atoll.http.metrics import Readers, RequestMetrics


def counting(registry: CollectorRegistry, *, readers: Readers | None = None) -> RequestMetrics:
    """Count one request."""
    metrics = RequestMetrics(registry, readers=readers)
    metrics.of("v1", "get").count(200, elapsed_s=0.01, received_bytes=1, sent_bytes=2)
    return metrics


def test_a_process_by_itself_does_not_say_which_it_is() -> None:
    """Series have no label that nobody needs."""
    registry = CollectorRegistry()
    counting(registry)

    shown = generate_latest(registry).decode()

    series = 'atoll_http_requests_total{face="v1",operation="get",status="200"} 1.0'
    assert series in shown


def test_a_keeper_shows_what_each_process_counted() -> None:
    """A reader that begins anew begins its own series anew, and nobody else's."""
    reader = counting(CollectorRegistry())
    told = {"reader-1": reader.counted(), "reader-2": reader.counted()}
    registry = CollectorRegistry()
    counting(registry, readers=lambda: told)

    for name, number in (("keeper", 1), ("reader-1", 1), ("reader-2", 1)):
        labels = f'face="v1",operation="get",process="{name}",status="200"'
        shown = generate_latest(registry).decode()
        assert f"atoll_http_requests_total{{{labels}}} {number}.0" in shown
    reader.of("v1", "get").count(404, elapsed_s=0.2, received_bytes=0, sent_bytes=5)
    told["reader-1"] = reader.counted()
    shown = generate_latest(registry).decode()
    labels = 'face="v1",operation="get",process="reader-1"'
    assert f"atoll_http_sent_bytes_total{{{labels}}} 7.0" in shown
    assert f"atoll_http_request_seconds_count{{{labels}}} 2.0" in shown
