"""The tests of Python programs notice bugs: each of the patches in `bugs` breaks one mechanism.

A patch is applied to a copy of the source; the test that its first line names must then fail.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BUGS = Path(__file__).parent / "bugs"
ROOT = Path(__file__).parents[2]
SECONDS_MAX = 100


@pytest.mark.parametrize("patch", sorted(BUGS.glob("*.patch")), ids=lambda patch: patch.stem)
def test_a_planted_bug_is_caught(patch: Path, tmp_path: Path) -> None:
    """The test fails, and is not merely broken."""
    named = re.match(r"Caught by (\S+)::(\w+)\.", patch.read_text())
    assert named is not None, patch
    for part in ("src", "tests"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    subprocess.run(["git", "apply", str(patch)], cwd=tmp_path, check=True)  # noqa: S607

    ended = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"),
            *(named[1], "-k", named[2]),
        ],
        env={"PYTHONPATH": str(tmp_path / "src")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )

    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "1 failed" in ended.stdout, ended.stdout
