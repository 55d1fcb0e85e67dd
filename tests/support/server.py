"""A real Atoll: `atoll dev` in a process of its own, on a free port, with data in a folder."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from tests.support.pipes import has_come

ATOLL: Final = Path(sys.executable).with_name("atoll")
START_S_MAX: Final = 60.0
STOP_S_MAX: Final = 30.0


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """What `dev.json` says, and the link that `atoll dev` prints."""

    account_id: str
    token: str
    email: str
    key: str
    namespace_id: str
    central: str
    locations: dict[str, str]
    dashboard: str = ""


class Server:
    """A running `atoll dev`."""

    def __init__(self, data: Path, process: "subprocess.Popen[str]", running: Running) -> None:
        """See `started`."""
        self.data = data
        self.process = process
        self.running = running

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.running.central

    @property
    def dashboard(self) -> str:
        """The link that signs in to the dashboard, once."""
        return self.running.dashboard

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it with a signal, if it still runs, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(STOP_S_MAX)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


def environment(data: Path, **settings: str) -> dict[str, str]:
    """Return an environment with nothing of ours in it but the data folder and `settings`.

    Args:
        data: The data folder.
        **settings: By their names in the environment, without `ATOLL_`, in lower case.
    """
    inherited = os.environ.items()  # noqa: TID251 - processes of tests get the tests' own
    kept = {name: value for name, value in inherited if not name.startswith("ATOLL_")}
    named = {f"ATOLL_{name.upper()}": value for name, value in settings.items()}
    return {**kept, "ATOLL_DATA": str(data), **named}


def start(data: Path, *, locations: str = "none", **settings: str) -> "subprocess.Popen[str]":
    """Start `atoll dev` on a free port, without waiting for it; its log goes beside the data."""
    with data.with_name(f"{data.name}.log").open("ab") as log:
        return subprocess.Popen(
            [ATOLL, "dev", "--json", "--locations", locations],
            env=environment(data, **{"port": "0", **settings}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


def started(data: Path, *, locations: str = "none", **settings: str) -> Server:
    """Start `atoll dev` and wait until it says that it answers."""
    process = start(data, locations=locations, **settings)
    assert process.stdout is not None
    ready = has_come(process.stdout, within_s=START_S_MAX)
    said = _document(process) if ready else ""
    if not said:
        process.kill()
        process.wait()
        raise AssertionError(f"atoll dev did not start:\n{log_of(data)}")
    return Server(data, process, msgspec.json.decode(said, type=Running))


def _document(process: "subprocess.Popen[str]") -> str:
    """Read the one JSON object that it prints: up to the brace that stands alone."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.rstrip() == "}":
            return "".join(lines)
    return ""


@contextmanager
def serving(data: Path, *, locations: str = "none", **settings: str) -> Generator[Server]:
    """Run `atoll dev` for the length of a `with`. What it logs as an error is one.

    Args:
        data: The data folder.
        locations: Those beside central, as the command takes them.
        **settings: As in `environment`.
    """
    server = started(data, locations=locations, **settings)
    try:
        yield server
    finally:
        server.stop()
    errors = [line for line in log_of(data).splitlines() if '"level":"error"' in line]
    assert errors == []


def log_of(data: Path) -> str:
    """Return what servers on a data folder have logged."""
    return data.with_name(f"{data.name}.log").read_text()
