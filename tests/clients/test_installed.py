"""The clients are the versions that the tests are meant for."""

import subprocess
from pathlib import Path

import pytest

from tests.clients import installed


def printed(*command: str | Path) -> str:
    """What `command` prints, without the space around it."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_older_sdk_is_4_3_1() -> None:
    """Its environment has its own `cloudflare`, not the one of the tests."""
    code = "import cloudflare; print(cloudflare.__version__)"

    assert printed(installed.older_cloudflare_sdk(), "-c", code) == "4.3.1"


def test_the_older_wrangler_is_4_86_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts, and sends nobody anything while it does."""
    monkeypatch.setenv("WRANGLER_SEND_METRICS", "false")

    assert printed(*installed.older_wrangler(), "--version").endswith("4.86.0")


def test_the_newer_wrangler_needs_the_bundled_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts on the Node that came with the tests, and is newer than the other one."""
    monkeypatch.setenv("WRANGLER_SEND_METRICS", "false")

    version = printed(*installed.newer_wrangler(), "--version").split()[-1]

    assert tuple(map(int, version.split("."))) > (4, 86, 0)
