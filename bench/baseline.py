"""Another state of our own code, to be measured beside this one."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import machine
from bench.process import BenchError

FOLDER: Final = machine.ROOT / ".cache" / "against"
INSTALL_SECONDS_MAX: Final = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """An Atoll of another commit, installed."""

    commit: str
    program: Path


def prepared(name: str) -> Baseline:
    """Take a commit's files out and install them in an environment of their own, if need be.

    Args:
        name: The commit, however git knows it.

    Raises:
        BenchError: There is no such commit, or it cannot be installed.
    """
    commit = _said("git", "rev-parse", "--short", "--verify", f"{name}^{{commit}}").strip()
    folder = FOLDER / commit
    program = folder / ".venv" / "bin" / "atoll"
    if not (folder / ".venv" / ".installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        archive = folder.with_suffix(".tar")
        _said("git", "archive", f"--output={archive}", commit)
        _said("tar", "--extract", f"--file={archive}", f"--directory={folder}")
        archive.unlink()
        print(f"installing {commit}", flush=True)
        _said("make", "--directory", str(folder), ".venv/.installed")
    return Baseline(commit=commit, program=program)


def _said(*command: str) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=machine.ROOT,
        timeout=INSTALL_SECONDS_MAX,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout
