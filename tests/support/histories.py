"""Checks of what several processes of one location answered, from the promises alone."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One answer: asked and answered on the machine's elapsed clock, in nanoseconds."""

    who: str
    key: str
    asked_ns: int
    answered_ns: int
    sequence: int
    """Where in the log the value was written; 0 for missing."""


def steps_back(answers: Iterable[Seen]) -> list[tuple[Seen, Seen]]:
    """Return each answer with an earlier one that had shown something later of the same key.

    A write counts as an answer to who wrote. Answers that overlap say nothing of each other.
    """
    answers = list(answers)
    ended = sorted(answers, key=lambda answer: answer.answered_ns)
    latest: dict[str, Seen] = {}
    found: list[tuple[Seen, Seen]] = []
    at = 0
    for answer in sorted(answers, key=lambda answer: answer.asked_ns):
        while at < len(ended) and ended[at].answered_ns < answer.asked_ns:
            before = ended[at]
            if before.key not in latest or before.sequence > latest[before.key].sequence:
                latest[before.key] = before
            at += 1
        shown = latest.get(answer.key)
        if shown is not None and shown.sequence > answer.sequence:
            found.append((shown, answer))
    return found
