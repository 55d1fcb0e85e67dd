"""A progress bar, where there is somebody to look at it."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as RichProgress


class Progress(Protocol):
    """Told how far something has come."""

    def __call__(self, done: int, note: str, /) -> None:
        """Show it.

        Args:
            done: Out of the total.
            note: A few words.
        """
        ...


@contextmanager
def progress(title: str, *, total: int | None, in_bytes: bool, shown: bool) -> Generator[Progress]:
    """Show a bar on standard error for as long as the block lasts.

    Args:
        title: What is being done.
        total: Where it ends; `None` if that is not known.
        in_bytes: Whether numbers are bytes.
        shown: Whether to show anything at all.
    """
    if not shown:
        yield silent
        return
    amounts: list[ProgressColumn] = (
        [DownloadColumn(), TransferSpeedColumn()] if in_bytes else [MofNCompleteColumn()]
    )
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        *amounts,
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ]
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, note="")

        def show(done: int, note: str) -> None:
            bar.update(task, completed=done, note=note)

        yield show


def silent(_done: int, _note: str, /) -> None:
    """Show nothing."""
