"""Several processes over one cache, killed at any moment: never back, never wrong, never dead."""

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from atoll.core.location_errors import LocationInUseError
from atoll.location.folder import KeeperLock, boot_id
from tests.support.histories import Seen, steps_back

ROOT = Path(__file__).parents[2]


@contextmanager
def child(
    role: str, path: Path, said: Path, *, first: int = 0, lost_every: int = 0
) -> Generator["subprocess.Popen[bytes]"]:
    """Run one that says what it does into a file, and kill it."""
    with said.open("ab") as output:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.support.reader_child",
                role,
                str(path),
                str(first),
                str(lost_every),
            ],
            cwd=ROOT,
            env={"PYTHONPATH": f"{ROOT / 'src'}"},
            stdout=output,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def answers(said: Path) -> list[Seen]:
    """Return what it said in whole lines."""
    found: list[Seen] = []
    for line in said.read_text().splitlines():
        words = line.split()
        if len(words) == 4 and all(word.isdigit() for word in words[1:]):
            key, asked, answered, sequence = words
            found.append(
                Seen(
                    who=said.name,
                    key=key,
                    asked_ns=int(asked),
                    answered_ns=int(answered),
                    sequence=int(sequence),
                )
            )
    return found


def wait_for(process: "subprocess.Popen[bytes]", said: Path, count: int) -> None:
    """Wait until it has said more than so many lines, which it does unless it is dead."""
    while said.read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.returncode


def test_no_reader_goes_back_while_keepers_and_readers_are_killed(tmp_path: Path) -> None:
    """What one process has shown, no other takes back, whatever file it has open."""
    place, files = tmp_path / "place", [tmp_path / name for name in ("keeper", "one", "two")]
    kept, one, two = files
    for file in files:
        file.touch()
    with child("read", place, one) as reader:
        for turn in range(1, 5):
            last = max((seen.sequence for seen in answers(kept)), default=0)
            with child("keep", place, kept, first=last + 1, lost_every=97) as keeper:
                with child("read", place, two) as other:
                    before = two.read_bytes().count(b"\n")
                    wait_for(other, two, before + 50)
                wait_for(keeper, kept, turn * 150)
                wait_for(reader, one, turn * 100)

    told = [seen for file in files for seen in answers(file)]
    assert steps_back(told) == []
    assert len(answers(one)) >= 400


@pytest.mark.parametrize("damage", ["cut", "garbage", "gone"])
def test_a_damaged_cache_kills_nobody(tmp_path: Path, damage: str) -> None:
    """It is opened anew or thrown away, and a reader that has the old one open follows."""
    place, kept, one = tmp_path / "place", tmp_path / "keeper", tmp_path / "one"
    kept.touch()
    one.touch()
    with child("keep", place, kept) as keeper:
        wait_for(keeper, kept, 50)
    (file,) = (place / "cache").glob("cache-*.mdb")
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        os.truncate(file, file.stat().st_size // 2)
    else:
        file.write_bytes(b"\xa5" * file.stat().st_size)
    last = answers(kept)[-1].sequence

    with child("read", place, one) as reader, child("keep", place, kept, first=last) as keeper:
        wait_for(keeper, kept, 100)
        wait_for(reader, one, 50)

    assert steps_back([*answers(kept), *answers(one)]) == []


def test_a_second_keeper_is_refused(tmp_path: Path) -> None:
    """It is told which process keeps the location; the kernel lets go when that is killed."""
    place, kept = tmp_path / "place", tmp_path / "keeper"
    kept.touch()
    with child("keep", place, kept) as keeper:
        wait_for(keeper, kept, 1)
        with pytest.raises(LocationInUseError) as refused:
            KeeperLock(place)
        assert refused.value.pid == keeper.pid

    KeeperLock(place).close()


def test_a_boot_has_a_name() -> None:
    """It is the operating system's, and the same for as long as the machine runs."""
    assert boot_id() == boot_id() != ""
    assert boot_id(lambda: " a\n") == "a"
