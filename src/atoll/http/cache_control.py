"""How fresh an answer a request wants, in the words of RFC 9111."""

from typing import Final

MS_PER_S: Final = 1000
AGE_S_DIGITS_MAX: Final = 9


def age_ms_max(cache_control: bytes | None) -> int | None:
    """Read the bound that `Cache-Control` sets on the age of an answer.

    `max-stale` and `only-if-cached` widen what else may be answered when the bound cannot be
    met. They set no bound, and a node that answers at age 0 meets any.

    Args:
        cache_control: The header, if there is one.

    Returns:
        Milliseconds; 0 asks central; `None` when the request leaves it to the namespace.
    """
    bound_ms: int | None = None
    for directive in (cache_control or b"").split(b","):
        name, _, argument = directive.strip().lower().partition(b"=")
        if name == b"no-cache":
            return 0
        if name == b"max-age":
            seconds = argument.strip(b'"')
            # What cannot be read is taken for the strictest: it asked for something fresh.
            known = seconds.isdigit() and len(seconds) <= AGE_S_DIGITS_MAX
            asked_ms = int(seconds) * MS_PER_S if known else 0
            bound_ms = asked_ms if bound_ms is None else min(bound_ms, asked_ms)
    return bound_ms
