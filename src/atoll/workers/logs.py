"""What workerd logs, as people want to read it: what the Worker says, and what goes wrong."""

import asyncio
import re
import sys
from typing import Final, TextIO

import msgspec

LOGGED_BYTES_MAX: Final = 2**22
"""The longest line that is passed on."""

_ERRORS: Final = {"warning", "error", "fatal"}
_CONSOLE: Final = re.compile(r"console\.\w+\(\); message\(\) = (.*)", re.DOTALL)
_UNCAUGHT: Final = re.compile(r"uncaught exception; source = \w+; stack = (.*)", re.DOTALL)
_KNOWN: Final = " remote.jsg."
"""In what is logged of an exception once more, without where it was thrown."""
_STACK: Final = "\nstack: "
"""What follows are addresses in the program."""


class _Line(msgspec.Struct):
    level: str
    message: str
    source: str | None = None
    """Where in the program it was logged; `None` if it was the Worker."""


async def pass_on(lines: asyncio.StreamReader, out: TextIO) -> None:
    """Print what workerd logs, to its end: complaints to standard error, the rest to `out`."""
    while True:
        try:
            line = await lines.readline()
        except ValueError:
            sys.stderr.write(f"atoll: a line of more than {LOGGED_BYTES_MAX} bytes is left out\n")
            continue
        if not line:
            return
        shown, is_complaint = readable(line)
        if shown is not None:
            to = sys.stderr if is_complaint else out
            to.write(shown + "\n")
            to.flush()


def readable(line: bytes) -> tuple[str | None, bool]:
    """Return what to print of one line, if anything, and whether it is a complaint."""
    try:
        logged = msgspec.json.decode(line, type=_Line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return line.decode(errors="replace").rstrip("\n"), False
    if logged.source is None:
        return logged.message, False
    # Where the runtime behaves as of an earlier day, it is the program that logs it.
    said = _CONSOLE.fullmatch(logged.message)
    if said is not None:
        return _words(said[1]), False
    uncaught = _UNCAUGHT.fullmatch(logged.message)
    if uncaught is not None:
        return f"uncaught {uncaught[1]}", True
    if logged.level in _ERRORS and _KNOWN not in logged.message:
        return logged.message.partition(_STACK)[0], True
    return None, False


def _words(arguments: str) -> str:
    """Write what was given to `console.log`: texts as they are, the rest as it was written."""
    try:
        parts = msgspec.json.decode(arguments, type=list[msgspec.Raw])
        return " ".join(_word(part) for part in parts)
    except msgspec.MsgspecError:  # JavaScript has values that JSON has not.
        return arguments


def _word(part: msgspec.Raw) -> str:
    raw = bytes(part)
    return msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else raw.decode()
