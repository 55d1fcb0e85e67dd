"""What passes in a session between a node and its upstream: see `Upstream.follow`.

Upward go heartbeats and subscriptions; downward come changes in the order of the feed's log,
acknowledgements and echoes. The order of what comes down is the protocol: an acknowledgement or
an echo stands behind everything that was in the log when its cause arrived.
"""

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


Upward = Subscribe | Heartbeat | JournalEmpty
Downward = StartedOver | Resumed | Subscribed | Changed | Echo
