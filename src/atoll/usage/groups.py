"""Grouping what was counted by what is asked about, for analytics.

A fact is what is known of one operation, of one namespace, face and location, in one hour or day.
Groups add facts up; quantiles are of the histograms added up. Dimensions are text: dates as
`2026-11-25`, times as `2026-11-25T08:00:00Z`, so that their order is that of time.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final, cast

from atoll.usage.counts import (
    HOURS_PER_DAY,
    KINDS,
    OPERATION_OF,
    OPERATIONS,
    RECEIVED_AT,
    SENT_AT,
    US_PER_HOUR,
    Operation,
    latency_in,
    merged,
    operations_in,
)
from atoll.usage.histogram import QUANTILES, quantile
from atoll.usage.ledger import Counted, Stored

US_PER_MS: Final = 1000
US_PER_S: Final = 1_000_000
S_PER_HOUR: Final = US_PER_HOUR // US_PER_S
S_PER_DAY: Final = HOURS_PER_DAY * S_PER_HOUR

BYTES_SENT: Final = (Operation.READ, Operation.LIST)
"""Of these the object is in the answer; of the others in the request."""

Filter = Mapping[str, Any]
"""Conditions that must all hold: `date_geq`, `namespaceId_in` and so on; `AND` and `OR` nest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What is known of one operation, or of what one namespace held in one hour."""

    dimensions: Mapping[str, str]
    numbers: Mapping[str, int]
    latency: Mapping[int, int] = field(default_factory=dict[int, int])


def date_of(day: int) -> str:
    """Write a day, numbered since the Unix epoch."""
    return datetime.fromtimestamp(day * S_PER_DAY, UTC).strftime("%Y-%m-%d")


def time_of(hour: int) -> str:
    """Write the beginning of an hour, numbered since the Unix epoch."""
    return datetime.fromtimestamp(hour * S_PER_HOUR, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def operation_facts(counted: Iterable[Counted], *, hourly: bool) -> Iterator[Fact]:
    """Make facts of what was counted.

    Args:
        counted: Rows of the ledger.
        hourly: Whether they are of hours, not days.
    """
    for one in counted:
        day = one.at // HOURS_PER_DAY if hourly else one.at
        hour = one.at if hourly else day * HOURS_PER_DAY
        numbers = operations_in(one.counts)
        for at, operation in enumerate(OPERATIONS):
            if not any(one.counts.get(k) for k in KINDS if OPERATION_OF[k] is operation):
                continue
            place = SENT_AT if operation in BYTES_SENT else RECEIVED_AT
            yield Fact(
                dimensions={
                    "date": date_of(day),
                    "datetime": time_of(hour),
                    "datetimeHour": time_of(hour),
                    "namespaceId": one.namespace,
                    "actionType": operation.value,
                    "location": one.node,
                    "face": one.face,
                },
                numbers={
                    "requests": numbers[operation],
                    "objectBytes": one.counts.get(place + at, 0),
                },
                latency=latency_in(one.counts, operation),
            )


def storage_facts(stored: Iterable[Stored]) -> Iterator[Fact]:
    """Make facts of samples of what was stored."""
    for one in stored:
        yield Fact(
            dimensions={
                "date": date_of(one.hour // HOURS_PER_DAY),
                "datetime": time_of(one.hour),
                "datetimeHour": time_of(one.hour),
                "namespaceId": one.namespace,
            },
            numbers={"byteCount": one.bytes, "keyCount": one.keys},
        )


def summed(facts: Iterable[Fact], dimensions: Sequence[str]) -> list[Fact]:
    """Add facts up that have the same dimensions of some."""
    return [
        Fact(
            dimensions=dict(zip(dimensions, of, strict=True)),
            numbers={name: sum(fact.numbers[name] for fact in group) for name in group[0].numbers},
            latency=merged(fact.latency for fact in group),
        )
        for of, group in _grouped(facts, dimensions).items()
    ]


def most(facts: Iterable[Fact], dimensions: Sequence[str]) -> list[Fact]:
    """Return the most that was stored at any hour, namespaces of one group added up."""
    by_hour = summed(facts, tuple(dict.fromkeys((*dimensions, "datetimeHour"))))
    return [
        Fact(
            dimensions=dict(zip(dimensions, of, strict=True)),
            numbers={name: max(fact.numbers[name] for fact in group) for name in group[0].numbers},
        )
        for of, group in _grouped(by_hour, dimensions).items()
    ]


def _grouped(facts: Iterable[Fact], dimensions: Sequence[str]) -> dict[tuple[str, ...], list[Fact]]:
    groups: dict[tuple[str, ...], list[Fact]] = {}
    for fact in facts:
        of = tuple(fact.dimensions[name] for name in dimensions)
        groups.setdefault(of, []).append(fact)
    return groups


def quantiles_of(latency: Mapping[int, int]) -> dict[str, float]:
    """Return quantiles of what requests took, in milliseconds, by their names."""
    return {
        f"latencyMs{name}": (quantile(latency, part) or 0.0) / US_PER_MS
        for name, part in QUANTILES.items()
    }


COMPARISONS: Final[Mapping[str, Callable[[str, Any], bool]]] = {
    "": lambda fact, given: fact == given,
    "_neq": lambda fact, given: fact != given,
    "_gt": lambda fact, given: fact > given,
    "_geq": lambda fact, given: fact >= given,
    "_lt": lambda fact, given: fact < given,
    "_leq": lambda fact, given: fact <= given,
    "_in": lambda fact, given: fact in given,
    "_notin": lambda fact, given: fact not in given,
}


def holds(condition: Filter, dimensions: Mapping[str, str]) -> bool:
    """Whether a fact is asked for."""
    for name, given in condition.items():
        if name == "AND":
            if not all(holds(part, dimensions) for part in cast("list[Filter]", given)):
                return False
        elif name == "OR":
            if not any(holds(part, dimensions) for part in cast("list[Filter]", given)):
                return False
        else:
            dimension, _, _ = name.partition("_")
            if not COMPARISONS[name.removeprefix(dimension)](dimensions[dimension], given):
                return False
    return True


def names_in(condition: Filter) -> Iterator[str]:
    """Yield the dimensions that a filter looks at."""
    for name, given in condition.items():
        if name in {"AND", "OR"}:
            for part in cast("list[Filter]", given):
                yield from names_in(part)
        else:
            yield name.partition("_")[0]


def days_asked(condition: Filter, *, first: int, last: int) -> tuple[int, int]:
    """Return the first and the last day that a filter can hold for.

    Args:
        condition: The filter; what stands under `OR` narrows nothing.
        first: The earliest that there is.
        last: The latest that there is.
    """
    for name, given in condition.items():
        if name == "AND":
            for part in cast("list[Filter]", given):
                first, last = days_asked(part, first=first, last=last)
        if not name.startswith("date") or not isinstance(given, str):
            continue
        day = (date.fromisoformat(given[:10]) - date(1970, 1, 1)).days
        _, _, how = name.partition("_")
        if how in {"", "geq", "gt"}:
            first = max(first, day)
        if how in {"", "leq", "lt"}:
            last = min(last, day)
    return first, last
