"""A statement is what a slow and obvious computation with fractions says, to the cent."""

import math
from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core.errors import ParameterInvalidError
from atoll.usage.prices import (
    OUR_BOOKS,
    Meter,
    Period,
    PriceBook,
    PricedLine,
    book_for,
    decode_books,
)
from atoll.usage.statement import Used, as_csv, month_at, month_of, statement_of

MONTHS = st.dates(date(2019, 1, 1), date(2030, 12, 31)).map(lambda day: day.replace(day=1))
NOVEMBER = date(2026, 11, 1)
MILLION = 10**6

# Around what is included, and far beyond it.
counts = st.one_of(
    st.integers(0, 10**12), st.sampled_from([999, 1000, 1001, 10**6, 10**6 + 1, 10**7 + 1])
)
days_used = st.dictionaries(
    st.integers(1, 28), st.dictionaries(st.sampled_from(list(Meter)[1:]), counts), max_size=5
)
samples = st.lists(st.integers(0, 10**14), max_size=24 * 28)


def cents(amount: Fraction) -> Fraction:
    """Round half up to cents."""
    return Fraction(math.floor(amount * 100 + Fraction(1, 2)), 100)


def hours_of(month: date) -> int:
    """How many hours a month has, by counting to the next one."""
    following = date(month.year + month.month // 12, month.month % 12 + 1, 1)
    return (following - month).days * 24


def slow_amount(line: PricedLine, book: PriceBook, used: Used, month: date) -> Fraction:
    """Charge for one line, with nothing rounded before the end."""
    included, price = Fraction(line.included), Fraction(line.price) / Fraction(line.per)
    if Meter.STORAGE in line.meters:
        gb_months = Fraction(0)
        for sample in used.stored_bytes:
            gb_months += Fraction(sample, 10**9) / hours_of(month)
        return cents(max(Fraction(0), gb_months - included) * price)
    over = Fraction(0)
    total = 0
    for day in used.operations.values():
        today = 0
        for meter, count in day.items():
            if meter in line.meters:
                today += count
        total += today
        if book.period is Period.DAY:
            over += max(Fraction(0), today - included)
    if book.period is Period.MONTH:
        over = max(Fraction(0), total - included)
    return cents(over * price)


own_lines = st.builds(
    PricedLine,
    name=st.just("line"),
    meters=st.sampled_from([(Meter.STORAGE,), (Meter.READ,), (Meter.WRITE, Meter.DELETE)]),
    unit=st.just("operations"),
    per=st.sampled_from([Decimal(1), Decimal(1000), Decimal(MILLION), Decimal(3)]),
    price=st.decimals(0, 100, places=4),
    included=st.decimals(0, 10**7, places=3),
)
own_books = st.builds(
    PriceBook,
    name=st.just("own"),
    title=st.just("Our own"),
    since=st.just(date(2020, 1, 1)),
    currency=st.just("EUR"),
    period=st.sampled_from(Period),
    lines=st.lists(own_lines, max_size=3, unique_by=lambda line: line.meters).map(tuple),
)


@given(st.one_of(st.sampled_from(OUR_BOOKS), own_books), days_used, samples, MONTHS)
def test_amounts_are_exact(
    book: PriceBook, operations: dict[int, dict[Meter, int]], stored: list[int], month: date
) -> None:
    """Each line to the cent, and the total is the sum of the lines."""
    used = Used(operations=operations, stored_bytes=stored)

    made = statement_of(book, used, account="a", namespace=None, month=month, complete=True)

    expected = [slow_amount(line, book, used, month) for line in book.lines]
    assert [Fraction(line.amount) for line in made.lines] == expected
    assert Fraction(made.total) == sum(expected)


def test_what_the_announcement_said() -> None:
    """Two GB all month, 12 million reads, and 1.5 million writes, lists and deletes together."""
    used = Used(
        operations={
            3: {Meter.READ: 12 * MILLION, Meter.WRITE: MILLION},
            4: {Meter.LIST: MILLION // 4, Meter.DELETE: MILLION // 4},
        },
        stored_bytes=[2 * 10**9] * 720,
    )

    then, now = (
        statement_of(
            book_for(OUR_BOOKS, name, NOVEMBER),
            used,
            account="a",
            namespace=None,
            month=NOVEMBER,
            complete=True,
        )
        for name in ("2019", "today")
    )

    assert [str(line.amount) for line in then.lines] == ["0.50", "1.00", "2.50"]
    assert [str(line.amount) for line in now.lines] == ["0.50", "1.00", "0.00", "0.00", "0.00"]
    assert (str(then.total), str(now.total)) == ("4.00", "1.50")
    assert as_csv(then).splitlines()[-1] == "2026-11,total,,,,,,,4.00,USD"


def test_the_free_plan_counts_by_the_day() -> None:
    """What one day leaves of its share is no help to another."""
    used = Used(operations={1: {Meter.WRITE: 400}, 2: {Meter.WRITE: 1300}})
    book = book_for(OUR_BOOKS, "free", NOVEMBER)

    made = statement_of(book, used, account="a", namespace=None, month=NOVEMBER, complete=False)

    writes = next(line for line in made.lines if line.name == "writes")
    assert [str(n) for n in (writes.quantity, writes.included, writes.billable)] == [
        "1700",
        "1400",
        "300",
    ]
    assert made.total == 0


@pytest.mark.parametrize(
    ("month", "lines"),
    [(date(2018, 1, 1), 3), (date(2020, 12, 1), 3), (date(2021, 1, 1), 5), (NOVEMBER, 5)],
)
def test_a_month_is_charged_by_the_prices_of_its_first_day(month: date, lines: int) -> None:
    """And what was before all prices, by the first."""
    assert len(book_for(OUR_BOOKS, "today", month).lines) == lines


def test_unknown_prices_and_months_are_refused() -> None:
    """With what there is."""
    with pytest.raises(ParameterInvalidError, match="2019, today, free"):
        book_for(OUR_BOOKS, "tomorrow", NOVEMBER)
    for text in ("2026-13", "2026", "2026-11-01", "november"):
        with pytest.raises(ParameterInvalidError, match="2026-11"):
            month_of(text)
    assert month_of("2026-11") == NOVEMBER == month_at(1_795_000_000_000_000)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (b"{}", "array"),
        (b'[{"name": "own"}]', "missing"),
        (b'"per": "0"', "positive"),
        (b'"price": "-1"', "not negative"),
        (b'"price": "NaN"', "finite"),
        (b'"meters": []', "needs meters"),
        (b'"meters": ["storage", "read"]', "cannot be added"),
    ],
)
def test_a_file_that_holds_no_prices_is_refused(wrong: bytes, why: str) -> None:
    """And says what is wrong with it."""
    line = {b"per": b'"1"', b"price": b'"1"', b"meters": b'["read"]', b"included": b'"0"'}
    if wrong.startswith(b'"'):
        name, _, value = wrong.partition(b": ")
        line[name.strip(b'"')] = value
        fields = b",".join(b'"%b":%b' % pair for pair in line.items())
        wrong = (
            b'[{"name":"own","title":"t","since":"2020-01-01","currency":"EUR","period":"month",'
            b'"lines":[{"name":"l","unit":"u",%b}]}]' % fields
        )
    with pytest.raises(ParameterInvalidError, match=why):
        decode_books(wrong)


def test_no_meter_is_charged_twice() -> None:
    """A list with one meter in two lines is refused."""
    line = PricedLine(
        name="reads",
        meters=(Meter.READ,),
        unit="operations",
        per=Decimal(1),
        price=Decimal(1),
        included=Decimal(0),
    )
    with pytest.raises(ValueError, match="two lines"):
        PriceBook(
            name="own",
            title="t",
            since=NOVEMBER,
            currency="EUR",
            period=Period.MONTH,
            lines=(line, line),
        )
