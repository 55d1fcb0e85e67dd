"""What a location tells programs on its machine, in a file of its folder.

A program that looks keys up in the cache judges by the location's own bound, which is a setting of
the location and not of the program.
"""

from pathlib import Path
from typing import Final

import msgspec

NAME: Final = "location.json"


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """The file's content."""

    name: str
    """The location's."""
    age_ms_max: int
    """The bound of a read that states none, where its namespace has none either."""


def publish(folder: Path, told: Published) -> None:
    """Write the file, so that whoever reads it sees all of it or what was there before."""
    fresh = folder / f".{NAME}"
    fresh.write_bytes(msgspec.json.encode(told))
    fresh.replace(folder / NAME)


def published(folder: Path) -> Published:
    """Read the file.

    Raises:
        OSError: It cannot be read; no location runs there, or none that this user may use.
        ValueError: It holds something else.
    """
    return msgspec.json.decode((folder / NAME).read_bytes(), type=Published)
