"""The examples of docs/clients.md do what the page says, on an Atoll that was just started."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.plain import Access, Namespace
from tests.clients.wrangler import Wrangler
from tests.support.server import ATOLL, Server, environment
from tests.tidy.sources import ROOT

RUN_S_MAX = 100.0

PAGE = (ROOT / "docs" / "clients.md").read_text()
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CONSOLE = [block for language, block in BLOCK.findall(PAGE) if language == "console"]
PYTHON = [block for language, block in BLOCK.findall(PAGE) if language == "python"]


def exported(server: Server) -> dict[str, str]:
    """Return the variables that `atoll env` prints for a shell to evaluate."""
    printed = subprocess.run(
        [ATOLL, "env"], env=environment(server.data), capture_output=True, text=True, check=True
    )
    lines = (shlex.split(line) for line in printed.stdout.splitlines())
    return dict(words[1].split("=", 1) for words in lines if words[0] == "export")


def commands() -> list[tuple[str, str]]:
    """Return every command of the page, and what the page says that it prints."""
    found: list[tuple[str, str]] = []
    for block in CONSOLE:
        for shown in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = shown.partition("\n")
            found.append((command, printed.strip()))
    return found


def shim(folder: Path, name: str, *command: str) -> None:
    """Put a program into `folder` that runs `command`."""
    path = folder / name
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o755)


@pytest.mark.parametrize("wrangler", ["wrangler-newest"], indirect=True)
def test_every_command_prints_what_the_page_shows(
    server: Server, wrangler: Wrangler, tmp_path: Path
) -> None:
    """Typed one after the other into one shell, every one of them succeeds."""
    shim(tmp_path, "atoll", str(ATOLL))
    shim(tmp_path, "wrangler", *wrangler.command)
    (tmp_path / "npx").write_text('#!/bin/sh\nexec "$@"\n')
    (tmp_path / "npx").chmod(0o755)
    typed = commands()
    script = "".join(f"{command}\nprintf '\\0%d' $?\n" for command, _ in typed)
    given = wrangler.home | {"ATOLL_DATA": str(server.data)}
    given["PATH"] = f"{tmp_path}:{given['PATH']}"

    ran = subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=tmp_path,
        env=given,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=True,
    )

    printed = ran.stdout.split("\0")  # each but the first begins with the exit code before it
    assert len(typed) > 10
    assert len(printed) == len(typed) + 1, ran
    for (command, expected), before, after in zip(typed, printed, printed[1:], strict=False):
        assert after.startswith("0"), (command, ran)
        assert expected in before.strip(), command


def test_every_program_runs(server: Server, tmp_path: Path) -> None:
    """With the variables of `atoll env` and nothing else."""
    assert PYTHON
    for block in PYTHON:
        subprocess.run(
            [sys.executable, "-W", "error", "-c", block],
            cwd=tmp_path,
            env=exported(server) | {"HOME": str(tmp_path)},
            timeout=RUN_S_MAX,
            check=True,
        )


def test_the_variables_are_those_of_this_server(server: Server, access: Access) -> None:
    """What clients read from the environment is where the server is and who owns it."""
    variables = exported(server)

    assert variables["CLOUDFLARE_API_BASE_URL"] == variables["CLOUDFLARE_BASE_URL"] == access.api
    assert variables["CLOUDFLARE_API_TOKEN"] == access.token
    assert variables["CLOUDFLARE_ACCOUNT_ID"] == access.account_id
    assert variables["NAMESPACE_ID"] == access.namespace_id


def test_without_remote_wrangler_does_not_call(wrangler: Wrangler, namespace: Namespace) -> None:
    """It says so, succeeds, and nothing has arrived."""
    ran = wrangler.kv("key", "put", "k", "v", "--namespace-id", namespace.id)

    assert "Resource location: local" in ran.out
    assert namespace.names() == []
