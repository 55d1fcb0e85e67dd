"""Who a request comes from, and what their credentials allow."""

from enum import StrEnum
from typing import Final

import msgspec

from atoll.core.errors import ForbiddenError

EVERY_ACCOUNT: Final = "*"


class Permission(StrEnum):
    """What credentials allow; each includes the ones before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        """Larger allows more."""
        return _RANKS[self]


_RANKS: Final = {Permission.READ: 0, Permission.WRITE: 1, Permission.ADMIN: 2}


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who a request comes from, and what they may do."""

    id: str
    account: str
    permission: Permission
    namespaces: frozenset[str] | None = None
    expires_s: int | None = None
    """When the credentials end, in seconds since the Unix epoch by central time."""

    def require(
        self, permission: Permission, *, account: str, namespace: str | None = None
    ) -> None:
        """Refuse what these credentials do not allow, without a look at what exists.

        Args:
            permission: What the request needs.
            account: Whose resources it touches.
            namespace: Which namespace's keys it touches. `None` for what concerns the account:
                credentials that are limited to namespaces may then only look.

        Raises:
            ForbiddenError: They do not allow it.
        """
        reached = self.account in (account, EVERY_ACCOUNT)
        if not reached or self.permission.rank < permission.rank:
            raise ForbiddenError
        if self.namespaces is None:
            return
        allowed = permission is Permission.READ if namespace is None else self.may_see(namespace)
        if not allowed:
            raise ForbiddenError

    def may_see(self, namespace: str) -> bool:
        """Whether a listing of namespaces shows this one."""
        return self.namespaces is None or namespace in self.namespaces
