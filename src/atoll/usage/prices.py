"""Prices as data: what is counted, how much of it is included, and what the rest costs.

Ours are in `prices.json`; an operator's own are a file of the same form. Several books of one name
hold from their dates on: a month is charged by the latest that holds on its first day.
"""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from enum import StrEnum
from importlib.resources import files
from typing import Final

import msgspec

from atoll.core.errors import ParameterInvalidError

DEFAULT_BOOK: Final = "today"
FILE_BYTES_MAX: Final = 2**20


class Period(StrEnum):
    """What is included is included in each of these."""

    DAY = "day"
    MONTH = "month"


class Meter(StrEnum):
    """What can be charged for."""

    STORAGE = "storage"
    """GB-months, however the period; 10^9 bytes through all hours of a month are one."""
    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    LIST = "list"


class PricedLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a price list."""

    name: str
    meters: tuple[Meter, ...]
    """What counts together for it."""
    unit: str
    per: Decimal
    """The price is for so many units, and for parts of them in proportion."""
    price: Decimal
    included: Decimal

    def __post_init__(self) -> None:
        if not (self.meters and len(set(self.meters)) == len(self.meters)):
            raise ValueError("a line needs meters, and each of them once")
        if Meter.STORAGE in self.meters and len(self.meters) > 1:
            raise ValueError("storage cannot be added to operations")
        numbers = (self.per, self.price, self.included)
        if not all(number.is_finite() for number in numbers):
            raise ValueError("`per`, `price` and `included` must be finite")
        if self.per <= 0 or min(numbers) < 0:
            raise ValueError("`per` must be positive, `price` and `included` not negative")


class PriceBook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price list."""

    name: str
    title: str
    since: date
    currency: str
    period: Period
    lines: tuple[PricedLine, ...]

    def __post_init__(self) -> None:
        meters = [meter for line in self.lines for meter in line.meters]
        if len(set(meters)) != len(meters):
            raise ValueError("a meter stands in two lines")


def decode_books(raw: bytes) -> tuple[PriceBook, ...]:
    """Read price lists.

    Raises:
        ParameterInvalidError: They are none.
    """
    try:
        return msgspec.json.decode(raw, type=tuple[PriceBook, ...])
    except (ValueError, RecursionError) as error:
        raise ParameterInvalidError(
            name="prices", given="a file", rule=f"It holds no price lists: {error}"
        ) from error


OUR_BOOKS: Final = decode_books(files("atoll.usage").joinpath("prices.json").read_bytes())


def book_for(books: Sequence[PriceBook], name: str, month: date) -> PriceBook:
    """Return the list of a name that holds on the first day of a month.

    Where all begin later, the first that will; what was used before prices were known is charged
    by those that were known first.

    Raises:
        ParameterInvalidError: There is none of that name.
    """
    named = sorted((book for book in books if book.name == name), key=lambda book: book.since)
    if not named:
        known = ", ".join(dict.fromkeys(book.name for book in books))
        raise ParameterInvalidError(name="prices", given=name, rule=f"There are: {known}.")
    return next((book for book in reversed(named) if book.since <= month), named[0])
