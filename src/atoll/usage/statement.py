"""A statement: what was used in a month, and what it costs by a price list, line by line."""

import csv
import io
from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from typing import Final

import msgspec

from atoll.core.errors import ParameterInvalidError
from atoll.usage.counts import HOURS_PER_DAY
from atoll.usage.prices import Meter, Period, PriceBook, PricedLine

GB: Final = 10**9
CENT: Final = Decimal("0.01")
MICRO: Final = Decimal("0.000001")

EXACT: Final = Context(prec=60, rounding=ROUND_HALF_UP)
"""Digits enough that nothing is rounded before the cents of a line."""

_EPOCH: Final = date(1970, 1, 1)
_MONTH_TEXT: Final = len("2026-11")


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What was used in a month."""

    operations: Mapping[int, Mapping[Meter, int]] = field(
        default_factory=dict[int, Mapping[Meter, int]]
    )
    """By day of the month, from 1."""
    stored_bytes: Sequence[int] = ()
    """What was stored, a sample for each hour of the month so far."""


class StatementLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line. Amounts are of its price list's currency."""

    name: str
    unit: str
    quantity: Decimal
    included: Decimal
    """As much of the quantity as costs nothing."""
    billable: Decimal
    per: Decimal
    price: Decimal
    amount: Decimal


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What a month costs."""

    account: str
    namespace: str | None
    """The one that it is about, `None` for the whole account."""
    month: str
    prices: str
    title: str
    currency: str
    since: date
    complete: bool
    """Whether the month is over."""
    lines: tuple[StatementLine, ...]
    total: Decimal
    """The sum of the lines, as they are rounded."""


def month_of(text: str) -> date:
    """Return the first day of a month such as `2026-11`.

    Raises:
        ParameterInvalidError: It is none.
    """
    try:
        if len(text) == _MONTH_TEXT:
            return date.fromisoformat(text + "-01")
    except ValueError:
        pass
    raise ParameterInvalidError(name="month", given=text, rule="Use a month such as 2026-11.")


def month_at(now_us: int) -> date:
    """Return the first day of the month that a time is in, in UTC."""
    return datetime.fromtimestamp(now_us // 1_000_000, UTC).date().replace(day=1)


def day_number(day: date) -> int:
    """Return whole days since the Unix epoch."""
    return (day - _EPOCH).days


def days_in(month: date) -> int:
    """Return how many days a month has."""
    return monthrange(month.year, month.month)[1]


def line_of(line: PricedLine, used: Used, *, period: Period, days: int) -> StatementLine:
    """Charge for one line.

    Args:
        line: The line of the price list.
        used: What was used.
        period: In what the included part is included.
        days: How many days the month has.
    """
    with localcontext(EXACT):
        if line.meters == (Meter.STORAGE,):
            # The hours of the month decide what a GB-month is, and no day has a share of its own.
            quantity = Decimal(sum(used.stored_bytes)) / (GB * HOURS_PER_DAY * days)
            quantities = [quantity]
        else:
            daily = [sum(of.get(m, 0) for m in line.meters) for of in used.operations.values()]
            quantities = [Decimal(n) for n in (daily if period is Period.DAY else [sum(daily)])]
        quantity = sum(quantities, Decimal(0))
        billable = sum((max(Decimal(0), n - line.included) for n in quantities), Decimal(0))
        amount = (billable / line.per * line.price).quantize(CENT)
        shown = MICRO if line.meters == (Meter.STORAGE,) else Decimal(1)
        return StatementLine(
            name=line.name,
            unit=line.unit,
            quantity=quantity.quantize(shown),
            included=(quantity - billable).quantize(shown),
            billable=billable.quantize(shown),
            per=line.per,
            price=line.price,
            amount=amount,
        )


def statement_of(
    book: PriceBook,
    used: Used,
    *,
    account: str,
    namespace: str | None,
    month: date,
    complete: bool,
) -> Statement:
    """Charge for a month by a price list."""
    days = days_in(month)
    lines = tuple(line_of(line, used, period=book.period, days=days) for line in book.lines)
    return Statement(
        account=account,
        namespace=namespace,
        month=f"{month:%Y-%m}",
        prices=book.name,
        title=book.title,
        currency=book.currency,
        since=book.since,
        complete=complete,
        lines=lines,
        total=sum((line.amount for line in lines), Decimal(0)),
    )


def as_csv(statement: Statement) -> str:
    """Write a statement as CSV: a line of names, its lines, and the total."""
    text = io.StringIO()
    writer = csv.writer(text)
    names = StatementLine.__struct_fields__
    writer.writerow(("month", *names, "currency"))
    for line in statement.lines:
        values = (getattr(line, name) for name in names)
        writer.writerow((statement.month, *values, statement.currency))
    blank = ("",) * (len(names) - 2)
    writer.writerow((statement.month, "total", *blank, statement.total, statement.currency))
    return text.getvalue()
