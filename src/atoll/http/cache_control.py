"""How fresh an answer a request wants, in the words of RFC 9111."""

from dataclasses import dataclass
from typing import Final

MS_PER_S: Final = 1000
AGE_S_DIGITS_MAX: Final = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """What a request accepts."""

    age_ms_max: int | None = None
    """The bound on the age: 0 asks central, `None` leaves it to the node."""
    stale_ms_max: int | None = None
    """How far beyond the bound an answer may be where central cannot be asked; `None`: any."""
    max_stale: bool = False
    """Whether the request itself says that what is stale will do."""
    held_only: bool = False
    """Whether nobody else is to be asked: what is held here, or 504."""


UNSAID: Final = Freshness()


def freshness(cache_control: bytes | None) -> Freshness:
    """Read what `Cache-Control` says.

    A bound that the caller sets is a demand: what is older is no answer, unless `max-stale`
    says so. The default bound is a preference.

    Args:
        cache_control: The header, if there is one.
    """
    if cache_control is None:
        return UNSAID
    bound_ms: int | None = None
    stale_ms: int | None = None
    max_stale = held_only = False
    for directive in cache_control.split(b","):
        name, equals, argument = (part.strip() for part in directive.lower().partition(b"="))
        if name == b"no-cache":
            bound_ms = 0
        elif name == b"max-age":
            bound_ms = _least(bound_ms, _milliseconds(argument))
        elif name == b"only-if-cached":
            held_only = True
        elif name == b"max-stale":
            max_stale = True
            if equals:
                stale_ms = _least(stale_ms, _milliseconds(argument))
    if bound_ms is not None and not max_stale:
        stale_ms = 0
    return Freshness(
        age_ms_max=bound_ms, stale_ms_max=stale_ms, max_stale=max_stale, held_only=held_only
    )


def _milliseconds(argument: bytes) -> int:
    """Read seconds. What cannot be read is taken for the strictest that it may have meant."""
    seconds = argument.strip(b'"')
    return int(seconds) * MS_PER_S if seconds.isdigit() and len(seconds) <= AGE_S_DIGITS_MAX else 0


def _least(before: int | None, now: int) -> int:
    return now if before is None else min(before, now)
