"""A checker for each promise, written from the promise.

They know what central's store committed and when, what clients asked and what they were told, and
what was done to the nodes. They never look into a node. Times are true times, in seconds.

Per key and per *place*, the node that a client talks to, there is a floor: the largest version
that somebody was shown or told there. Versions of a key grow with the log, so one floor holds both
"reads never go back" and "read your writes".
"""

from collections import Counter
from typing import Final

from atoll.core.errors import AtollError, ConditionFailedError
from atoll.core.model import (
    AtLeast,
    JournalToken,
    OutcomeKind,
    Page,
    Position,
    Reading,
    Written,
)
from atoll.core.version import CENTRAL_NODE, Version, node_of
from atoll.simulator.clock import US_PER_S
from atoll.simulator.coverage import Coverage
from atoll.simulator.facts import (
    DRIFT_MAX,
    Operation,
    PlaceState,
    Question,
    Seen,
    Violation,
    holds,
    live_versions,
    say_row,
    told,
    wrote,
)
from atoll.simulator.history import History, Row, Span

CLOCK_SLACK_S: Final = 0.005
"""Clocks are read in whole milliseconds."""

HELD_ANSWER_S_MAX: Final = 10.0
"""What a place holds is answered within this, whatever happens to its upstream."""

VIOLATIONS_KEPT: Final = 20

FIRST_LIFE: Final = 1
"""Lives are counted when they begin and when they end."""


class Checker:
    """See the module. Violations are collected; a run goes on after one."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.violations: list[Violation] = []
        self.counts: Counter[str] = Counter()
        self.coverage = Coverage()
        self.places: dict[str, PlaceState] = {}
        self.journaled: list[Operation] = []
        self._wanted_at: dict[tuple[str, str], list[Operation]] = {}
        self._seen: dict[tuple[str, str, str], Seen] = {}

    def violated(self, promise: str, now_s: float, what: str) -> None:
        """Note a violation."""
        self.counts["violations"] += 1
        self.history.say(now_s, f"VIOLATED: {promise}: {what}")
        if len(self.violations) < VIOLATIONS_KEPT:
            self.violations.append(Violation(promise=promise, at_s=now_s, what=what))

    def seen(self, place: str, namespace: str, key: str) -> Seen:
        """Return what clients know of one key at one place."""
        at = (place, namespace, key)
        seen = self._seen.get(at)
        if seen is None:
            seen = self._seen[at] = Seen()
        return seen

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
        self.history.say(now_s, f"{place} starts")
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
        if self.history.trace is not None:
            self.history.say(now_s, f"{told(question, reading)}, asked at {question.asked_s:.4f}")
        if reading.journaled:
            self.coverage.met("journal")
            self._journaled(question, reading, now_s)
            return
        if not self.history.knows(reading.position.incarnation):
            self.violated("truth", now_s, f"{told(question, reading)}: unknown incarnation")
            return
        self.coverage.met("reads", *(() if question.at_least is None else ("at least",)))
        history = self.history.key(question.namespace, question.key, reading.position.incarnation)
        span = history.at(reading.position.sequence)
        if not self._true(question, reading, span, now_s):
            return
        self._fresh(question, reading, span, now_s)
        self._expired(question, reading, span.row, now_s=now_s, central_us=central_us)
        self._required(question, reading, span.row, now_s)
        self._forward(question, reading, span.row, now_s)

    def _true(self, question: Question, reading: Reading, span: Span, now_s: float) -> bool:
        """Is this what the key was at the position that the answer names."""
        row = span.row
        if reading.entry is None:
            if row.value is None or row.expiration is not None:
                return True
        elif (reading.entry.version, reading.entry.value, reading.entry.expiration) == (
            row.version,
            row.value,
            row.expiration,
        ):
            return True
        self.violated("truth", now_s, f"{told(question, reading)}, but there it was {say_row(row)}")
        return False

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
        if reading.position.incarnation == self.history.incarnation and span.until_s < current_s:
            self.violated(
                "staleness",
                now_s,
                f"{told(question, reading)}, asked at {question.asked_s:.3f}, but it was"
                f" overwritten at {span.until_s:.3f}",
            )

    def _expired(
        self, question: Question, reading: Reading, row: Row, *, now_s: float, central_us: int
    ) -> None:
        """Has it expired exactly when it should, and for good."""
        if row.value is None or row.expiration is None:
            return
        expires_us = row.expiration * US_PER_S
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
            if self._taken_back(required, reading.position.incarnation):
                return
            for operation in self.journaled:
                if operation.token != required or operation.version is None:
                    continue
                if operation.key != question.key or operation.namespace != question.namespace:
                    continue
                became = self._became(required, question.key)
                if row.version < min(operation.version, became or operation.version):
                    self.violated(
                        "at least",
                        now_s,
                        f"{told(question, reading)}, required {required}, which has"
                        f" version {operation.version} and became {became}",
                    )

    def _taken_back(self, token: JournalToken, incarnation: int) -> bool:
        """Whether a journaled write was delivered to what a restored backup has taken back."""
        return self.history.delivered_in.get(token, incarnation) < incarnation

    def _forward(self, question: Question, reading: Reading, row: Row, now_s: float) -> None:
        """Is it no older than what was shown or told here before."""
        seen = self.seen(question.place, question.namespace, question.key)
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
        if incarnation > seen.incarnation:
            seen.incarnation, seen.version = incarnation, row.version
            seen.acknowledged = seen.gone_version = 0
            seen.pins.clear()
        elif incarnation == seen.incarnation:
            seen.version = max(seen.version, row.version)
        current = incarnation == self.history.incarnation
        if current and seen.losses == question.losses:
            seen.held = True
            self.places[question.place].since_eviction.discard((question.namespace, question.key))

    def _became(self, token: JournalToken, key: str) -> int | None:
        """Return the version that came of a journaled write, `None` if it was not delivered.

        It is smaller than the one that the journal gave if its first copy had been applied, unseen.
        """
        return self.history.delivered.get(token, {}).get(key)

    def _over_pins(self, question: Question, reading: Reading, row: Row, now_s: float) -> None:
        """Is what was journaled here still shown, unless central has decided otherwise."""
        seen = self.seen(question.place, question.namespace, question.key)
        for token, version in question.pins:
            if row.version >= version:
                seen.pins.pop(token, None)
                continue
            became = self._became(token, question.key)
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
        if reading.token is not None and reading.token.location not in places:
            self.violated("truth", now_s, f"{told(question, reading)}: whose journal is that")
        if reading.entry is None or reading.order_unknown:
            return
        version = reading.entry.version
        if version < question.acknowledged and question.incarnation == self.history.incarnation:
            self.violated(
                "order",
                now_s,
                f"{told(question, reading)}: a journaled write under version"
                f" {question.acknowledged}, which central acknowledged here",
            )
        if reading.token is not None and reading.token.location == question.place:
            seen = self.seen(question.place, question.namespace, question.key)
            if version < question.floor and question.incarnation == self.history.incarnation:
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
            for operation in self._wanted_at.get((question.namespace, question.key), ())
            if operation.value == value or (value is None and operation.expiration is not None)
        ]

    def refused(self, question: Question, error: AtollError, *, now_s: float) -> None:
        """Hold a refusal to the promises."""
        self.counts["reads: refused"] += 1
        self.coverage.met("availability")
        if self.history.trace is not None:
            self.history.say(now_s, f"{question.place} refuses {question.key}: {error!r} {error}")
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
        self._wanted_at.setdefault(at, []).append(operation)

    def acknowledged(self, operation: Operation, written: Written, *, now_s: float) -> None:
        """Hold an acknowledgement to the promises."""
        self.coverage.met("writes")
        outcome = written.outcomes[0]
        operation.answered_s = now_s
        operation.version = outcome.version
        if self.history.trace is not None:
            token = written.token or written.position
            self.history.say(now_s, f"{wrote(operation)} acknowledged, {token}")
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
        if written.position.incarnation != self.history.incarnation:
            return  # What a restored backup does not hold was acknowledged in another life.
        if outcome.kind is not OutcomeKind.APPLIED:
            self.violated("last write wins", now_s, f"{wrote(operation)} lost on arrival")
            return
        row = self._row_of(operation)
        if row is None:
            self.violated("durability", now_s, f"{wrote(operation)} is not at central")
            return
        if row.sequence > written.position.sequence:
            self.violated(
                "positions", now_s, f"{wrote(operation)}: {written.position} does not include it"
            )
        if seen.incarnation == self.history.incarnation:
            seen.version = max(seen.version, outcome.version)
            seen.acknowledged = max(seen.acknowledged, outcome.version)

    def _row_of(self, operation: Operation) -> Row | None:
        """Return what an acknowledged write became."""
        rows = self.history.key(operation.namespace, operation.key).rows
        return next(
            (
                row
                for row in reversed(rows)
                if row.version == operation.version and row.value == operation.value
            ),
            None,
        )

    def condition_held(self, operation: Operation, *, central_us: int, now_s: float) -> None:
        """Was the condition of an acknowledged write true when it was applied."""
        self.counts["writes: condition held"] += 1
        self.coverage.met("conditions")
        rows = self.history.key(operation.namespace, operation.key).rows
        for i, row in enumerate(rows):
            if row.version == operation.version and i > 0:
                before = rows[i - 1]
                live = live_versions(before, from_us=0, to_us=central_us)
                if not any(holds(operation.condition, version) for version in live):
                    self.violated(
                        "conditions",
                        now_s,
                        f"{wrote(operation)} was applied over {say_row(before)}",
                    )

    def condition_failed(
        self,
        operation: Operation,
        error: ConditionFailedError,
        *,
        asked_us: int,
        now_us: int,
        now_s: float,
    ) -> None:
        """Was the condition of a refused write false at some moment while it was asked."""
        self.counts["writes: condition failed"] += 1
        self.coverage.met("conditions")
        history = self.history.key(operation.namespace, operation.key)
        for span in history.spans():
            if span.row.at_s > now_s or span.until_s < operation.asked_s:
                continue
            live = live_versions(span.row, from_us=asked_us, to_us=now_us)
            if any(not holds(operation.condition, version) for version in live):
                return
        self.violated(
            "conditions",
            now_s,
            f"{wrote(operation)} was refused ({error.version_current} is there), but its"
            " condition held all the time",
        )

    def converged(self, question: Question, reading: Reading, *, now_s: float) -> None:
        """Is this, long after the healing, what central holds."""
        self.counts["reads: after healing"] += 1
        row = self.history.key(question.namespace, question.key).rows[-1]
        shown = None if reading.entry is None else (reading.entry.version, reading.entry.value)
        wanted = None if row.value is None else (row.version, row.value)
        if row.expiration is not None and shown is None:
            wanted = None  # Whether too early is the checker of expiry's to say.
        if shown != wanted or reading.stale or reading.journaled:
            self.violated(
                "convergence", now_s, f"{told(question, reading)}, but central has {say_row(row)}"
            )

    def check_page(
        self,
        place: str,
        namespace: str,
        prefix: str,
        page: Page,
        *,
        asked_us: int,
        now_us: int,
        now_s: float,
    ) -> None:
        """Is a list that was read in one page what central held at its position."""
        self.counts["lists"] += 1
        self.coverage.met("lists")
        if not self.history.knows(page.position.incarnation):
            return
        listed = {item.key: item.version for item in page.items}
        places = (place, *self.places[place].above)
        for at_namespace, key in sorted(self.history.keys()):
            if at_namespace != namespace or not key.startswith(prefix):
                continue
            history = self.history.key(namespace, key, page.position.incarnation)
            row = history.at(page.position.sequence).row
            got = listed.get(key)
            allowed = live_versions(row, from_us=asked_us - US_PER_S, to_us=now_us)
            if got in allowed or self._may_be_journaled(places, (namespace, key), got):
                continue
            self.violated(
                "truth", now_s, f"{place} lists {key} as {got}, but there it was {say_row(row)}"
            )

    def _may_be_journaled(
        self, places: tuple[str, ...], at: tuple[str, str], version: int | None
    ) -> bool:
        """Whether a journal on the way to central may hold such a write, or such a deletion."""
        if version is not None and node_of(Version(version)) == CENTRAL_NODE:
            return False
        return any(
            operation.place in places
            and operation.condition is None
            and operation.position is None
            and (version is None or operation.version in {None, version})
            and (version is not None or operation.value is None or operation.expiration is not None)
            for operation in self._wanted_at.get(at, ())
        )
