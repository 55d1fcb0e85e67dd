"""What checkers know of reads, writes and places, and how they say it."""

from dataclasses import dataclass, field
from typing import Final

from atoll.core.model import AtLeast, Condition, Entry, JournalToken, Position, Presence, Reading

US_PER_S: Final = 1_000_000

DRIFT_MAX: Final = 0.0005
"""No clock is further off than this, in seconds for a second."""

NEVER_S: Final = float("inf")
NO_SEQUENCE: Final = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One committed change of one key. The first of every key says that it was missing."""

    at_s: float
    """True time of the commit."""
    sequence: int
    version: int
    value: bytes | None
    expiration: int | None
    stamped: bool
    """Whether a location had given the version when it journaled the write."""
    identity: tuple[str, bytes] | None


MISSING: Final = Row(
    at_s=0.0, sequence=0, version=0, value=None, expiration=None, stamped=False, identity=None
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A row, and until when it was the key's latest."""

    row: Row
    until_s: float
    until_sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A promise that was broken."""

    promise: str
    at_s: float
    what: str

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.promise} at {self.at_s:.3f} s: {self.what}"


@dataclass(slots=True, kw_only=True)
class Operation:
    """One write that a client wanted."""

    place: str
    namespace: str
    key: str
    value: bytes | None
    expiration: int | None
    condition: Condition | None
    asked_s: float
    answered_s: float | None = None
    version: int | None = None
    """Given by the answer."""
    token: JournalToken | None = None
    position: Position | None = None
    incarnation: int = 0
    floor: int = 0
    """A version that central had committed, in this incarnation, before the write was sent."""


@dataclass(slots=True)
class Seen:
    """What clients were shown and told of one key at one place."""

    version: int = 0
    incarnation: int = 1
    held: bool = False
    losses: int = 0
    """How often it may have been let go of."""
    gone_version: int = 0
    """The version that was seen to have expired."""
    gone_until: int = 0
    pins: dict[JournalToken, int] = field(default_factory=dict[JournalToken, int])
    """Versions of journaled writes that were shown or acknowledged here."""
    acknowledged: int = 0
    """The largest version that central acknowledged to a client here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A read, and what was already known when it was asked."""

    place: str
    namespace: str
    key: str
    asked_s: float
    bound_ms: int
    at_least: AtLeast | None
    must_refuse_stale: bool
    floor: int
    pins: tuple[tuple[JournalToken, int], ...]
    incarnation: int
    held: bool
    losses: int
    acknowledged: int
    gone_version: int
    central_us: int
    place_us: int | None
    lives: int


@dataclass(slots=True)
class PlaceState:
    """What was done to a place, as far as a checker must know."""

    above: tuple[str, ...] = ()
    """Its upstreams, up to central."""
    lives: int = 0
    cut: bool = False
    afflicted: bool = False
    """Whether anything is wrong with the place or its way to central."""
    since_eviction: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    frozen: int = 0
    frozen_until_s: float = 0.0
    told_us: int | None = None
    told_at_s: float = 0.0
    kept_us: int | None = None
    """What it must have known of the time when it was closed, and so knows ever since."""

    def frozen_since(self, since_s: float) -> bool:
        """Whether the place stood still at some moment since then."""
        return self.frozen > 0 or self.frozen_until_s >= since_s

    def told(self, central_us: int, now_s: float) -> None:
        """Learn that central's time has reached the place."""
        known = self.central_us(now_s)
        if known is None or central_us > known:
            self.told_us, self.told_at_s = central_us, now_s

    def central_us(self, now_s: float) -> int | None:
        """Return the least that the place may believe central's time to be."""
        if self.told_us is None:
            return self.kept_us
        passed = (now_s - self.told_at_s) * (1 - 2 * DRIFT_MAX)
        return max(self.told_us + int(passed * US_PER_S), self.kept_us or 0)


def live_versions(row: Row, *, from_us: int, to_us: int) -> set[int | None]:
    """Return which versions readers could see of a row in a stretch of central's time."""
    if row.value is None:
        return {None}
    if row.expiration is None:
        return {row.version}
    expires_us = row.expiration * US_PER_S
    live: set[int | None] = set()
    if from_us <= expires_us:
        live.add(row.version)
    if to_us >= expires_us:
        live.add(None)
    return live


def holds(condition: Condition | None, version: int | None) -> bool:
    """Whether a condition holds over what readers see; `None` is absence."""
    if condition is None:
        return True
    if condition is Presence.ABSENT:
        return version is None
    if condition is Presence.PRESENT:
        return version is not None
    return version == condition


def say_entry(entry: Entry | None) -> str:
    """Say what a reader was shown."""
    return "missing" if entry is None else f"{entry.value!r} version {entry.version}"


def say_row(row: Row) -> str:
    """Say what was committed."""
    if row is MISSING:
        return "missing"
    what = "deleted" if row.value is None else repr(row.value)
    until = "" if row.expiration is None else f" until {row.expiration}"
    return f"{what} version {row.version}{until} since {row.at_s:.3f} s"


def told(question: Question, reading: Reading) -> str:
    """Say what a place answered."""
    marks = [
        name
        for name, set_ in (
            ("stale", reading.stale),
            ("journaled", reading.journaled),
            ("order unknown", reading.order_unknown),
        )
        if set_
    ]
    return (
        f"{question.place} answers {question.key} as {say_entry(reading.entry)} at"
        f" {reading.position}, age {reading.age_ms} ms {' '.join(marks)}".rstrip()
    )


def wrote(operation: Operation) -> str:
    """Say what a client wanted."""
    what = "delete" if operation.value is None else repr(operation.value)
    return f"{operation.place}: write of {operation.key} {what} version {operation.version}"
