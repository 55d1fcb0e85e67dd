"""What commands print: results to standard output, everything else to standard error.

For people: tables on a terminal, tab-separated columns into a pipe. With `--json`: one JSON
document, and errors as `{"error": {"code", "message"}}`.
"""

import json
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

YEAR_10000_S: Final = 253_402_300_800


def to_json(document: object, *, indent: int | None = None) -> str:
    """Serialise for people and programs alike: characters as they are, lone surrogates escaped."""
    text = json.dumps(document, ensure_ascii=False, indent=indent)
    return text.encode("utf-8", "backslashreplace").decode()


def printable(text: str) -> str:
    """Quote what a terminal would obey instead of showing, such as escape sequences."""
    return text if text.isprintable() else json.dumps(text, ensure_ascii=True)


def at_time(seconds: int | None) -> str:
    """Write seconds since the Unix epoch for people, in UTC; nothing for `None`."""
    if seconds is None or not 0 <= seconds < YEAR_10000_S:
        return "" if seconds is None else str(seconds)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def table_of(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Lay out rows for a terminal."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        # Ids and tokens are there to be copied: fold them rather than cut them.
        table.add_row(*(Text(printable(cell), overflow="fold") for cell in row))
    return table


class Out:
    """Where a command's result goes."""

    def __init__(self, *, as_json: bool) -> None:
        """Print JSON, or text for people."""
        self.as_json = as_json

    def result(self, document: object, text: str | None = None) -> None:
        """Print what a command came to.

        Args:
            document: For `--json`.
            text: For people; nothing by default.
        """
        if self.as_json:
            sys.stdout.write(to_json(document, indent=2) + "\n")
        elif text:
            sys.stdout.write(text + "\n")

    def table(
        self,
        document: object,
        columns: Sequence[str],
        rows: Iterable[Sequence[str]],
        *,
        empty: str = "",
    ) -> None:
        """Print rows.

        Args:
            document: For `--json`.
            columns: Headings, shown on a terminal.
            rows: Cells, one for each column.
            empty: What to tell people when there is no row.
        """
        if self.as_json:
            self.result(document)
            return
        cells = list(rows)
        if not cells:
            self.note(empty)
        elif sys.stdout.isatty():
            Console(soft_wrap=False).print(table_of(columns, cells))
        else:
            sys.stdout.writelines("\t".join(map(printable, row)) + "\n" for row in cells)

    async def stream(self, items: AsyncIterator[tuple[object, str]]) -> None:
        """Print items as they come, each a document and its line of text.

        With `--json` they make one array, with one item on a line.
        """
        first = True
        async for document, text in items:
            if self.as_json:
                sys.stdout.write(("[\n" if first else ",\n") + to_json(document))
            else:
                sys.stdout.write(text + "\n")
            first = False
        if self.as_json:
            sys.stdout.write("[]\n" if first else "\n]\n")

    def note(self, text: str) -> None:
        """Tell people something that is no result; silent with `--json`."""
        if text and not self.as_json:
            sys.stderr.write(text + "\n")

    def complain(self, text: str) -> None:
        """Tell what went wrong, while the command goes on."""
        sys.stderr.write(f"atoll: {text}\n")

    def error(self, *, code: str, message: str, facts: dict[str, object] | None = None) -> None:
        """Print why the command failed."""
        if self.as_json:
            document = {"error": {"code": code, "message": message, **(facts or {})}}
            sys.stderr.write(to_json(document) + "\n")
        else:
            self.complain(message)
