"""The setting `prices`: an operator's own price lists, or why they will not do."""

from pathlib import Path

import pytest

from atoll.config import Config
from atoll.core.errors import ConfigError
from atoll.serve.counting import books_of

OWN = """[{"name": "ours", "title": "Ours", "since": "2026-01-01", "currency": "EUR",
  "period": "day",
  "lines": [{"name": "all", "meters": ["read", "list"], "unit": "operations", "per": "1000",
             "price": "0.1", "included": "0"}]}]"""


def test_own_prices_are_read(tmp_path: Path) -> None:
    """From the file that the setting names; without it there are none."""
    path = tmp_path / "prices.json"
    path.write_text(OWN)

    (book,) = books_of(Config(prices=path))

    assert (book.name, book.currency) == ("ours", "EUR")
    assert books_of(Config()) == ()


@pytest.mark.parametrize("content", [None, "", "[{}]", OWN[:-5]])
def test_what_holds_no_prices_is_no_setting(tmp_path: Path, content: str | None) -> None:
    """Nothing starts with it."""
    path = tmp_path / "prices.json"
    if content is not None:
        path.write_text(content)

    with pytest.raises(ConfigError, match="prices"):
        books_of(Config(prices=path))
