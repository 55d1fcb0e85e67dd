"""Usage at central: statements from the ledger, and quotas held against it.

Quotas are entries of the system namespace, `quota/<account>`. What a hard one stops is noted in the
entries of the namespaces that it concerns; see `usage.quotas`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import msgspec
import structlog

from atoll.accounts import Accounts, Namespace
from atoll.clock import Clock
from atoll.core.errors import AtollError, NamespaceNotFoundError, StoreError
from atoll.core.model import (
    SYSTEM_NAMESPACE,
    Batch,
    Include,
    ListQuery,
    Mutation,
    Read,
)
from atoll.store.protocol import Usage
from atoll.upstream import Upstream
from atoll.usage.collector import Courier
from atoll.usage.counts import HOURS_PER_DAY
from atoll.usage.ledger import Ledger, Owned
from atoll.usage.prices import OUR_BOOKS, Meter, Period, PriceBook, book_for
from atoll.usage.quotas import Quota, Stop, decode_quotas, ends_s, stop_of
from atoll.usage.statement import Statement, day_number, month_at, statement_of

QUOTA_PREFIX: Final = "quota/"
QUOTAS_BYTES_MAX: Final = 2**20
WARNED_MAX: Final = 10_000
US_PER_S: Final = 1_000_000

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaState:
    """A quota, and how much of it is used."""

    account: str
    quota: Quota
    used: int
    ends_s: int
    """When its period ends, in seconds since the Unix epoch."""

    @property
    def is_used_up(self) -> bool:
        """Whether it allows nothing more."""
        return self.used >= self.quota.limit


class Metering:
    """Answers what was used, and holds quotas. There is one, at central."""

    def __init__(
        self,
        upstream: Upstream,
        accounts: Accounts,
        *,
        clock: Clock,
        stored: Callable[[str], Awaitable[Usage]],
        books: Sequence[PriceBook] = (),
        courier: Courier | None = None,
    ) -> None:
        """Read and write through `upstream`.

        Args:
            upstream: Central.
            accounts: Whose namespaces are.
            clock: Central time.
            stored: Returns what a namespace holds now.
            books: The operator's own price lists.
            courier: Delivers what central itself counts, if it does.
        """
        self._upstream = upstream
        self._accounts = accounts
        self._clock = clock
        self._stored = stored
        self.books = (*OUR_BOOKS, *books)
        self.ledger = Ledger(upstream, clock=clock, owned=self._owned, stored=stored)
        self._courier = courier
        self.states: Sequence[QuotaState] = ()
        """As they were last looked at."""
        self._warned: set[tuple[str, Quota, int]] = set()
        self._enforcing = asyncio.Lock()

    async def _owned(self) -> Sequence[Owned]:
        return [
            Owned(account=one.account, namespace=one.id)
            for one in await self._accounts.every_namespace()
        ]

    # Statements.

    async def refresh(self) -> None:
        """Add up everything that was counted here and delivered by others by now."""
        if self._courier is not None:
            await self._courier.deliver()
        await self.ledger.settle()

    async def statement(
        self, account: str, *, prices: str, month: date | None = None, namespace: str | None = None
    ) -> Statement:
        """Return what a month costs.

        Args:
            account: Whose.
            prices: The name of a price list.
            month: Its first day; by default the month that it is.
            namespace: Only this one of the account's.

        Raises:
            ParameterInvalidError: There is no such price list.
        """
        now = month_at(self._clock.now_us())
        month = month or now
        book = book_for(self.books, prices, month)
        await self.refresh()
        await self.ledger.sample()
        used = await self.ledger.used(account, month, namespace=namespace)
        return statement_of(
            book, used, account=account, namespace=namespace, month=month, complete=month < now
        )

    # Quotas.

    async def quotas(self, account: str) -> tuple[Quota, ...]:
        """Return an account's quotas."""
        asked = Read(namespace=SYSTEM_NAMESPACE, keys=(QUOTA_PREFIX + account,))
        entry = (await self._upstream.read(asked)).entry
        if entry is None:
            return ()
        assert isinstance(entry.value, bytes)
        return decode_quotas(entry.value)

    async def change_quotas(self, account: str, quotas: Sequence[Quota]) -> None:
        """Put other quotas in the place of an account's; they are in force when this returns.

        Raises:
            NamespaceNotFoundError: One is about a namespace that is not the account's.
        """
        for quota in quotas:
            if quota.namespace is not None:
                found = await self._accounts.namespace(quota.namespace)
                if found.account != account:
                    raise NamespaceNotFoundError
        # An account without quotas keeps its entry, by which what was stopped is found again.
        mutation = Mutation(key=QUOTA_PREFIX + account, value=msgspec.json.encode(quotas))
        await self._upstream.write(Batch(namespace=SYSTEM_NAMESPACE, mutations=(mutation,)))
        await self.enforce()

    async def enforce(self) -> None:
        """Hold all quotas against what is used: stop, lift, and warn."""
        async with self._enforcing:
            await self.refresh()
            states: list[QuotaState] = []
            for account in await self._limited():
                states += await self._enforce(account)
            self.states = states

    async def _limited(self) -> list[str]:
        """Return the accounts that have, or had, quotas."""
        found: list[str] = []
        after: str | None = None
        while True:
            page = await self._upstream.list(
                ListQuery(
                    namespace=SYSTEM_NAMESPACE,
                    prefix=QUOTA_PREFIX,
                    after=after,
                    include=Include.KEYS,
                )
            )
            found += (item.key.removeprefix(QUOTA_PREFIX) for item in page.items)
            after = page.after
            if after is None:
                return found

    async def _enforce(self, account: str) -> list[QuotaState]:
        quotas = await self.quotas(account)
        namespaces = await self._accounts.namespaces(account)
        states = [await self._state(account, quota, namespaces) for quota in quotas]
        now_s = self._clock.now_us() // US_PER_S
        for namespace in namespaces:
            stops = tuple(
                stop_of(state.quota, now_s)
                for state in states
                if state.quota.hard
                and state.is_used_up
                and state.quota.namespace in {None, namespace.id}
            )
            await self._stop(namespace, stops, now_s)
        for state in states:
            self._warn(state)
        return states

    async def _stop(self, namespace: Namespace, stops: tuple[Stop, ...], now_s: int) -> None:
        in_force = tuple(stop for stop in namespace.stops if stop.until_s > now_s)
        if stops == in_force:
            return
        try:
            await self._accounts.change_stops(namespace.account, namespace.id, stops)
        except NamespaceNotFoundError:
            return  # It was deleted meanwhile.
        log.info(
            "quota_stops_changed",
            account=namespace.account,
            namespace=namespace.id,
            stopped=[stop.operation.value for stop in stops],
        )

    def _warn(self, state: QuotaState) -> None:
        """Say once in each period that a quota is used up."""
        of = (state.account, state.quota, state.ends_s)
        if not state.is_used_up or of in self._warned:
            return
        if len(self._warned) >= WARNED_MAX:
            self._warned.clear()
        self._warned.add(of)
        log.warning(
            "quota_used_up",
            account=state.account,
            namespace=state.quota.namespace,
            meter=state.quota.meter.value,
            period=state.quota.period.value,
            limit=state.quota.limit,
            used=state.used,
            hard=state.quota.hard,
        )

    async def quota_states(self, account: str) -> list[QuotaState]:
        """Return an account's quotas, and how much of each is used by now."""
        await self.refresh()
        namespaces = await self._accounts.namespaces(account)
        quotas = await self.quotas(account)
        return [await self._state(account, quota, namespaces) for quota in quotas]

    async def _state(
        self, account: str, quota: Quota, namespaces: Sequence[Namespace]
    ) -> QuotaState:
        now_us = self._clock.now_us()
        names = [one.id for one in namespaces if quota.namespace in {None, one.id}]
        if quota.meter is Meter.STORAGE:
            used = sum([(await self._stored(name)).bytes for name in names])
        else:
            today = self.ledger.now_hour() // HOURS_PER_DAY
            first = today if quota.period is Period.DAY else day_number(month_at(now_us))
            used = 0
            for day in range(first, today + 1):
                # Of all that the account had in the period, deleted namespaces included.
                for name, of_day in (await self.ledger.operations(account, day)).items():
                    if quota.namespace in {None, name}:
                        used += of_day[quota.meter]
        return QuotaState(
            account=account,
            quota=quota,
            used=used,
            ends_s=ends_s(quota.period, now_us // US_PER_S),
        )

    async def run(self, interval_s: float) -> None:
        """Add up, sample and hold quotas, pause, and again, until cancelled."""
        while True:
            try:
                await self.enforce()
                await self.ledger.sample()
            except StoreError as error:
                log.warning("metering_failed", code=error.code, reason=str(error))
            except AtollError as error:
                log.debug("metering_waits", code=error.code, reason=str(error))
            await self._clock.sleep(interval_s)
