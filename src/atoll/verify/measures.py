"""What was measured: how old answers were, how long changes took, who did not answer."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

STEPS: Final = 160
EDGES_S: Final = tuple(0.0001 * 1.12**step for step in range(STEPS))
"""Each an eighth above the last, from a tenth of a millisecond to beyond an hour."""

SHOWN_BUCKETS_S: Final = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0,
)  # fmt: skip


class Distribution:
    """How long something took, however often; percentiles are exact to an eighth."""

    __slots__ = ("_counts", "count", "largest_s", "sum_s")

    def __init__(self) -> None:
        self._counts = [0] * (STEPS + 1)
        self.count = 0
        self.sum_s = 0.0
        self.largest_s = 0.0

    def add(self, seconds: float) -> None:
        """Take in one."""
        self._counts[bisect_left(EDGES_S, seconds)] += 1
        self.count += 1
        self.sum_s += seconds
        self.largest_s = max(self.largest_s, seconds)

    def percentile(self, share: float) -> float:
        """Return what so large a share of them was at most."""
        left = share * self.count
        for edge_s, count in zip(EDGES_S, self._counts, strict=False):
            left -= count
            if left <= 0:
                return min(edge_s, self.largest_s)
        return self.largest_s

    def document(self) -> dict[str, float] | None:
        """Return the numbers for JSON; nothing if there are none."""
        if not self.count:
            return None
        return {
            "count": self.count,
            "p50_s": round(self.percentile(0.5), 4),
            "p99_s": round(self.percentile(0.99), 4),
            "max_s": round(self.largest_s, 4),
        }

    def cumulative(self) -> Iterator[tuple[str, float]]:
        """Yield how many took at most so long, for Prometheus."""
        for bound_s in SHOWN_BUCKETS_S:
            yield str(bound_s), sum(self._counts[: bisect_left(EDGES_S, bound_s) + 1])
        yield "+Inf", self.count


@dataclass(slots=True)
class PlaceMeasures:
    """What was measured at one place."""

    counts: Counter[str] = field(default_factory=Counter[str])
    """Answers by what they were: read, stale, unavailable, and so on."""
    age: Distribution = field(default_factory=Distribution)
    """What answers said of themselves."""
    behind: Distribution = field(default_factory=Distribution)
    """How long ago, at least, what was shown had been overwritten, where it had."""
    lag: Distribution = field(default_factory=Distribution)
    """From the acknowledgement of a write until it was shown here."""
    answer: Distribution = field(default_factory=Distribution)
    """How long answers took."""

    @property
    def distributions(self) -> Mapping[str, Distribution]:
        """All of them by name."""
        return {"age": self.age, "behind": self.behind, "lag": self.lag, "answer": self.answer}


class _Exported(Collector):
    """Shows everything to Prometheus."""

    def __init__(self, places: Mapping[str, PlaceMeasures], totals: Mapping[str, int]) -> None:
        self._places = places
        self._totals = totals

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        for name, count in self._totals.items():
            yield CounterMetricFamily(f"atoll_verify_{name}", f"{name} so far.", value=count)
        answers = CounterMetricFamily(
            "atoll_verify_answers", "Answers by place and kind.", labels=("place", "kind")
        )
        for place, measures in self._places.items():
            for kind, count in sorted(measures.counts.items()):
                answers.add_metric((place, kind), count)
        yield answers
        for name in PlaceMeasures().distributions:
            family = HistogramMetricFamily(
                f"atoll_verify_{name}_seconds", f"Distribution of: {name}.", labels=("place",)
            )
            for place, measures in self._places.items():
                one = measures.distributions[name]
                family.add_metric((place,), list(one.cumulative()), sum_value=one.sum_s)
            yield family


def exposition(places: Mapping[str, PlaceMeasures], totals: Mapping[str, int]) -> bytes:
    """Return everything as Prometheus reads it."""
    registry = CollectorRegistry()
    registry.register(_Exported(places, totals))
    return generate_latest(registry)
