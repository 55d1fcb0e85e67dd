"""What an account used, as pages show it: bars over time, quantiles, hits, who used most."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from atoll.core.model import CENTRAL_NAME
from atoll.metering import Metering
from atoll.usage.counts import (
    HOURS_PER_DAY,
    OPERATIONS,
    READ_KINDS,
    Kind,
    Operation,
    latency_in,
    merged,
    operations_in,
)
from atoll.usage.groups import S_PER_DAY, S_PER_HOUR
from atoll.usage.histogram import quantile
from atoll.usage.ledger import Counted

US_PER_MS: Final = 1000
PERCENT: Final = 100
HEIGHT: Final = 60.0
"""How high the highest bar is."""
GAP: Final = 0.25
"""How much of a bar's place stays empty."""
PARTS: Final = (0.5, 0.95, 0.99, 0.999)

SPANS: Final[Mapping[str, int]] = {"day": HOURS_PER_DAY, "week": 7, "month": 30}
"""How many bars each has: hours of a day, else days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar of a chart, in the chart's own measures: a place is one wide."""

    x: float
    y: float
    height: float
    count: int
    begin_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Operations of one kind over time."""

    operation: str
    total: int
    bars: Sequence[Bar]
    latencies: Sequence[str]
    """Quantiles of what requests took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What was done in a span."""

    charts: Sequence[Chart]
    hit_rate: str | None
    top: Sequence[tuple[str, Mapping[Operation, int]]]
    """Namespaces by operations, the busiest first."""


async def activity(metering: Metering, account: str, span: str, *, top_max: int) -> Activity:
    """Add up what an account did lately.

    Args:
        metering: Where it is counted.
        account: Whose.
        span: One of `SPANS`, which end now.
        top_max: How many namespaces to name.
    """
    await metering.refresh()
    counted, numbers, seconds = await _span(metering, account, span)
    rates = merged(one.counts for one in counted if one.node != CENTRAL_NAME)
    reads = sum(rates.get(kind, 0) for kind in READ_KINDS)
    hits = rates.get(Kind.HIT, 0) + rates.get(Kind.NEGATIVE, 0)
    by_namespace = {
        name: operations_in(merged(one.counts for one in counted if one.namespace == name))
        for name in {one.namespace for one in counted}
    }
    return Activity(
        charts=[_chart(counted, operation, numbers, seconds) for operation in OPERATIONS],
        hit_rate=f"{PERCENT * hits / reads:.1f} %" if reads else None,
        top=sorted(by_namespace.items(), key=lambda row: (-sum(row[1].values()), row[0]))[:top_max],
    )


async def last_day(metering: Metering, account: str) -> Mapping[str, Sequence[int]]:
    """Return how many operations each namespace saw in each of the last 24 hours."""
    counted, hours, _ = await _span(metering, account, "day")
    seen: dict[str, list[int]] = {}
    for one in counted:
        row = seen.setdefault(one.namespace, [0] * len(hours))
        row[one.at - hours[0]] += sum(operations_in(one.counts).values())
    return seen


def spark(counts: Sequence[int]) -> Sequence[Bar]:
    """Return the bars of a small chart."""
    return _bars(counts, range(len(counts)), 0)


async def _span(
    metering: Metering, account: str, span: str
) -> tuple[Sequence[Counted], range, int]:
    ledger = metering.ledger
    length = SPANS[span]
    if span == "day":
        last = ledger.now_hour()
        numbers = range(last - length + 1, last + 1)
        return await ledger.by_hour(account, numbers), numbers, S_PER_HOUR
    last = ledger.now_hour() // HOURS_PER_DAY
    numbers = range(last - length + 1, last + 1)
    return await ledger.by_day(account, numbers), numbers, S_PER_DAY


def _chart(counted: Iterable[Counted], operation: Operation, numbers: range, seconds: int) -> Chart:
    counts = [0] * len(numbers)
    latencies: list[Mapping[int, int]] = []
    for one in counted:
        counts[one.at - numbers[0]] += operations_in(one.counts)[operation]
        latencies.append(latency_in(one.counts, operation))
    took = merged(latencies)
    return Chart(
        operation=operation.value,
        total=sum(counts),
        bars=_bars(counts, numbers, seconds),
        latencies=[_ms(quantile(took, part)) for part in PARTS],
    )


def _bars(counts: Sequence[int], numbers: range, seconds: int) -> Sequence[Bar]:
    most = max(counts, default=0) or 1
    return [
        Bar(
            x=at + GAP / 2,
            y=round(HEIGHT - count * HEIGHT / most, 2),
            height=round(count * HEIGHT / most, 2),
            count=count,
            begin_s=number * seconds,
        )
        for at, (number, count) in enumerate(zip(numbers, counts, strict=True))
    ]


def _ms(us: float | None) -> str:
    return "–" if us is None else f"{us / US_PER_MS:.3g} ms"  # noqa: RUF001 - a dash for nothing
