"""The values that nodes exchange: positions, entries, mutations, and the answers to requests.

Keys are `str` here and UTF-8 on disk and on the wire; code-point order and the order of the
UTF-8 bytes are the same order, so either may be compared. Values are `bytes`, or a `LargeValue`
where more than a mebibyte would have to be held. Metadata is compact JSON in UTF-8. Expirations
are whole seconds since the Unix epoch.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, Protocol, Self

from atoll.core.errors import ParameterInvalidError
from atoll.core.version import NO_VERSION, Version

SYSTEM_NAMESPACE: Final = "0" * 32
"""The reserved namespace in which accounts, tokens, namespaces and settings are entries."""

USAGE_NAMESPACE: Final = "0" * 31 + "1"
"""The reserved namespace of what was counted; no location subscribes to it."""

INCARNATION_HEX_DIGITS: Final = 16
SEQUENCE_DIGITS_MAX: Final = 18
JOURNAL_MARK: Final = "j-"

VALUE_INLINE_BYTES_MAX: Final = 2**20
"""Larger values are handed around as a `LargeValue`, so that few of them are in memory at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A place in central's feed log. Every answer says at which position it was true."""

    incarnation: int
    sequence: int

    def __str__(self) -> str:
        """Encode for a header; opaque to clients."""
        return f"{self.incarnation:0{INCARNATION_HEX_DIGITS}x}-{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Decode what `str` wrote.

        Raises:
            ParameterInvalidError: `text` is not a position.
        """
        head, dash, tail = text.partition("-")
        if (
            dash
            and len(head) == INCARNATION_HEX_DIGITS
            and all(c in "0123456789abcdef" for c in head)
            and 0 < len(tail) <= SEQUENCE_DIGITS_MAX
            and tail.isascii()
            and tail.isdecimal()
        ):
            return cls(incarnation=int(head, 16), sequence=int(tail))
        raise ParameterInvalidError(
            name="position",
            given=text,
            rule="Pass the Atoll-Position of an earlier answer, unchanged.",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalToken:
    """A place in a location's journal: what a write that was only journaled answers with.

    It is met at that location at once, and elsewhere once the journal was delivered that far.
    """

    location: str
    sequence: int

    def __str__(self) -> str:
        """Encode for a header; no position has the letter in front."""
        return f"{JOURNAL_MARK}{self.location}-{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Decode what `str` wrote.

        Raises:
            ParameterInvalidError: `text` is not a place in a journal.
        """
        location, dash, tail = text.removeprefix(JOURNAL_MARK).rpartition("-")
        if (
            text.startswith(JOURNAL_MARK)
            and dash
            and location
            and 0 < len(tail) <= SEQUENCE_DIGITS_MAX
            and tail.isascii()
            and tail.isdecimal()
        ):
            return cls(location=location, sequence=int(tail))
        raise ParameterInvalidError(
            name="position",
            given=text,
            rule="Pass the Atoll-Position of an earlier answer, unchanged.",
        )


AtLeast = Position | JournalToken


def parse_at_least(text: str) -> AtLeast:
    """Read what `Atoll-At-Least` carries; see the two `parse` for the errors."""
    if text.startswith(JOURNAL_MARK):
        return JournalToken.parse(text)
    return Position.parse(text)


class LargeValue(Protocol):
    """A value that is read piece by piece. It stays readable for as long as it is referenced."""

    @property
    def size_bytes(self) -> int:
        """The size of the whole value."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the value in order, in pieces of at most `VALUE_INLINE_BYTES_MAX` bytes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One write to one key, a deletion included: its value is then `None`, a tombstone."""

    key: str
    version: Version
    value: bytes | LargeValue | None
    metadata: bytes | None = None
    expiration: int | None = None
    sequence: int = 0
    """Where in the feed's log the write stands."""


class Presence(StrEnum):
    """Conditions that ask whether a key exists, whatever its version."""

    PRESENT = "present"
    ABSENT = "absent"


Condition = Version | Presence


class Mutation(NamedTuple):
    """A write that somebody wants. `core.rules` makes them from what a request says.

    A named tuple where the other values are dataclasses: a bulk makes ten thousand of them, and
    these take half the time. Name the fields all the same.
    """

    key: str
    value: bytes | None
    """`None` deletes."""
    metadata: bytes | None = None
    expiration: int | None = None
    condition: Condition | None = None
    stamp: Version | None = None
    """The version a location gave when it journaled the write; else central stamps it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Names a batch, so that sending it again is safe: it applies once, with one outcome.

    Two kinds share the form. A location numbers its writes and says below which number all are
    resolved; those outcomes are forgotten, and a number below is refused. A client's
    `Idempotency-Key` has no order; its outcome is kept for a stated time.
    """

    origin: str
    """Whose names these are: a location, or a principal that sent an `Idempotency-Key`."""
    name: bytes
    """Unique for the origin. A location's are 8 bytes, big-endian, so that they sort."""
    lowest_unresolved: bytes | None = None
    """Only from locations: every name below is resolved at the sender."""
    fingerprint: bytes = b""
    """A digest of the request, so that one key cannot stand for two requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Mutations of one namespace that apply in one transaction.

    If any condition in it does not hold, none of it applies. Of two mutations of one key the
    later wins.
    """

    namespace: str
    mutations: Sequence[Mutation]
    identity: Identity | None = None
    deadline_us: int | None = None
    """Central time after which central refuses the batch instead of applying it."""
    rate_limited: bool = False
    """Whether the rule of one write a second per key counts here; see `Limits`."""
    journal_allowed: bool = True
    """Whether a location that cannot reach central may take it into its journal."""
    clock: Version = NO_VERSION
    """The sender's hybrid clock: whoever receives the batch stamps later than this."""
    token: JournalToken | None = None
    """The journal entry that this batch delivers; its mutations carry their stamps."""
    heard_us: int | None = None
    """With stamps: the last central time that the location had heard when it gave them."""


class OutcomeKind(StrEnum):
    """What became of a mutation."""

    APPLIED = "applied"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one mutation, and what the key's record was in that same transaction."""

    kind: OutcomeKind
    version: Version
    """The mutation's own version if it was applied, else the one that it lost to."""
    current: Entry | None = None
    """The key's record. `None` says that it is this very mutation, as applied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The answer to a batch."""

    outcomes: Sequence[Outcome]
    position: Position
    """Knowledge at or after this position includes the batch."""
    repeated: bool = False
    """The batch had been applied before; these are its first outcomes.

    Each `Outcome.current` is then what is there now, and `None` says that nothing is.
    """
    token: JournalToken | None = None
    """Set when the batch is in a location's journal and central has not seen it yet.

    The outcomes are then what the location expects, and `position` says nothing.
    """

    @property
    def journaled(self) -> bool:
        """Whether only the location that answered has it."""
        return self.token is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A request for one key or, in `read_many`, several of one namespace."""

    namespace: str
    keys: Sequence[str]
    age_ms_max: int | None = None
    """How old the knowledge may be. `None`: the namespace's own bound; 0: ask central."""
    stale_ms_max: int | None = None
    """How far beyond its bound an answer may be where central cannot be asked.

    `None`: any; 0: rather refuse.
    """
    at_least: AtLeast | None = None
    """Only knowledge at or after this place will do."""
    held_only: bool = False
    """Whether only what the location holds will do: it answers as if it could not ask."""


class CacheStatus(StrEnum):
    """How a node came by an answer."""

    HIT = "hit"
    MISS = "miss"
    """It asked further up, or is central."""
    STALE = "stale"
    """Held, and older than the bound or known to be superseded, but central cannot be asked."""
    NEGATIVE = "negative"
    """Held, and what is held is that the key is missing."""


CENTRAL_NAME: Final = "central"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is known of one key: its entry, or `None` when it is missing, and since when."""

    entry: Entry | None
    position: Position
    """Says nothing if `token` is set."""
    age_ms: int | None = 0
    """How old, at most, this knowledge was when the request arrived; `None`: nobody can say."""
    stale: bool = False
    """It is past the bound asked for, or known to be superseded, and central was out of reach."""
    order_unknown: bool = False
    """The node lost its cache or its upstream: it may have told of something newer before."""
    token: JournalToken | None = None
    """Set when this is a write that central has not acknowledged yet."""
    buried: Version | None = None
    """The version of the tombstone or of what has expired, where one is known, for nodes below."""
    cache: CacheStatus = CacheStatus.MISS
    node: str = CENTRAL_NAME
    """Who answered."""

    @property
    def journaled(self) -> bool:
        """Whether this is a write that central has not acknowledged yet."""
        return self.token is not None


class Include(StrEnum):
    """What a page of a listing carries."""

    KEYS = "keys"
    VALUES = "values"
    COUNT = "count"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """A request for one page of the live keys of a namespace, in the order of their bytes."""

    namespace: str
    prefix: str = ""
    after: str | None = None
    """Start behind this key."""
    limit: int = 1000
    include: Include = Include.KEYS
    values_bytes_max: int = 0
    """With `Include.VALUES`: end the page before its values exceed this, one entry at least."""
    at_least: AtLeast | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One live key in a page."""

    key: str
    version: Version
    size_bytes: int
    metadata: bytes | None = None
    expiration: int | None = None
    value: bytes | None = None
    """With `Include.VALUES`, unless it is larger than `VALUE_INLINE_BYTES_MAX`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a listing. Only the last may be empty."""

    items: Sequence[Listed]
    count: int
    """How many keys the page stands for; with `Include.COUNT` there are no items."""
    after: str | None
    """Where the next page starts behind; `None` on the last."""
    position: Position
