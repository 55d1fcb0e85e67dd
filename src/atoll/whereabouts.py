"""What central is told of the locations: how each is, and what each holds of a key it asks about.

It is kept in memory, for operators: after a restart locations say it again within seconds. Whoever
is admitted as a node may say it of any location, as it may deliver for any.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from atoll.clock import Clock
from atoll.core.errors import UnavailableError
from atoll.core.session import Asked, Held, Status

STATUSES_MAX: Final = 2048
"""Twice as many as there can be locations; beyond that the one heard longest ago is forgotten."""

VIA_MAX: Final = 16
TEXT_MAX: Final = 64
"""The longest name or release, in characters."""

CONNECTED_MS_MAX: Final = 15_000
"""A location that has said nothing for longer, which is three statuses, is not connected."""

ANSWER_S_MAX: Final = 2.0
"""How long the answers to one question are waited for."""

QUESTIONS_MAX: Final = 16
"""How many questions may be under way; more are refused."""

OUTBOX_MAX: Final = 64
"""How many questions wait in one session; a session that is slower misses some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The last status of a location, and the instant at which it came."""

    status: Status
    at_ms: int
    behind: int | None
    """By how many changes of central's log it was behind then; `None` in another incarnation."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Question:
    awaited: set[str]
    answers: dict[str, Held] = field(default_factory=dict[str, Held])
    complete: asyncio.Event = field(default_factory=asyncio.Event)


class Whereabouts:
    """The last word of each location, and the questions that are under way."""

    def __init__(self, clock: Clock, *, wake: Callable[[], None]) -> None:
        """Start with nothing heard.

        Args:
            clock: What waits and ages are timed by.
            wake: Has every session look into its outbox.
        """
        self._clock = clock
        self._wake = wake
        self._said: OrderedDict[str, Said] = OrderedDict()
        # What was said before a restart is said again, so nothing of this is stored.
        self._journals_empty_us: dict[str, int] = {}
        self._outboxes: dict[int, deque[Asked]] = {}
        self._sessions = 0
        self._questions: dict[int, _Question] = {}
        # Answers to a question from before a restart must not be taken for those to another.
        self._asked = clock.now_us()

    # How they are.

    def note(self, status: Status, *, behind: int | None) -> None:
        """Remember what a location says of itself, unless no location would say it."""
        texts = (status.location, status.software, *status.via)
        if len(status.via) > VIA_MAX or max(map(len, texts)) > TEXT_MAX:
            return
        self._said.pop(status.location, None)
        at_ms = self._clock.elapsed_ms()
        self._said[status.location] = Said(status=status, at_ms=at_ms, behind=behind)
        if len(self._said) > STATUSES_MAX:
            self._said.popitem(last=False)

    def said(self) -> Mapping[str, Said]:
        """Return the last word of each location."""
        return self._said

    def silent_ms(self, said: Said) -> int:
        """Return how long ago a location was heard."""
        return self._clock.elapsed_ms() - said.at_ms

    def is_connected(self, name: str) -> bool:
        """Whether a location was heard a moment ago."""
        said = self._said.get(name)
        return said is not None and self.silent_ms(said) <= CONNECTED_MS_MAX

    def note_empty(self, name: str, as_of_us: int) -> None:
        """Remember that whatever a journal will deliver is stamped later than this."""
        self._journals_empty_us[name] = max(self._journals_empty_us.get(name, 0), as_of_us)

    def journal_empty_us(self, name: str) -> int | None:
        """Return the last time as of which a location's journal was empty, in central time.

        Returns:
            Microseconds since the Unix epoch, `None` if it has not said so since this start.
        """
        return self._journals_empty_us.get(name)

    # What they hold.

    def open(self) -> tuple[int, deque[Asked]]:
        """Return a number and an outbox for a session that begins."""
        self._sessions += 1
        outbox = self._outboxes[self._sessions] = deque[Asked](maxlen=OUTBOX_MAX)
        return self._sessions, outbox

    def close(self, session: int) -> None:
        """Let go of a session's outbox."""
        del self._outboxes[session]

    async def ask(self, namespace: str, key: str, names: Collection[str]) -> Mapping[str, Held]:
        """Ask all locations what they hold of a key.

        Args:
            namespace: The key's.
            key: The key.
            names: Whose answers to wait for, at most `ANSWER_S_MAX`.

        Returns:
            What came, by location.

        Raises:
            UnavailableError: Too many ask at the same time.
        """
        if len(self._questions) >= QUESTIONS_MAX:
            raise UnavailableError("too many questions to locations are under way")
        self._asked += 1
        question = self._questions[self._asked] = _Question(awaited=set(names))
        asked = Asked(number=self._asked, namespace=namespace, key=key)
        if not question.awaited:
            question.complete.set()
        alarm = asyncio.ensure_future(self._clock.sleep(ANSWER_S_MAX))
        complete = asyncio.ensure_future(question.complete.wait())
        try:
            for outbox in self._outboxes.values():
                outbox.append(asked)
            self._wake()
            await asyncio.wait({alarm, complete}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            alarm.cancel()
            complete.cancel()
            del self._questions[asked.number]
        return question.answers

    def answered(self, held: Held) -> None:
        """Take an answer, if somebody still waits for it."""
        question = self._questions.get(held.number)
        if question is None or held.location not in question.awaited:
            return
        question.answers[held.location] = held
        if question.answers.keys() >= question.awaited:
            question.complete.set()
