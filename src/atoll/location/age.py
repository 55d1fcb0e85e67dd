"""Freshness, as pure functions: what a location knows of a key, and since when it knows it.

Two clocks never meet here. An *instant* is a reading of this location's own elapsed clock, and a
*sequence* is a place in central's log. A record was true at its sequence and known to be current as
of its instant: the sending of the question whose answer it was, less the age that the answer came
with. What the feed covers is also current as of the feed's own instant: the sending of the last
heartbeat whose echo came back, behind everything that was in the log when it arrived.
"""

from dataclasses import dataclass, field
from typing import Final

from atoll.core.model import Entry

NEVER: Final = -(2**62)
"""The instant of what was never known, or under another boot, so long ago that no bound is met."""

AGE_UNKNOWN_BELOW: Final = NEVER // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is held of one key."""

    entry: Entry | None
    """A tombstone when the key is missing, or `None` when no version is known for that."""
    sequence: int
    instant_ms: int
    superseded: bool = False
    """A later change is known of, but not its value: the next read asks."""
    uncovered: bool = False
    """The feed may have told of a later change before this record came: only its fetch counts."""


@dataclass(slots=True, kw_only=True)
class Feed:
    """What the session with the upstream vouches for."""

    applied: int = 0
    """The sequence at which it vouches for what it covers."""
    told: int = 0
    """The sequence of the last change told. It vouches for less until the next echo: of two
    changes of a key only the later is told, and that may be still to come."""
    instant_ms: int = NEVER
    subscribed: dict[str, int] = field(default_factory=dict[str, int])
    """The namespaces subscribed in this epoch, each with the sequence of its acknowledgement."""

    def start_over(self, applied: int) -> None:
        """Begin an epoch at `applied`: nothing older is covered.

        Its instant begins anew too: after a switch, the new upstream may be behind the old one,
        and what it acknowledges says nothing about what the old one had told by then.
        """
        self.subscribed.clear()
        self.applied = self.told = applied
        self.instant_ms = NEVER

    def echo(self, *, instant_ms: int, sequence: int) -> None:
        """Learn that all up to `sequence` had been told as of `instant_ms`."""
        self.instant_ms = max(self.instant_ms, instant_ms)
        self.vouch(sequence)

    def vouch(self, sequence: int) -> None:
        """Learn that all up to `sequence` had been told."""
        self.applied = max(self.applied, sequence)
        self.told = max(self.told, sequence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """As of when, and at which sequence, a record is known to be true."""

    instant_ms: int
    sequence: int

    def age_ms(self, asked_ms: int) -> int | None:
        """Return how old this was when the question came, `None` when nobody can say."""
        if self.instant_ms < AGE_UNKNOWN_BELOW:
            return None
        return max(0, asked_ms - self.instant_ms)


def known(record: Record, namespace: str, feed: Feed) -> Known:
    """Return what is known of `record` now, the feed's part in it included.

    The feed vouches for a record only if its namespace was subscribed before the record was
    read: a change between the reading and the subscription would not have been told.
    """
    since = feed.subscribed.get(namespace)
    if since is None or record.superseded or record.uncovered or record.sequence < since:
        return Known(instant_ms=record.instant_ms, sequence=record.sequence)
    return Known(
        instant_ms=max(record.instant_ms, feed.instant_ms),
        sequence=max(record.sequence, feed.applied),
    )


def within(instant_ms: int, *, asked_ms: int, age_ms_max: int) -> bool:
    """Whether what was current as of `instant_ms` answers a question with that bound."""
    return instant_ms >= asked_ms - age_ms_max
