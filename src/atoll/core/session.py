"""What passes in a session between a node and its upstream: see `Upstream.follow`.

Upward go heartbeats, subscriptions, and what a location says of itself; downward come changes in
the order of the feed's log, acknowledgements, echoes and questions. The order of what comes down is
the protocol: an acknowledgement or an echo stands behind everything that was in the log when its
cause arrived.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from atoll.core.model import Entry, Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Opens a session, perhaps where an earlier one ended."""

    resume_after: Position | None = None
    namespaces: frozenset[str] = frozenset()
    """What was subscribed at `resume_after`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    """Asks for the changes of a namespace from now on."""

    namespace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """Asks for an `Echo`."""

    instant_ms: int
    """The sender's own elapsed clock; it means nothing to the receiver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEmpty:
    """Says that whatever a location will ever deliver is stamped later than this."""

    location: str
    as_of_us: int
    """Central time, in microseconds since the Unix epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Says how a location is: for operators, and nothing is decided by it."""

    location: str
    software: str
    """The release that runs there."""
    uptime_ms: int
    """How long its keeper has run; what is counted below is counted since then."""
    position: Position
    """What its feed vouches for."""
    feed_age_ms: int | None
    """How old what the feed vouches for is; `None` where nobody can say."""
    round_trip_ms: int | None
    """How long the last heartbeat took to its upstream and back; `None` before the first."""
    clock_error_ms: int | None
    """How far its reckoning of central time may lie behind; `None` where nobody can say."""
    cache_bytes: int
    cache_bytes_max: int
    cache_entries: int
    cache_evicted: int
    journal_entries: int
    """How many batches wait to be delivered."""
    journal_bytes: int
    journal_bytes_max: int
    journal_oldest_us: int | None
    """When the oldest that waits was stamped; `None` if nothing waits."""
    journal_refused: int
    """How many were refused on delivery and are kept."""
    hits: int
    misses: int
    stale: int
    negative: int
    via: Sequence[str] = ()
    """The locations between it and central, from central's side; each that relays adds itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Answers `Asked`: what a location holds of a key."""

    number: int
    """That of the question."""
    location: str
    position: Position | None = None
    """Where what it holds is known to be true; `None` if it holds nothing."""
    version: int | None = None
    """Of the entry, or of the tombstone; `None` where there is none."""
    missing: bool = False
    """Whether it holds that the key is missing."""
    age_ms: int | None = None
    """How old what it holds is; `None` where nobody can say."""
    stale: bool = False
    """Whether that is past the location's bound, or superseded."""
    pinned: int | None = None
    """The version of a write in its journal that it shows instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedOver:
    """The session begins anew at `position`: nothing is subscribed any more."""

    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """The session goes on behind `Hello.resume_after`, with the subscriptions named there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribed:
    """From `position` on every change of the namespace is told."""

    namespace: str
    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A key was written.

    Of several writes to one key that were committed close together only the last may be told.
    """

    namespace: str
    entry: Entry
    position: Position
    value_included: bool
    """Whether `entry.value` is the value. Where it was left out, for its size or because the node
    that tells does not hold it, `entry.value` is empty, and `None` for a deletion all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """Answers a heartbeat, behind everything that was in the log when it arrived."""

    instant_ms: int
    position: Position
    central_us: int | None
    """Central time, in microseconds since the Unix epoch; `None` at a location without one."""
    age_ms: int | None = 0
    """How old the upstream's own knowledge was; 0 at central, `None` where nobody can say."""
    error_ms: int | None = 0
    """How far `central_us` may lie behind; 0 at central, `None` where nobody can say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Asks every location below what it holds of a key."""

    number: int
    """Given by central, and not again; stands in the answers."""
    namespace: str
    key: str


Upward = Subscribe | Heartbeat | JournalEmpty | Status | Held
Downward = StartedOver | Resumed | Subscribed | Changed | Echo | Asked
