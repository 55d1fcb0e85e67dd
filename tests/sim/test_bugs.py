"""The simulator notices bugs: each of the patches beside this file breaks a mechanism in one place.

A patch is applied to a copy of the source; some promise must then be found broken within a bounded
range of seeds, the same for all, so that a shifted schedule moves only where in it. A patch that no
longer applies fails its test too: the code that it breaks has moved, and the patch has to follow.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BUGS = Path(__file__).parent / "bugs"
SOURCE = Path(__file__).parents[2] / "src"
SECONDS_MAX = 900
SEEDS_MAX = 400
COMMAND = "from atoll.cli import main; main()"


def patches() -> list[Path]:
    """Return every planted bug."""
    return sorted(BUGS.glob("*.patch"))


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

    ended = subprocess.run(
        [
            sys.executable,
            *("-c", COMMAND, "simulate", "--seeds", str(SEEDS_MAX)),
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


def test_there_are_planted_bugs() -> None:
    """An empty folder would prove nothing."""
    assert len(patches()) > 0
