"""Locations over one central, each asked through its own faces."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from atoll.accounts import Accounts
from atoll.core.limits import Limits
from atoll.http.app import Node, create_app
from atoll.http.inside import KeeperInside
from atoll.http.location_metrics import CentralMetrics, KeeperMetrics
from atoll.oversight import Oversight
from atoll.principal import Permission
from atoll.upstream import Upstream
from tests.http.site import Site
from tests.support.location import Place, Setup
from tests.support.rng import seeded_bytes

GRACE_S: Final = 3600


class World(Setup):
    """A central, locations A and B under it, and D under A: a site for each."""

    def __init__(self, folder: Path) -> None:
        """Keep large bodies in `folder`."""
        super().__init__()
        self._folder = folder
        self.sites: dict[str, Site] = {}

    async def open(self) -> None:
        """Make an account, a namespace and a token at central, and a site for every node."""
        accounts = self._accounts(self.central)
        account = await accounts.create_account("first")
        namespace = await accounts.create_namespace(account.id, "things")
        _, secret = await accounts.create_token(account.id, name="t", permission=Permission.ADMIN)
        central = self._node("central", self.central, accounts)
        node = replace(central, oversight=Oversight(self.central))
        CentralMetrics(Oversight(self.central), self.clock, node.registry)
        first = Site(
            app=create_app(node),
            node=node,
            clock=self.clock,
            accounts=accounts,
            account=account,
            namespace=namespace,
            headers={"authorization": f"Bearer {secret}"},
        )
        self.sites["central"] = first
        for place in self.places:
            self.sites[place.name] = self._site(first, place)

    def _site(self, first: Site, place: Place) -> Site:
        accounts = self._accounts(
            place.keeper, central_us=place.keeper.knowledge.time.central_us, grace_s=GRACE_S
        )
        node = self._node(place.name, place.keeper, accounts)
        node = replace(node, inside=KeeperInside(place.keeper, node.registry))
        KeeperMetrics(place.keeper, node.registry)
        return replace(first, app=create_app(node), node=node, accounts=accounts)

    def _accounts(
        self,
        upstream: Upstream,
        *,
        central_us: Callable[[], int | None] | None = None,
        grace_s: int | None = None,
    ) -> Accounts:
        return Accounts(
            upstream,
            limits=Limits(),
            clock=self.clock,
            random_bytes=seeded_bytes(),
            central_us=central_us,
            grace_s=grace_s,
        )

    def _node(self, name: str, upstream: Upstream, accounts: Accounts) -> Node:
        return Node(
            upstream=upstream,
            accounts=accounts,
            limits=Limits(),
            clock=self.clock,
            name=name,
            spool_dir=self._folder,
            ready=lambda: True,
            access_log=False,
        )
