"""What is counted of operations, as numbers that only add up.

A row of counts belongs to one hour, namespace and face of one node. It is a table of numbers by
their place, of which most are 0 and left out; two rows are merged by adding number to number.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from atoll.core.model import CacheStatus, Reading
from atoll.usage.histogram import BUCKETS

US_PER_HOUR: Final = 3_600_000_000
HOURS_PER_DAY: Final = 24


class Operation(StrEnum):
    """What is billed. Each key of a bulk is one, a page of a listing is one."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    LIST = "list"


OPERATIONS: Final = tuple(Operation)


class Kind(IntEnum):
    """What an operation came to; for a read, how it was answered."""

    HIT = 0
    MISS_FOUND = 1
    MISS_MISSING = 2
    STALE_FOUND = 3
    STALE_MISSING = 4
    NEGATIVE = 5
    WRITE = 6
    DELETE = 7
    LIST = 8


KINDS: Final = tuple(Kind)
READ_KINDS: Final = KINDS[: Kind.WRITE]

OPERATION_OF: Final[Mapping[Kind, Operation]] = {
    **dict.fromkeys(READ_KINDS, Operation.READ),
    Kind.WRITE: Operation.WRITE,
    Kind.DELETE: Operation.DELETE,
    Kind.LIST: Operation.LIST,
}
NUMBER_OF: Final = tuple(OPERATIONS.index(OPERATION_OF[kind]) for kind in KINDS)
"""By kind, the place of its operation among the operations."""

RECEIVED_AT: Final = len(KINDS)
"""Where the bytes of bodies received begin, one number for each operation."""
SENT_AT: Final = RECEIVED_AT + len(OPERATIONS)
LATENCY_AT: Final = SENT_AT + len(OPERATIONS)
"""Where the histograms of what requests took begin, in microseconds: one request is one value,
however many keys it names."""
AGES_AT: Final = LATENCY_AT + len(OPERATIONS) * BUCKETS
"""Where the histogram of ages of answers begins, in milliseconds: one key is one value."""
WORDS: Final = AGES_AT + BUCKETS

Counts = Mapping[int, int]
"""Numbers by their place, those that are not 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowKey:
    """What a row of counts is about, at one node."""

    hour: int
    """Whole hours since the Unix epoch, in central time."""
    face: str
    account: str
    namespace: str


def kind_of(reading: Reading) -> Kind:
    """Return what a read came to."""
    found = reading.entry is not None
    match reading.cache:
        case CacheStatus.HIT | CacheStatus.NEGATIVE:
            return Kind.HIT if found else Kind.NEGATIVE
        case CacheStatus.MISS:
            return Kind.MISS_FOUND if found else Kind.MISS_MISSING
        case CacheStatus.STALE:
            return Kind.STALE_FOUND if found else Kind.STALE_MISSING


def hour_of(now_us: int) -> int:
    """Return the hour that a time is in."""
    return now_us // US_PER_HOUR


def merged(rows: Iterable[Counts]) -> dict[int, int]:
    """Add rows up."""
    total: dict[int, int] = {}
    for row in rows:
        for place, number in row.items():
            total[place] = total.get(place, 0) + number
    return total


def operations_in(counts: Counts) -> dict[Operation, int]:
    """Return how many operations of each kind are counted."""
    total = dict.fromkeys(OPERATIONS, 0)
    for kind in KINDS:
        total[OPERATION_OF[kind]] += counts.get(kind, 0)
    return total


def latency_in(counts: Counts, operation: Operation) -> dict[int, int]:
    """Return the histogram of what requests took, in microseconds."""
    return dict(_part(counts, LATENCY_AT + OPERATIONS.index(operation) * BUCKETS))


def ages_in(counts: Counts) -> dict[int, int]:
    """Return the histogram of ages of answers, in milliseconds."""
    return dict(_part(counts, AGES_AT))


def _part(counts: Counts, start: int) -> Iterator[tuple[int, int]]:
    for place, number in counts.items():
        if start <= place < start + BUCKETS:
            yield place - start, number
