"""Metadata of many pairs becomes what that of one would."""

import msgspec
import pytest

from atoll.core.errors import AtollError
from atoll.core.limits import Limits
from atoll.http.metadata import stored_form, stored_forms

LIMITS = Limits(metadata_bytes_max=24)

PLAIN = ["", "null", " null ", "1", '"a, b"', '{ "a": [1, 2], "b": "] ," }', '"\u043a"', '"[null,"']
ODD = [rb'"\u0041"', b'"' + b"x" * 23 + b'"', b'"\xff"', b"nul", b"[1", b"1,2", b"1]", b"01"]


def test_plain_metadata_is_compacted_together() -> None:
    """Each as by itself, whatever stands beside it."""
    texts = [text.encode() for text in PLAIN]

    together = stored_forms(LIMITS, [msgspec.Raw(text) for text in texts])

    assert together == [stored_form(LIMITS, text) for text in texts]


def test_where_there_is_none_there_is_none() -> None:
    """As in most bulks."""
    assert stored_forms(LIMITS, []) == []
    assert stored_forms(LIMITS, [msgspec.Raw(b"")] * 2) == [None, None]


@pytest.mark.parametrize("odd", ODD)
def test_what_is_out_of_the_ordinary_is_looked_at_by_itself(odd: bytes) -> None:
    """Also among others; by itself it is refused, or takes the slow path."""
    texts = [b"1", odd, b"2"]

    assert stored_forms(LIMITS, [msgspec.Raw(text) for text in texts]) is None
    if b"\\" not in odd:
        with pytest.raises(AtollError):
            stored_form(LIMITS, odd)
