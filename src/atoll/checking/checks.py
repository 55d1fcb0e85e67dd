"""A checker for each promise, written from the promise.

They know what truly happened, as far as that can be known, what clients asked and what they were
told, and what was done to the nodes. They never look into a node. Times are in seconds of whoever
runs them. The simulator knows the truth exactly; `atoll verify` knows bounds of it, and then only
what no possible truth explains is a violation. See `Truth`.

Per key and per *place*, the node that a client talks to, there is a floor: the largest version
that somebody was shown or told there. Versions of a key grow with the log, so one floor holds both
"reads never go back" and "read your writes".
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from atoll.checking.coverage import Coverage
from atoll.checking.facts import (
    DRIFT_MAX,
    US_PER_S,
    Operation,
    PlaceState,
    Question,
    Row,
    Seen,
    Span,
    Violation,
    say_row,
    told,
    wrote,
)
from atoll.core.errors import AtollError
from atoll.core.model import AtLeast, JournalToken, OutcomeKind, Position, Reading, Written

PROMISES: Final[Mapping[str, int]] = {
    "durability": 1,
    "truth": 1,
    "last write wins": 2,
    "convergence": 2,
    "at least": 3,
    "positions": 3,
    "order": 4,
    "staleness": 5,
    "availability": 6,
    "expiry": 7,
    "honesty": 8,
}
"""Which of the eight promises a checker is about. `order` holds the third at a location as well."""

CLOCK_SLACK_S: Final = 0.005
"""Clocks are read in whole milliseconds."""

HELD_ANSWER_S_MAX: Final = 10.0
"""What a place holds is answered within this, whatever happens to its upstream."""

VIOLATIONS_KEPT: Final = 20

FIRST_LIFE: Final = 1
"""Lives are counted when they begin and when they end."""


class Truth(Protocol):
    """What checkers believe of what happened at central."""

    @property
    def incarnation(self) -> int:
        """Which life of central's store is the present one."""
        ...

    def knows(self, incarnation: int) -> bool:
        """Whether central ever had this incarnation."""
        ...

    def shown(self, namespace: str, key: str, reading: Reading) -> Sequence[Span]:
        """Return what the key may have been where a reading says, if that is what it shows.

        In the order of versions; nothing if the reading cannot be true. Several, if it is not
        known which of them it was.
        """
        ...

    def explained(self, namespace: str, key: str, reading: Reading) -> str:
        """Say what the key was instead, where the reading says."""
        ...

    def newest(self, namespace: str, key: str) -> int:
        """Return a version that central surely has committed by now, or one later than it."""
        ...

    def row_of(self, operation: Operation) -> Row | None:
        """Return what a write became that central acknowledged."""
        ...

    def latest(self, namespace: str, key: str) -> Row:
        """Return what the key is, now that nobody writes it any more."""
        ...

    def became(self, token: JournalToken, key: str) -> int | None:
        """Return the version that came of a journaled write, or a bound below it.

        It is smaller than the one that the journal gave if its first copy had been applied,
        unseen. `None` if it was surely not delivered.
        """
        ...

    def taken_back(self, token: JournalToken, incarnation: int) -> bool:
        """Whether a journaled write was delivered to what a restored backup has taken back."""
        ...

    def owner(self, token: JournalToken) -> str:
        """Return whose journal it is."""
        ...

    @property
    def is_told(self) -> bool:
        """Whether somebody reads along."""
        ...

    def say(self, now_s: float, what: str) -> None:
        """Note something for who reads along."""
        ...


class Checker:
    """See the module. Violations are collected; a run goes on after one."""

    def __init__(self, truth: Truth, *, incarnation: int = 1) -> None:
        """Hold answers to `truth`.

        Args:
            truth: What is known of what happened.
            incarnation: The one that central's store begins with.
        """
        self.truth = truth
        self._incarnation = incarnation
        self.violations: list[Violation] = []
        self.counts: Counter[str] = Counter()
        self.coverage = Coverage()
        self.places: dict[str, PlaceState] = {}
        self.journaled: list[Operation] = []
        self.wanted_at: dict[tuple[str, str], list[Operation]] = {}
        self._seen: dict[tuple[str, str, str], Seen] = {}

    def violated(self, promise: str, now_s: float, what: str) -> None:
        """Note a violation."""
        self.counts["violations"] += 1
        self.truth.say(now_s, f"VIOLATED: {promise}: {what}")
        if len(self.violations) < VIOLATIONS_KEPT:
            self.violations.append(Violation(promise=promise, at_s=now_s, what=what))

    def seen(self, place: str, namespace: str, key: str) -> Seen:
        """Return what clients know of one key at one place."""
        at = (place, namespace, key)
        seen = self._seen.get(at)
        if seen is None:
            seen = self._seen[at] = Seen(incarnation=self._incarnation)
        return seen

    def forget(self, namespace: str, key: str) -> None:
        """Let go of a key that nobody asks for any more."""
        self.wanted_at.pop((namespace, key), None)
        for place in self.places:
            self._seen.pop((place, namespace, key), None)
        self.journaled = [one for one in self.journaled if one.key != key]

    def not_held(self, place: str, at: tuple[str, str] | None = None) -> None:
        """Expect no more that a place holds a key, or anything."""
        if at is not None:
            self.places[place].since_eviction.add(at)
        for (name, *seen_at), seen in self._seen.items():
            if name == place and at in {None, tuple(seen_at)}:
                seen.held = False
                seen.losses += 1

    def restarted(self, place: str, *, now_s: float) -> None:
        """Note that a place begins a life; what it knew of the time it need not know any more."""
        state = self.places[place]
        state.lives += 1
        self.truth.say(now_s, f"{place} starts")
        state.told_us = None

    def closed(self, place: str, *, now_s: float) -> None:
        """Note that a place ends a life in good order: it keeps what it knows of the time."""
        state = self.places[place]
        state.kept_us = state.central_us(now_s)

    def ended(self, place: str) -> None:
        """Note that a place ends a life; who asks it meanwhile asks nobody."""
        self.places[place].lives += 1

    # Reads.

    def asking(
        self,
        place: str,
        namespace: str,
        key: str,
        *,
        now_s: float,
        central_us: int,
        bound_ms: int,
        at_least: AtLeast | None,
        must_refuse_stale: bool,
    ) -> Question:
        """Remember what is known before a read."""
        seen = self.seen(place, namespace, key)
        state = self.places[place]
        return Question(
            place=place,
            namespace=namespace,
            key=key,
            asked_s=now_s,
            bound_ms=bound_ms,
            at_least=at_least,
            must_refuse_stale=must_refuse_stale,
            floor=seen.version,
            pins=tuple(seen.pins.items()),
            incarnation=seen.incarnation,
            held=seen.held,
            losses=seen.losses,
            acknowledged=seen.acknowledged,
            gone_version=seen.gone_version,
            central_us=central_us,
            place_us=central_us if place == "central" else state.central_us(now_s),
            lives=state.lives,
        )

    def answered(
        self, question: Question, reading: Reading, *, now_s: float, central_us: int
    ) -> None:
        """Hold an answer to the promises."""
        self._count(question, reading)
        if self.truth.is_told:
            self.truth.say(now_s, f"{told(question, reading)}, asked at {question.asked_s:.4f}")
        if reading.journaled:
            self.coverage.met("journal")
            self._journaled(question, reading, now_s)
            return
        if not self.truth.knows(reading.position.incarnation):
            self.violated("truth", now_s, f"{told(question, reading)}: unknown incarnation")
            return
        self.coverage.met("reads", *(() if question.at_least is None else ("at least",)))
        spans = self.truth.shown(question.namespace, question.key, reading)
        if not spans:
            there = self.truth.explained(question.namespace, question.key, reading)
            self.violated("truth", now_s, f"{told(question, reading)}, but {there}")
            return
        # Where it may have been several rows, each promise is held to the one that keeps it best.
        last = spans[-1]
        self._fresh(question, reading, last, now_s)
        self._expired(
            question, reading, [one.row for one in spans], now_s=now_s, central_us=central_us
        )
        self._required(question, reading, last.row, now_s)
        self._forward(question, reading, last.row, now_s)
        self._remember(question, reading, spans[0].row)

    def _fresh(self, question: Question, reading: Reading, span: Span, now_s: float) -> None:
        """Is it as young as it says, and as young as was asked."""
        too_old = reading.age_ms is None or reading.age_ms > question.bound_ms
        if too_old and question.must_refuse_stale:
            self.violated("honesty", now_s, f"{told(question, reading)}: should have refused")
        if too_old and not reading.stale:
            self.violated(
                "staleness",
                now_s,
                f"{told(question, reading)}: past the bound of {question.bound_ms} ms, unmarked",
            )
        if reading.age_ms is None:
            return
        current_s = question.asked_s - reading.age_ms / 1000 * (1 + 2 * DRIFT_MAX) - CLOCK_SLACK_S
        if reading.position.incarnation == self.truth.incarnation and span.until_s < current_s:
            self.violated(
                "staleness",
                now_s,
                f"{told(question, reading)}, asked at {question.asked_s:.3f}, but it was"
                f" overwritten at {span.until_s:.3f}",
            )

    def _expired(
        self,
        question: Question,
        reading: Reading,
        rows: Sequence[Row],
        *,
        now_s: float,
        central_us: int,
    ) -> None:
        """Has it expired exactly when it should, and for good."""
        ends = [row.expiration for row in rows if row.value is not None]
        expirations = [end for end in ends if end is not None]
        if len(expirations) < len(rows):
            return
        row = rows[0]
        expires_us = min(expirations) * US_PER_S
        self.coverage.met("expiry")
        if reading.entry is None:
            self.counts["reads: expired"] += 1
            if central_us < expires_us:
                self.violated(
                    "expiry", now_s, f"{told(question, reading)}: hidden too early, {say_row(row)}"
                )
            seen = self.seen(question.place, question.namespace, question.key)
            if reading.position.incarnation == seen.incarnation:
                seen.gone_version = max(seen.gone_version, row.version)
            return
        # A restored backup may hold what lived before the version that was seen to be gone.
        same = reading.position.incarnation == question.incarnation
        if same and row.version <= question.gone_version and not reading.order_unknown:
            self.violated("expiry", now_s, f"{told(question, reading)}: it had expired before")
        known_us = question.place_us
        if known_us is not None and known_us > expires_us + CLOCK_SLACK_S * US_PER_S:
            late_ms = (known_us - expires_us) // 1000
            self.violated(
                "expiry", now_s, f"{told(question, reading)}: expired {late_ms} ms before"
            )

    def _required(self, question: Question, reading: Reading, row: Row, now_s: float) -> None:
        """Is it knowledge at or after the place that the question required."""
        required = question.at_least
        if isinstance(required, Position):
            self.counts["reads: at least a position"] += 1
            if (
                required.incarnation == reading.position.incarnation
                and reading.position.sequence < required.sequence
            ):
                self.violated("at least", now_s, f"{told(question, reading)}, required {required}")
        elif isinstance(required, JournalToken):
            self.counts["reads: at least a journal's place"] += 1
            if self.truth.taken_back(required, reading.position.incarnation):
                return
            for operation in self.journaled:
                if operation.token != required or operation.version is None:
                    continue
                if operation.key != question.key or operation.namespace != question.namespace:
                    continue
                became = self.truth.became(required, question.key)
                if row.version < min(operation.version, became or operation.version):
                    self.violated(
                        "at least",
                        now_s,
                        f"{told(question, reading)}, required {required}, which has"
                        f" version {operation.version} and became {became}",
                    )

    def _forward(self, question: Question, reading: Reading, row: Row, now_s: float) -> None:
        """Is it no older than what was shown or told here before."""
        incarnation = reading.position.incarnation
        if reading.order_unknown:
            self.counts["reads: order unknown"] += 1
        elif incarnation < question.incarnation:
            self.violated("order", now_s, f"{told(question, reading)}: an earlier incarnation")
        elif incarnation == question.incarnation and row.version < question.floor:
            self.violated(
                "order",
                now_s,
                f"{told(question, reading)}, but version {question.floor} was known here",
            )
        elif incarnation == question.incarnation:
            self._over_pins(question, reading, row, now_s)

    def _remember(self, question: Question, reading: Reading, row: Row) -> None:
        """Raise the floor to what was shown."""
        seen = self.seen(question.place, question.namespace, question.key)
        incarnation = reading.position.incarnation
        if incarnation > seen.incarnation:
            seen.incarnation, seen.version = incarnation, row.version
            seen.acknowledged = seen.gone_version = 0
            seen.pins.clear()
        elif incarnation == seen.incarnation:
            seen.version = max(seen.version, row.version)
        current = incarnation == self.truth.incarnation
        if current and seen.losses == question.losses:
            seen.held = True
            self.places[question.place].since_eviction.discard((question.namespace, question.key))

    def _over_pins(self, question: Question, reading: Reading, row: Row, now_s: float) -> None:
        """Is what was journaled here still shown, unless central has decided otherwise."""
        seen = self.seen(question.place, question.namespace, question.key)
        for token, version in question.pins:
            if row.version >= version:
                seen.pins.pop(token, None)
                continue
            became = self.truth.became(token, question.key)
            if became is None or row.version < became:
                self.violated(
                    "order",
                    now_s,
                    f"{told(question, reading)}, but {token} with version {version} was"
                    f" journaled here, and became {became}",
                )

    def _journaled(self, question: Question, reading: Reading, now_s: float) -> None:
        """Is it a write that a client wanted here, or further up, and did it not lose before."""
        self.counts["reads: journaled"] += 1
        state = self.places[question.place]
        value = None if reading.entry is None else reading.entry.value
        assert value is None or isinstance(value, bytes)
        places = (question.place, *state.above)
        wanted = self._wanted(question, value)
        if not any(operation.place in places for operation in wanted):
            self.violated("truth", now_s, f"{told(question, reading)}: nobody wrote that here")
        if reading.token is not None and self.truth.owner(reading.token) not in places:
            self.violated("truth", now_s, f"{told(question, reading)}: whose journal is that")
        if reading.entry is None or reading.order_unknown:
            return
        version = reading.entry.version
        if version < question.acknowledged and question.incarnation == self.truth.incarnation:
            self.violated(
                "order",
                now_s,
                f"{told(question, reading)}: a journaled write under version"
                f" {question.acknowledged}, which central acknowledged here",
            )
        if reading.token is not None and self.truth.owner(reading.token) == question.place:
            seen = self.seen(question.place, question.namespace, question.key)
            if version < question.floor and question.incarnation == self.truth.incarnation:
                self.violated(
                    "order",
                    now_s,
                    f"{told(question, reading)}: a journaled write under version"
                    f" {question.floor}, which was known here",
                )
            seen.pins[reading.token] = version

    def _wanted(self, question: Question, value: bytes | None) -> list[Operation]:
        """Return the writes that may be behind what was shown; nothing may have expired."""
        return [
            operation
            for operation in self.wanted_at.get((question.namespace, question.key), ())
            if operation.value == value or (value is None and operation.expiration is not None)
        ]

    def refused(self, question: Question, error: AtollError, *, now_s: float) -> None:
        """Hold a refusal to the promises."""
        self.counts["reads: refused"] += 1
        self.coverage.met("availability")
        if self.truth.is_told:
            self.truth.say(now_s, f"{question.place} refuses {question.key}: {error!r} {error}")
        self.counts["reads: refused, " + error.code] += 1
        plain = question.at_least is None and not question.must_refuse_stale
        if plain and self._must_hold(question):
            self.violated(
                "availability",
                now_s,
                f"{question.place} holds {question.key} and refused it: {error}",
            )

    def slow(self, question: Question, *, now_s: float) -> None:
        """Hold the time an answer took to the promise."""
        plain = question.at_least is None and not question.must_refuse_stale
        took_s = now_s - question.asked_s
        if plain and took_s > HELD_ANSWER_S_MAX and self._must_hold(question):
            self.violated(
                "availability",
                now_s,
                f"{question.place} holds {question.key} and took {took_s:.1f} s to say so",
            )

    def _must_hold(self, question: Question) -> bool:
        """Whether a place has held a key, in one life, since before the question came."""
        state = self.places[question.place]
        seen = self.seen(question.place, question.namespace, question.key)
        return (
            question.held
            and question.losses == seen.losses
            and question.lives == state.lives
            and not state.frozen_since(question.asked_s)
        )

    def _count(self, question: Question, reading: Reading) -> None:
        counts = self.counts
        state = self.places[question.place]
        counts["reads"] += 1
        at = (question.namespace, question.key)
        for name, met in (
            ("cut", state.cut),
            ("afflicted", state.afflicted),
            ("stale", reading.stale),
            ("missing", reading.entry is None),
            ("after eviction", at in state.since_eviction),
            ("after a restart", state.lives > FIRST_LIFE),
            ("through a tier", len(state.above) > 1),
            ("asked of central", question.bound_ms == 0),
            ("age unknown", reading.age_ms is None),
        ):
            if met:
                counts["reads: " + name] += 1
        counts["reads: " + reading.cache.value] += 1

    # Writes.

    def writing(self, operation: Operation) -> None:
        """Remember what a client wants to write."""
        at = (operation.namespace, operation.key)
        operation.incarnation = self.truth.incarnation
        operation.floor = self.truth.newest(*at)
        self.wanted_at.setdefault(at, []).append(operation)

    def acknowledged(self, operation: Operation, written: Written, *, now_s: float) -> None:
        """Hold an acknowledgement to the promises."""
        self.coverage.met("writes")
        outcome = written.outcomes[0]
        operation.answered_s = now_s
        operation.version = outcome.version
        if self.truth.is_told:
            token = written.token or written.position
            self.truth.say(now_s, f"{wrote(operation)} acknowledged, {token}")
        seen = self.seen(operation.place, operation.namespace, operation.key)
        if written.token is not None:
            self.counts["writes: journaled"] += 1
            operation.token = written.token
            self.journaled.append(operation)
            if operation.condition is not None:
                self.violated("conditions", now_s, f"{wrote(operation)} was journaled")
            seen.pins[written.token] = outcome.version
            return
        self.counts["writes: at central"] += 1
        operation.position = written.position
        if written.position.incarnation != self.truth.incarnation:
            return  # What a restored backup does not hold was acknowledged in another life.
        if outcome.kind is not OutcomeKind.APPLIED:
            self.violated("last write wins", now_s, f"{wrote(operation)} lost on arrival")
            return
        if operation.incarnation == self.truth.incarnation and outcome.version <= operation.floor:
            self.violated(
                "last write wins",
                now_s,
                f"{wrote(operation)} was accepted under an earlier version than {operation.floor},"
                " which was there before it was sent",
            )
        row = self.truth.row_of(operation)
        if row is None:
            self.violated("durability", now_s, f"{wrote(operation)} is not at central")
            return
        if row.sequence > written.position.sequence:
            self.violated(
                "positions", now_s, f"{wrote(operation)}: {written.position} does not include it"
            )
        if seen.incarnation == self.truth.incarnation:
            seen.version = max(seen.version, outcome.version)
            seen.acknowledged = max(seen.acknowledged, outcome.version)

    def converged(self, question: Question, reading: Reading, *, now_s: float) -> None:
        """Is this, long after the healing, what central holds."""
        self.counts["reads: after healing"] += 1
        row = self.truth.latest(question.namespace, question.key)
        shown = None if reading.entry is None else (reading.entry.version, reading.entry.value)
        wanted = None if row.value is None else (row.version, row.value)
        if row.expiration is not None and shown is None:
            wanted = None  # Whether too early is the checker of expiry's to say.
        if shown != wanted or reading.stale or reading.journaled:
            self.violated(
                "convergence", now_s, f"{told(question, reading)}, but central has {say_row(row)}"
            )
