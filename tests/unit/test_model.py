"""Positions as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core.errors import ParameterInvalidError
from atoll.core.model import Position


@given(st.integers(0, 2**64 - 1), st.integers(0, 10**18 - 1))
def test_a_position_reads_back_from_its_text(incarnation: int, sequence: int) -> None:
    """What an answer's header says can be sent back."""
    position = Position(incarnation=incarnation, sequence=sequence)

    assert Position.parse(str(position)) == position


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "5",
        "0123456789abcdef-",
        "0123456789ABCDEF-1",
        "0123456789abcdef--1",
        "g" * 16 + "-1",
    ],
)
def test_what_is_no_position_is_refused(text: str) -> None:
    """An error says where positions come from."""
    with pytest.raises(ParameterInvalidError, match="Atoll-Position"):
        Position.parse(text)
