"""What `import atoll` costs a program that may never connect."""

import subprocess
import sys

import pytest

import atoll.client

HEAVY = {"asyncio", "httpx", "lmdb", "msgspec", "starlette", "uvicorn", "django", "cryptography"}


def test_importing_atoll_loads_nothing_heavy() -> None:
    """Nor does the module of the client: classes are loaded when they are asked for."""
    code = "import atoll, atoll.client, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert HEAVY & set(done.stdout.split()) == set()


def test_every_name_can_be_had() -> None:
    """And no other."""
    for name in atoll.client.__all__:
        assert getattr(atoll.client, name).__doc__
    with pytest.raises(AttributeError, match="Nothing"):
        _ = getattr(atoll.client, "Nothing")  # noqa: B009 - no type checker lets it pass
