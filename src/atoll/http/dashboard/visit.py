"""One look of somebody at a page: who they are, what they may do, and where they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from atoll.accounts import Account, Namespace
from atoll.core.errors import AccountNotFoundError, NamespaceNotFoundError
from atoll.http.exchange import Request
from atoll.http.node import Node
from atoll.principal import EVERY_ACCOUNT, Permission, Principal


@dataclass(slots=True, kw_only=True)
class Visit:
    """What every page shows around what it is about."""

    request: Request
    principal: Principal
    csrf: str
    accounts: Sequence[Account]
    account: Account | None
    """The account that is looked at; `None` where there is none."""
    namespace: Namespace | None = None
    """The namespace that is looked at."""

    @classmethod
    async def of(cls, node: Node, request: Request, principal: Principal, *, csrf: str) -> Self:
        """Find out what somebody reaches.

        Raises:
            AccountNotFoundError: The page names an account that they do not reach.
        """
        accounts = await node.accounts.accounts(principal)
        wanted = request.query.get("account")
        by_id = {account.id: account for account in accounts}
        if wanted and wanted not in by_id:
            raise AccountNotFoundError
        account = by_id[wanted] if wanted else next(iter(accounts), None)
        return cls(
            request=request, principal=principal, csrf=csrf, accounts=accounts, account=account
        )

    def own(self) -> Account:
        """Return the account that is looked at.

        Raises:
            AccountNotFoundError: There is none.
        """
        if self.account is None:
            raise AccountNotFoundError
        return self.account

    def enter(self, namespace: Namespace) -> None:
        """Look at a namespace from now on.

        Raises:
            ForbiddenError: It is beyond what the token reaches.
            NamespaceNotFoundError: It belongs to an account that they do not reach.
        """
        self.principal.require(
            Permission.READ, account=self.principal.account, namespace=namespace.id
        )
        account = next((one for one in self.accounts if one.id == namespace.account), None)
        if account is None:
            raise NamespaceNotFoundError
        self.account = account
        self.namespace = namespace

    def facts(self) -> dict[str, object]:
        """Return what templates need on every page."""
        permission = self.principal.permission
        everywhere = self.principal.account == EVERY_ACCOUNT
        whole = self.principal.namespaces is None
        return {
            "csrf": self.csrf,
            "accounts": self.accounts,
            "account": self.account,
            "namespace": self.namespace,
            "permission": permission,
            "who": self.principal.id.replace(":", " "),
            "may_write": permission.rank >= Permission.WRITE.rank,
            "may_create": permission.rank >= Permission.WRITE.rank and whole,
            "may_usage": whole and self.account is not None,
            "may_tokens": permission is Permission.ADMIN and whole,
            "may_locations": permission is Permission.ADMIN and everywhere and whole,
        }
