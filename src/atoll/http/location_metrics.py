"""What is measured of locations, for Prometheus: at central as they last told, or at themselves.

Both say it by the same names, with the location's own as a label, so that one set of alerts does
for whoever scrapes either.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from atoll.clock import Clock
from atoll.core.session import Status
from atoll.location.keeper import Keeper
from atoll.oversight import Oversight

MS_PER_S: Final = 1000
US_PER_S: Final = 1_000_000
PREFIX: Final = "atoll_location_"

Value = Callable[[Status, int], float | None]
"""Read from a status and central time, `None` where nobody can say."""


@dataclass(frozen=True, slots=True)
class _Gauge:
    name: str
    text: str
    value: Value


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / MS_PER_S


def _oldest_s(status: Status, now_us: int) -> float:
    oldest_us = status.journal_oldest_us
    return 0.0 if oldest_us is None else max(0, now_us - oldest_us) / US_PER_S


GAUGES: Final = (
    _Gauge(
        "feed_age_seconds",
        "How old what the feed vouches for is; absent where nobody can say.",
        lambda status, _: _seconds(status.feed_age_ms),
    ),
    _Gauge(
        "round_trip_seconds",
        "How long the last heartbeat took to the upstream and back.",
        lambda status, _: _seconds(status.round_trip_ms),
    ),
    _Gauge(
        "clock_error_seconds",
        "How far the location's reckoning of central time may lie behind.",
        lambda status, _: _seconds(status.clock_error_ms),
    ),
    _Gauge(
        "uptime_seconds",
        "How long the location's keeper has run.",
        lambda status, _: _seconds(status.uptime_ms),
    ),
    _Gauge("cache_bytes", "What the cache takes.", lambda status, _: status.cache_bytes),
    _Gauge("cache_bytes_max", "The cache's bound.", lambda status, _: status.cache_bytes_max),
    _Gauge("cache_entries", "Records in the cache.", lambda status, _: status.cache_entries),
    _Gauge(
        "journal_entries",
        "Batches of writes that wait to be delivered.",
        lambda status, _: status.journal_entries,
    ),
    _Gauge("journal_bytes", "What they take.", lambda status, _: status.journal_bytes),
    _Gauge("journal_bytes_max", "The journal's bound.", lambda status, _: status.journal_bytes_max),
    _Gauge("journal_oldest_seconds", "How long the oldest of them has waited.", _oldest_s),
    _Gauge(
        "journal_refused",
        "Batches that central refused on delivery, and that are kept.",
        lambda status, _: status.journal_refused,
    ),
)


def _families(statuses: Iterable[Status], *, now_us: int) -> Iterator[Metric]:
    """Yield what is measured of all these locations."""
    statuses = list(statuses)
    for gauge in GAUGES:
        family = GaugeMetricFamily(PREFIX + gauge.name, gauge.text, labels=("location",))
        for status in statuses:
            value = gauge.value(status, now_us)
            if value is not None:
                family.add_metric((status.location,), value)
        yield family
    reads = CounterMetricFamily(
        f"{PREFIX}reads",
        "Reads answered since the keeper started, by how the answer was come by.",
        labels=("location", "how"),
    )
    evicted = CounterMetricFamily(
        f"{PREFIX}cache_evicted", "Records let go of for room.", labels=("location",)
    )
    for status in statuses:
        reads.add_metric((status.location, "hit"), status.hits)
        reads.add_metric((status.location, "miss"), status.misses)
        reads.add_metric((status.location, "stale"), status.stale)
        reads.add_metric((status.location, "negative"), status.negative)
        evicted.add_metric((status.location,), status.cache_evicted)
    yield reads
    yield evicted


class KeeperMetrics(Collector):
    """One location, as it is."""

    def __init__(self, keeper: Keeper, registry: CollectorRegistry) -> None:
        """Be asked by `registry`."""
        self._keeper = keeper
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        keeper = self._keeper
        name = (keeper.name,)
        connected = GaugeMetricFamily(
            f"{PREFIX}connected", "Whether a session is open.", labels=("location",)
        )
        connected.add_metric(name, keeper.session.connected)
        usable = GaugeMetricFamily(
            f"{PREFIX}upstream_usable",
            "Whether calls are let through to the upstream; 0 while its breaker is open.",
            labels=("location",),
        )
        usable.add_metric(name, keeper.link_open)
        now_us = keeper.knowledge.time.central_us() or 0
        return connected, usable, *_families([keeper.telling.status()], now_us=now_us)


class CentralMetrics(Collector):
    """All locations that are registered and not forgotten, as they last told."""

    def __init__(self, oversight: Oversight, clock: Clock, registry: CollectorRegistry) -> None:
        """Be asked by `registry`."""
        self._oversight = oversight
        self._clock = clock
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        now_us = self._clock.now_us()
        known = [one for one in self._oversight.known() if not one.registered.forgotten]
        connected = GaugeMetricFamily(
            f"{PREFIX}connected", "Whether it was heard a moment ago.", labels=("location",)
        )
        behind = GaugeMetricFamily(
            f"{PREFIX}behind_changes",
            "How many changes of central's log it had not been told of when it was heard.",
            labels=("location",),
        )
        holding = GaugeMetricFamily(
            f"{PREFIX}holds_up_sweeping",
            "Whether deletions are kept because its journal may hold something older.",
            labels=("location",),
        )
        for one in known:
            name = (one.registered.name,)
            connected.add_metric(name, one.is_connected)
            holding.add_metric(name, one.holds_up_sweeping)
            if one.said is not None and one.said.behind is not None:
                behind.add_metric(name, one.said.behind)
        floor = GaugeMetricFamily(
            "atoll_sweeping_behind_seconds",
            "How old a deletion must be at least before it can be swept.",
        )
        floor.add_metric((), self._oversight.sweeping_behind_us() / US_PER_S)
        said = [one.said.status for one in known if one.said is not None]
        return connected, behind, holding, floor, *_families(said, now_us=now_us)
