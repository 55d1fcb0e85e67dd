"""Every error of the tree has its row in every face, and the documentation has it too."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from atoll.core import errors, location_errors, quota_errors
from atoll.core.errors import AtollError
from atoll.http.rest_form import INTERNAL_NUMBER, MISSING_CREDENTIALS_NUMBER, REFUSALS
from atoll.http.v1 import STATUSES

DOCS: Final = Path(__file__).parents[2] / "docs"


def tree(root: type[AtollError] = AtollError) -> Iterator[type[AtollError]]:
    """Every class of the tree."""
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


MODULES: Final = {errors.__name__, location_errors.__name__, quota_errors.__name__}
CODES: Final = sorted({error.code for error in tree() if error.__module__ in MODULES})


def test_every_error_has_a_row_and_every_row_an_error() -> None:
    """In REST v4's table and in that of `/v1`."""
    assert len(CODES) > 40
    assert sorted(REFUSALS) == CODES
    assert sorted(STATUSES) == CODES


@pytest.mark.parametrize("code", CODES)
def test_a_row_is_a_refusal(code: str) -> None:
    """Never a success, never a number that clients would not take for one."""
    refusal = REFUSALS[code]

    assert 400 <= refusal.status <= 599
    assert 400 <= STATUSES[code] <= 599
    assert all(number >= 1000 for number in (refusal.number, *refusal.number_by.values()))


def test_faces_agree_on_whose_fault_it_is() -> None:
    """A status may differ between faces, its first digit may not."""
    assert {c for c in CODES if REFUSALS[c].status // 100 != STATUSES[c] // 100} == set()


def test_our_own_numbers_stay_in_their_block() -> None:
    """What Cloudflare does not number is between 20,400 and 20,599."""
    numbers = {n for r in REFUSALS.values() for n in (r.number, *r.number_by.values())}
    own = {number for number in numbers | {INTERNAL_NUMBER} if number >= 11_000}

    assert own
    assert all(20_400 <= number < 20_600 for number in own)


@pytest.mark.parametrize("code", CODES)
def test_the_documentation_has_the_row(code: str) -> None:
    """With both statuses and every number."""
    rows = [
        line.split("|")[1:-1]
        for line in (DOCS / "errors.md").read_text().splitlines()
        if line.startswith(f"| `{code}` |")
    ]
    refusal = REFUSALS[code]

    (row,) = rows
    assert row[1].strip() == str(refusal.status)
    assert row[3].strip() == str(STATUSES[code])
    numbers = {refusal.number, *refusal.number_by.values()}
    if code == "unauthenticated":
        numbers.add(MISSING_CREDENTIALS_NUMBER)
    assert {int(number) for number in row[2].replace(",", " ").split()} == numbers
    assert row[4].strip()
