"""A program that reads a location's cache in process, for a test to stop, kill and fork."""

import ctypes
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import atoll
from atoll.client import Namespace


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def read(space: Namespace, key: str) -> None:
    """Read a key for ever, and say what it is whenever that has changed."""
    said = None
    while True:
        value = space.get(key)
        if value != said:
            said = value
            say(str(value))


def fork(space: Namespace, folder: Path, key: str) -> None:
    """Fork while the cache is open, in the way of Python and behind its back; all go on."""
    for forked in (os.fork, ctypes.CDLL(None).fork):
        _check(space, folder, key, own=True)
        children: list[int] = []
        for number in range(3):
            child = forked()
            if child == 0:
                _end(partial(_child, space, folder, key, number, own=forked is os.fork))
            children.append(child)
            _check(space, folder, key, own=True)
        for child in children:
            _, status = os.waitpid(child, 0)
            assert status == 0, (forked, status)
        _check(space, folder, key, own=True)
    say("ended well")


def _end(work: Callable[[], None]) -> None:
    try:
        work()
    except BaseException:  # noqa: BLE001 - a child says how it ended, whatever it was
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _child(space: Namespace, folder: Path, key: str, number: int, *, own: bool) -> None:
    _check(space, folder, key, own=own)
    written = space.put(f"{key}{os.getpid()}", str(number))
    assert space.get(f"{key}{os.getpid()}", at_least=written.position) == str(number)


def _check(space: Namespace, folder: Path, key: str, *, own: bool) -> None:
    for _ in range(50):
        assert space.get(key) == "first"
    counted = list((folder / "readers").glob(f"{os.getpid()}-*"))
    assert bool(counted) == own, counted


if __name__ == "__main__":
    what, place, namespace, name = sys.argv[1:]
    opened = atoll.connect(Path(place)).namespace(namespace)
    if what == "read":
        read(opened, name)
    else:
        fork(opened, Path(place), name)
