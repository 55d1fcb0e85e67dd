"""Which files the tidy tests look at."""

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SOURCE: Final = ROOT / "src"
TESTS: Final = ROOT / "tests"

# Folders of npm, and those whose names start with a dot: virtual environments and caches.
INSTALLED: Final = re.compile(r"(^|/)(node_modules|\.[^/]+)/")

OTHER_TEXTS: Final = ("*.md", "*.toml", "Makefile", "requirements*.in", "scripts/*", ".ci/*")


def python_files(*folders: Path) -> list[Path]:
    """Every Python file of ours under `folders`, and nothing that was installed there."""
    found = (path for folder in folders for path in folder.rglob("*.py"))
    return sorted(path for path in found if not INSTALLED.search(relative(path)))


def texts() -> list[Path]:
    """Everything that people wrote and read here: code, tests, documentation and scripts."""
    written = python_files(SOURCE, TESTS, ROOT / "bench", ROOT / "examples")
    for pattern in OTHER_TEXTS:
        written += ROOT.glob(pattern)
    return sorted([*written, *(ROOT / "docs").rglob("*.md")])


def relative(path: Path) -> str:
    """Name `path` as a person would, from the top of the repository."""
    return str(path.relative_to(ROOT))
