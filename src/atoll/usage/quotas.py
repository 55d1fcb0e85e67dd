"""Quotas: what an account or a namespace may use in a day or a month.

A hard quota that is used up stops its operation until the period ends. Central notes that in the
entries of the namespaces it concerns, where every node looks anyway, so a stop reaches all
locations as any change does, and costs nothing to look up. Counts arrive at central some seconds
late, so what is used in that time may exceed a quota.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from atoll.core.errors import BodyInvalidError
from atoll.core.quota_errors import QuotaReachedError
from atoll.usage.counts import Operation
from atoll.usage.prices import Meter, Period

QUOTAS_MAX: Final = 1000
"""How many an account may have."""


class Quota(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """So much of something in a period."""

    meter: Meter
    """Storage is in bytes, at any moment, and stops writes."""
    limit: int
    period: Period
    namespace: str | None = None
    """Of this one alone; `None` for all of the account's together."""
    hard: bool = False
    """Whether it stops what exceeds it, or only says so."""


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """An operation that is refused in a namespace for a while."""

    operation: Operation
    until_s: int
    """When it ends, in seconds since the Unix epoch."""
    limit: int
    period: Period
    meter: Meter


FREE_PLAN: Final = (
    Quota(meter=Meter.READ, limit=100_000, period=Period.DAY, hard=True),
    Quota(meter=Meter.WRITE, limit=1000, period=Period.DAY, hard=True),
    Quota(meter=Meter.DELETE, limit=1000, period=Period.DAY, hard=True),
    Quota(meter=Meter.LIST, limit=1000, period=Period.DAY, hard=True),
    Quota(meter=Meter.STORAGE, limit=10**9, period=Period.DAY, hard=True),
)
"""What Workers KV's free plan allows."""

PRESETS: Final = {"free": FREE_PLAN, "none": ()}


def decode_quotas(raw: bytes) -> tuple[Quota, ...]:
    """Read quotas as they are given.

    Raises:
        BodyInvalidError: They are none, or too many, or of the same thing twice.
    """
    try:
        quotas = msgspec.json.decode(raw, type=tuple[Quota, ...])
    except (ValueError, RecursionError) as error:
        raise BodyInvalidError(detail=f"these are no quotas: {error}") from error
    if len(quotas) > QUOTAS_MAX:
        raise BodyInvalidError(detail=f"an account has at most {QUOTAS_MAX} quotas")
    if any(quota.limit < 0 for quota in quotas):
        raise BodyInvalidError(detail="`limit` is a whole number that is not negative")
    about = [(quota.meter, quota.period, quota.namespace, quota.hard) for quota in quotas]
    if len(set(about)) < len(about):
        raise BodyInvalidError(detail="two quotas are about the same")
    return quotas


def ends_s(period: Period, now_s: int) -> int:
    """Return when the period ends that a time is in, in seconds since the Unix epoch, in UTC."""
    today = datetime.fromtimestamp(now_s, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period is Period.DAY:
        end = today + timedelta(days=1)
    else:
        end = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    return int(end.timestamp())


def stop_of(quota: Quota, now_s: int) -> Stop:
    """Return what a hard quota stops that is used up."""
    storage = quota.meter is Meter.STORAGE
    return Stop(
        operation=Operation.WRITE if storage else Operation(quota.meter.value),
        until_s=ends_s(quota.period, now_s),
        limit=quota.limit,
        period=quota.period,
        meter=quota.meter,
    )


def is_stopped(stops: Sequence[Stop], operation: Operation, *, now_s: int) -> bool:
    """Whether an operation is stopped now."""
    return any(stop.operation is operation and now_s < stop.until_s for stop in stops)


def require_within(stops: Sequence[Stop], operations: Iterable[Operation], *, now_s: int) -> None:
    """Refuse what is stopped.

    Args:
        stops: Those of the namespace.
        operations: What is about to be done.
        now_s: Central time, in seconds since the Unix epoch.

    Raises:
        QuotaReachedError: One of `operations` is stopped.
    """
    wanted = set(operations)
    for stop in stops:
        if stop.operation in wanted and now_s < stop.until_s:
            raise QuotaReachedError(
                meter=stop.meter,
                limit=stop.limit,
                period=stop.period,
                ends_s=stop.until_s,
                retry_after_s=stop.until_s - now_s,
            )
