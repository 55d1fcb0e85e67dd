"""What we depend on is pinned by hash, explained, and the same wherever it is named."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from tests.tidy.sources import ROOT

WANTED = sorted(ROOT.glob("requirements*.in"))
PINNED = sorted(ROOT.glob("requirements*.txt"))
LOCKS = sorted(ROOT.glob("tests/clients/*/package-lock.json"))

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]*")
PIN = re.compile(r"^[a-z0-9-]+(\[[a-z,]+\])?==\S+( ;.*)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")


def requirements(path: Path) -> list[str]:
    """The requirements that `path` asks for, as written there."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return [line for line in lines if NAME.match(line)]


def name_of(requirement: str) -> str:
    """The name in a requirement, spelled the one way that package indexes compare."""
    found = NAME.match(requirement)
    assert found is not None, requirement
    return re.sub(r"[-_.]+", "-", found.group()).lower()


def wanted_by_npm() -> set[str]:
    """The npm packages that the tests ask for."""
    manifests = (json.loads(lock.with_name("package.json").read_text()) for lock in LOCKS)
    return {name for manifest in manifests for name in manifest["dependencies"]}


def dependencies() -> str:
    """The page about dependencies."""
    return (ROOT / "docs" / "dependencies.md").read_text()


def test_every_dependency_says_why_it_is_here() -> None:
    """`docs/dependencies.md` has one row for each, and none for what is no longer one."""
    rows = re.findall(r"^\| `([^`]+)` \|.*\S.*\|.*\S.*\|$", dependencies(), re.MULTILINE)
    wanted = {name_of(one) for path in WANTED for one in requirements(path)}

    assert sorted({name_of(row) for row in rows}) == sorted(wanted | wanted_by_npm())
    assert len(rows) == len(set(rows))


def test_the_package_asks_for_what_is_pinned() -> None:
    """An installed wheel and `make run` start from the same list."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    assert project["project"]["dependencies"] == requirements(ROOT / "requirements.in")
    assert set(project["build-system"]["requires"]) <= set(
        requirements(ROOT / "requirements-build.in")
    )


@pytest.mark.parametrize("path", WANTED, ids=lambda path: path.stem)
def test_what_is_asked_for_is_pinned(path: Path) -> None:
    """Each requirement has its pin in the file that is installed."""
    pinned = {name_of(one) for one in requirements(path.with_suffix(".txt"))}

    assert {name_of(one) for one in requirements(path)} <= pinned


@pytest.mark.parametrize("path", PINNED, ids=lambda path: path.stem)
def test_pins_have_hashes_and_name_no_index(path: Path) -> None:
    """Every line is a pin, a hash or a comment: nothing says from where to download."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    pins = [at for at, line in enumerate(lines) if PIN.match(line)]

    assert [line for line in lines if not PIN.match(line) and not HASH.match(line)] == []
    assert [lines[at] for at in pins if not HASH.match(lines[at + 1])] == []


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.parent.name)
def test_npm_locks_have_hashes_and_name_no_registry(path: Path) -> None:
    """Every locked package has its hash, and none an address."""
    packages: dict[str, dict[str, object]] = json.loads(path.read_text())["packages"]
    locked = {name: facts for name, facts in packages.items() if name}

    assert len(locked) > 0
    assert [name for name, facts in locked.items() if "integrity" not in facts] == []
    assert [name for name, facts in locked.items() if "resolved" in facts] == []
