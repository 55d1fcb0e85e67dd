"""The simulator notices bugs: each of the patches beside this file breaks a mechanism in one place.

A patch is applied to a copy of the source; some promise must then be found broken within the
seeds that its first line names. A patch that no longer applies fails its test too: the code that
it breaks has moved, and the patch has to follow.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BUGS = Path(__file__).parent / "bugs"
SOURCE = Path(__file__).parents[2] / "src"
SECONDS_MAX = 300


def patches() -> list[Path]:
    """Return every planted bug."""
    return sorted(BUGS.glob("*.patch"))


def seeds_of(patch: Path) -> tuple[int, int]:
    """Return the seeds within which a bug has to be caught: the first, and how many."""
    found = re.match(r"Caught within (\d+) seeds from (\d+)\.", patch.read_text())
    assert found is not None, patch
    return int(found[2]), int(found[1])


def plant(patch: Path, folder: Path) -> Path:
    """Copy the source to a folder, with one bug more."""
    source = folder / "src"
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "apply", str(patch)], cwd=folder, check=True)  # noqa: S607
    return source


@pytest.mark.timeout(SECONDS_MAX + 10)
@pytest.mark.parametrize("patch", patches(), ids=lambda patch: patch.stem)
def test_a_planted_bug_is_caught(patch: Path, tmp_path: Path) -> None:
    """The run ends with a violation, not with an error of its own."""
    source = plant(patch, tmp_path)
    first, seeds = seeds_of(patch)

    ended = subprocess.run(
        [
            sys.executable,
            *("-m", "atoll.simulator"),
            *("--first-seed", str(first), "--seeds", str(seeds)),
            *("--processes", "2", "--stop"),
        ],
        env={"PYTHONPATH": str(source)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )

    assert ended.returncode == 1, f"{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}"
    assert re.search(r"^seed \d+: ", ended.stdout, re.MULTILINE)


def test_every_patch_says_within_how_many_seeds_it_is_caught() -> None:
    """There are planted bugs, and a run of each ends."""
    assert len(patches()) > 0
    assert all(0 < seeds_of(patch)[1] <= 100 for patch in patches())
