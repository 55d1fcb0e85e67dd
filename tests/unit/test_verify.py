"""Each checker over what a mere client knows: it lets pass what may be, and accuses what cannot."""

from dataclasses import dataclass, field

import pytest

from atoll.checking.checks import PROMISES, Checker
from atoll.checking.facts import US_PER_S, Operation, PlaceState
from atoll.core.errors import RemoteError
from atoll.core.model import (
    AtLeast,
    Entry,
    JournalToken,
    Outcome,
    OutcomeKind,
    Position,
    Reading,
    Written,
)
from atoll.core.version import Version
from atoll.verify.evidence import Evidence
from atoll.verify.time import NOT_KNOWN_US, CentralTime

NS, KEY, LIFE = "1" * 32, "k", 7
NOW_US = 1_800_000_000 * US_PER_S
TOKEN = JournalToken(location="LHR~1", sequence=1)


def at(sequence: int) -> Position:
    """Return a position."""
    return Position(incarnation=LIFE, sequence=sequence)


@dataclass
class Watcher:
    """Somebody who writes and reads at one place."""

    evidence: Evidence = field(default_factory=lambda: Evidence(LIFE))
    checker: Checker = field(init=False)

    def __post_init__(self) -> None:
        """Know one location and central."""
        self.checker = Checker(self.evidence, incarnation=LIFE)
        self.checker.places = {"central": PlaceState(), "LHR": PlaceState(above=("central",))}
        self.evidence.names["LHR"] = "LHR"

    def write(
        self,
        value: bytes | None,
        version: int,
        *,
        sequence: int = 0,
        at_s: float,
        token: JournalToken | None = None,
        expiration: int | None = None,
    ) -> None:
        """Write at the location, and be answered a tenth of a second later."""
        operation = Operation(
            place="LHR",
            namespace=NS,
            key=KEY,
            value=value,
            expiration=expiration,
            condition=None,
            asked_s=at_s,
        )
        self.checker.writing(operation)
        self.evidence.wanted(operation)
        outcome = Outcome(kind=OutcomeKind.APPLIED, version=Version(version))
        written = Written(outcomes=(outcome,), position=at(sequence), token=token)
        self.evidence.accepted(operation, written, now_s=at_s + 0.1)
        self.checker.acknowledged(operation, written, now_s=at_s + 0.1)

    def read(
        self,
        value: bytes | None,
        version: int = 0,
        *,
        sequence: int = 0,
        at_s: float,
        age_ms: int | None = 0,
        stale: bool = False,
        strict: bool = False,
        bound_ms: int = 60_000,
        at_least: AtLeast | None = None,
        expiration: int | None = None,
        central_us: int = 0,
    ) -> None:
        """Read at the location, and be answered at once."""
        question = self.checker.asking(
            "LHR",
            NS,
            KEY,
            now_s=at_s,
            central_us=central_us,
            bound_ms=bound_ms,
            at_least=at_least,
            must_refuse_stale=strict,
        )
        entry = None
        if value is not None:
            entry = Entry(key=KEY, version=Version(version), value=value, expiration=expiration)
        reading = Reading(
            entry=entry, position=at(sequence), age_ms=age_ms, stale=stale, node="LHR"
        )
        self.checker.answered(question, reading, now_s=at_s, central_us=central_us or NOW_US)
        self.evidence.read(NS, KEY, reading, now_s=at_s)

    @property
    def broken(self) -> set[str]:
        """Which checkers found something."""
        return {one.promise for one in self.checker.violations}


@pytest.fixture
def watcher() -> Watcher:
    """Return one who wrote twice: the first at 10 s and place 5, the second at 20 s and 9."""
    watcher = Watcher()
    watcher.write(b"one", 100, sequence=5, at_s=10.0)
    watcher.write(b"two", 200, sequence=9, at_s=20.0)
    assert watcher.broken == set()
    return watcher


def test_what_may_be_is_let_pass(watcher: Watcher) -> None:
    """Between two writes it may be either; what is old says so."""
    watcher.read(b"two", 200, sequence=9, at_s=20.2)
    watcher.read(b"two", 200, sequence=30, at_s=50.0, age_ms=1000)

    assert watcher.broken == set()


def test_a_lost_write_is_noticed(watcher: Watcher) -> None:
    """At a position behind an acknowledged write stands what was before it."""
    watcher.read(b"one", 100, sequence=12, at_s=30.0, age_ms=29_000)

    assert "truth" in watcher.broken


def test_a_write_under_an_earlier_version_is_noticed(watcher: Watcher) -> None:
    """Of two acknowledged writes the later has to win."""
    watcher.write(b"three", 150, sequence=12, at_s=30.0)

    assert watcher.broken == {"last write wins"}


def test_a_journaled_write_may_not_become_later(watcher: Watcher) -> None:
    """It would win over what central accepted after it."""
    watcher.write(b"three", 300, at_s=30.0, token=TOKEN)
    watcher.read(b"three", 400, sequence=12, at_s=40.0)

    assert watcher.broken == {"truth"}


def test_going_back_is_noticed(watcher: Watcher) -> None:
    """Who wrote here, or was shown something, is not shown what was before."""
    watcher.read(b"one", 100, sequence=8, at_s=30.0, age_ms=29_000)

    assert watcher.broken == {"order"}


def test_a_journaled_write_that_vanishes_is_noticed(watcher: Watcher) -> None:
    """It is shown where it was taken, until something later is."""
    watcher.write(b"three", 300, at_s=30.0, token=TOKEN)
    watcher.read(b"two", 200, sequence=9, at_s=31.0)

    assert watcher.broken == {"order"}


def test_a_position_that_is_not_met_is_noticed(watcher: Watcher) -> None:
    """Also that of a journal, once it is said to have been delivered."""
    watcher.read(b"two", 200, sequence=9, at_s=30.0, at_least=at(10))
    watcher.write(b"three", 300, at_s=40.0, token=TOKEN)
    watcher.read(b"two", 200, sequence=12, at_s=41.0, at_least=TOKEN)

    assert watcher.broken == {"at least", "order"}


@pytest.mark.parametrize(
    ("age_ms", "stale", "strict", "broken"),
    [
        (2000, False, False, {"staleness"}),  # Past the bound, and unmarked.
        (None, False, False, {"staleness"}),
        (2000, True, True, {"honesty"}),  # It should have refused.
        (2000, True, False, set[str]()),
        (1000, False, False, set[str]()),
    ],
)
def test_a_bound_is_kept_or_marked(
    watcher: Watcher, age_ms: int | None, broken: set[str], *, stale: bool, strict: bool
) -> None:
    """A demand is met or refused; a preference is met or marked."""
    watcher.read(
        b"two", 200, sequence=9, at_s=30.0, age_ms=age_ms, stale=stale, strict=strict, bound_ms=1000
    )

    assert watcher.broken == broken


def test_an_age_that_is_too_small_is_noticed() -> None:
    """What was overwritten ten seconds ago is not five seconds old."""
    watcher = Watcher()
    watcher.write(b"one", 100, sequence=5, at_s=10.0)
    watcher.write(b"two", 200, sequence=9, at_s=20.0)
    watcher.checker.seen("LHR", NS, KEY).version = 0  # As at a place where nobody wrote.
    watcher.read(b"one", 100, sequence=8, at_s=30.0, age_ms=11_000)
    assert watcher.broken == set()

    watcher.read(b"one", 100, sequence=8, at_s=30.0, age_ms=5000)

    assert watcher.broken == {"staleness"}


def test_expiry_is_held_to_both_sides(watcher: Watcher) -> None:
    """Not hidden before, not shown behind, and never again."""
    end = NOW_US // US_PER_S + 100
    watcher.write(b"three", 300, sequence=12, at_s=30.0, expiration=end)
    watcher.read(None, sequence=12, at_s=31.0, central_us=NOW_US)
    early = watcher.checker.violations[:]
    watcher.read(b"three", 300, sequence=12, at_s=32.0, expiration=end)

    assert [one.promise for one in early] == ["expiry"]
    assert len(watcher.checker.violations) == 2
    assert watcher.broken == {"expiry"}


def test_a_refusal_of_what_is_held_is_noticed(watcher: Watcher) -> None:
    """Unless it may have been lost since."""
    error = RemoteError(status=503, remote_code="cut_off", message="cut off")
    watcher.read(b"two", 200, sequence=9, at_s=30.0)
    for lost in (True, False):
        if lost:
            watcher.checker.not_held("LHR")
        question = watcher.checker.asking(
            "LHR",
            NS,
            KEY,
            now_s=31.0,
            central_us=0,
            bound_ms=60_000,
            at_least=None,
            must_refuse_stale=False,
        )
        watcher.checker.refused(question, error, now_s=31.0)
        assert ("availability" in watcher.broken) is not lost
        watcher.read(b"two", 200, sequence=9, at_s=32.0)


def test_a_deletion_that_nobody_answered_explains_an_absence(watcher: Watcher) -> None:
    """It may have been applied at any time; nothing else may be missing."""
    watcher.read(None, sequence=12, at_s=30.0)
    assert watcher.broken == {"truth"}

    other = Watcher()
    other.write(b"one", 100, sequence=5, at_s=10.0)
    other.evidence.wanted(
        Operation(
            place="LHR",
            namespace=NS,
            key=KEY,
            value=None,
            expiration=None,
            condition=None,
            asked_s=20.0,
            floor=100,
        )
    )
    other.read(None, sequence=12, at_s=30.0)
    assert other.broken == set()


def test_central_s_time_is_bounded_by_its_versions() -> None:
    """From both sides, and not for long."""
    time = CentralTime()
    assert (time.least_us(0.0), time.most_us(0.0)) == (0, NOT_KNOWN_US)

    time.stamped(Version(NOW_US << 10), asked_s=10.0, answered_s=10.5)

    assert time.least_us(20.5) <= NOW_US + 10 * US_PER_S <= time.most_us(20.0)
    assert (time.least_us(50.0), time.most_us(50.0)) == (0, NOT_KNOWN_US)


def test_every_checker_names_its_promise() -> None:
    """All eight have one."""
    assert set(PROMISES.values()) == set(range(1, 9))
