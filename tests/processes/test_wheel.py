"""The wheel is complete: built, installed by itself and run, it is the same Atoll.

Tests run from the source tree, where a file that the wheel forgets is still found. Here the
package is installed from its wheel into an environment that shares the dependencies of this one
and nothing else.
"""

import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.tidy.sources import ROOT, SOURCE

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*command: str | Path, cwd: Path) -> str:
    """Run `command` in `cwd` and return what it printed; if it fails, show everything."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, with the pinned backend of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    run(*build, "--outdir", folder, ROOT, cwd=folder)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel by itself, and return the folder of its commands."""
    home = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=home)
    bin_folder = home / "bin"
    install = [sys.executable, "-m", "pip", "--python", str(bin_folder / "python"), "install"]
    run(*install, "--no-deps", "--no-index", wheel, cwd=home)

    # A path named in a .pth file is searched, but its own .pth files are not read: so the
    # dependencies are found there, and the editable install of the source tree is not.
    [packages] = home.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return bin_folder


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    """Modules, the marker of type hints and data files are all there, and nothing else is."""
    folder = SOURCE / "atoll"
    ours = {str(p.relative_to(SOURCE)) for p in folder.rglob("*") if p.is_file()}
    ours = {name for name in ours if "__pycache__" not in name}

    with zipfile.ZipFile(wheel) as opened:
        names = {name for name in opened.namelist() if ".dist-info/" not in name}

    assert names == ours
    assert "atoll/py.typed" in names


def test_the_wheel_carries_its_licence(wheel: Path) -> None:
    """Whoever receives the wheel alone receives the licence with it."""
    with zipfile.ZipFile(wheel) as opened:
        [licence] = [name for name in opened.namelist() if name.endswith("/LICENSE")]
        text = opened.read(licence).decode()

    assert text == (ROOT / "LICENSE").read_text()


def test_the_installed_package_is_the_one_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    """Guards the tests below: what they run is not the source tree."""
    code = "import atoll; print(atoll.__file__)"

    where = Path(run(installed / "python", "-c", code, cwd=tmp_path).strip())

    assert where.is_relative_to(installed.parent)
    assert not where.is_relative_to(ROOT)


def test_the_installed_command_tells_its_version(installed: Path, tmp_path: Path) -> None:
    """`atoll --version` is what pyproject.toml says."""
    assert PROJECT["version"] in run(installed / "atoll", "--version", cwd=tmp_path)


def test_the_installed_command_explains_itself(installed: Path, tmp_path: Path) -> None:
    """`atoll --help` loads every command, and lists the one that a newcomer starts with."""
    assert "dev" in run(installed / "atoll", "--help", cwd=tmp_path)
