"""What the owner of a namespace decides about weaker answers; stored in the namespace's entry."""

from enum import StrEnum
from typing import Any, Final

import msgspec

from atoll.core.errors import BodyInvalidError

BOUND_S_MAX: Final = 86_400


class Choice(StrEnum):
    """Whether something weaker will do where central cannot be asked."""

    ALLOW = "allow"
    REFUSE = "refuse"


class NamespaceRules(msgspec.Struct, frozen=True, kw_only=True):
    """Rules that a location follows for one namespace."""

    stale: Choice = Choice.ALLOW
    """Answers past their bound while cut off."""
    journal: Choice = Choice.ALLOW
    """Writes that only a location's journal has."""
    bound_s: int | None = None
    """How old an answer may be where the request says nothing; `None`: the node's default."""

    @property
    def age_ms_max(self) -> int | None:
        """The default bound in milliseconds."""
        return None if self.bound_s is None else self.bound_s * 1000


def changed_rules(rules: NamespaceRules, given: dict[str, Any]) -> NamespaceRules:
    """Return `rules` with what `given` says instead; what it leaves out stays.

    Raises:
        BodyInvalidError: It holds something unknown or out of range.
    """
    unknown = given.keys() - set(NamespaceRules.__struct_fields__)
    if unknown:
        detail = f"unknown setting {min(unknown)!r}: there are `stale`, `journal` and `bound_s`"
        raise BodyInvalidError(detail=detail)
    for name in ("stale", "journal"):
        if given.get(name, "allow") not in {"allow", "refuse"}:
            raise BodyInvalidError(detail=f"`{name}` is `allow` or `refuse`")
    bound_s = given.get("bound_s")
    whole = isinstance(bound_s, int) and not isinstance(bound_s, bool)
    if bound_s is not None and not (whole and 0 <= bound_s <= BOUND_S_MAX):
        detail = f"`bound_s` is a whole number of seconds from 0 to {BOUND_S_MAX}, or null"
        raise BodyInvalidError(detail=detail)
    return msgspec.convert(msgspec.to_builtins(rules) | given, NamespaceRules)
