"""What the tests of commands share: a server, and a way to run `atoll` beside it."""

import itertools
import json
import os
import pty
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import memory
from tests.support.server import ATOLL, Server, environment, serving

COMMAND_S_MAX = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a command came to."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Standard output as text, without the last line's end."""
        return self.out.decode().removesuffix("\n")

    @property
    def json(self) -> Any:  # noqa: ANN401 - each test knows what it asked for
        """Standard output as JSON."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:  # noqa: ANN401 - see above
        """The error that a command with `--json` printed."""
        assert self.out == b"", self.out
        return json.loads(self.err)["error"]


class Atoll:
    """Runs commands in a folder of their own."""

    def __init__(self, data: Path, folder: Path) -> None:
        """Use the data folder `data`, with `folder` as the current one."""
        self.data = data
        self.folder = folder

    def run(
        self,
        *args: str | bytes,
        given: bytes = b"",
        settings: Mapping[str, str] | None = None,
    ) -> Ran:
        """Run a command and return what it came to.

        Args:
            *args: Its arguments.
            given: Standard input.
            settings: As in `environment`.
        """
        done = subprocess.run(
            [ATOLL, *args],
            cwd=self.folder,
            env=environment(self.data, **(settings or {})),
            input=given,
            capture_output=True,
            timeout=COMMAND_S_MAX,
            check=False,
        )
        return Ran(code=done.returncode, out=done.stdout, err=done.stderr.decode())

    def ok(
        self,
        *args: str | bytes,
        given: bytes = b"",
        settings: Mapping[str, str] | None = None,
    ) -> Ran:
        """Run a command that must succeed."""
        ran = self.run(*args, given=given, settings=settings)
        assert ran.code == 0, ran
        return ran

    def on_a_terminal(self, *args: str, answer: bytes = b"") -> tuple[int, bytes]:
        """Run a command on a terminal of its own.

        Args:
            *args: Its arguments.
            answer: What somebody types.

        Returns:
            The exit code, and everything that was shown.
        """
        process, terminal = pty.fork()
        if process == 0:
            os.chdir(self.folder)
            variables = {**environment(self.data), "TERM": "xterm", "COLUMNS": "120"}
            os.execve(ATOLL, [str(ATOLL), *args], variables)  # noqa: S606 - our own program
        shown = b""
        try:
            os.write(terminal, answer)
            while piece := os.read(terminal, 4096):
                shown += piece
        except OSError:
            pass  # Linux says so when the other end is closed.
        _, status = os.waitpid(process, 0)
        os.close(terminal)
        return os.waitstatus_to_exitcode(status), shown

    def start(self, *args: str) -> "subprocess.Popen[bytes]":
        """Start a command without waiting for it."""
        return subprocess.Popen(
            [ATOLL, *args],
            cwd=self.folder,
            env=environment(self.data),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def peak_bytes(self, *args: str) -> int:
        """Run a command that must succeed, and return the most memory that it held."""
        return memory.of_command(
            [str(ATOLL), *args],
            env=environment(self.data),
            cwd=self.folder,
            said_in=self.folder / "peak",
        )


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server for all tests of commands."""
    with serving(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@pytest.fixture
def atoll(server: Server, tmp_path: Path) -> Atoll:
    """Run commands beside the server, with nothing given but its data folder."""
    return Atoll(server.data, tmp_path)


@pytest.fixture(scope="session")
def numbers() -> Iterator[int]:
    """Count, so that no two namespaces of a session share a title."""
    return itertools.count()


@pytest.fixture
def namespace(atoll: Atoll, numbers: Iterator[int]) -> str:
    """Make a namespace for one test and return its title."""
    title = f"test {next(numbers)} of {os.getpid()}"
    atoll.ok("namespace", "create", title)
    return title


@pytest.fixture
def namespace_of(atoll: Atoll) -> Callable[[str], str]:
    """Return what finds a namespace's id by its title."""

    def find(title: str) -> str:
        rows: list[dict[str, str]] = atoll.ok("namespace", "list", "--json").json
        return next(row["id"] for row in rows if row["title"] == title)

    return find
