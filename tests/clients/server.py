"""A real Atoll for the clients to talk to: `atoll dev` in a process, on a free port."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from tests.clients.plain import Access

ATOLL: Final = Path(sys.executable).parent / "atoll"
START_S_MAX: Final = 60.0
LOOK_EVERY_S: Final = 0.05

# Linux counts in kibibytes, macOS in bytes.
RSS_UNIT_BYTES: Final = 1 if sys.platform == "darwin" else 1_024


class Served:
    """An Atoll that runs until it is stopped."""

    def __init__(self, folder: Path, **settings: str) -> None:
        """Start `atoll dev`, and wait until it answers.

        Args:
            folder: An empty folder; data and what the server says are kept there.
            **settings: Settings by their names in the environment, without `ATOLL_`, in lower case.
        """
        data = folder / "data"
        self._log = folder / "log"
        with self._log.open("wb") as said:
            self._process = subprocess.Popen(
                [ATOLL, "dev"],
                cwd=folder,
                env={
                    "PATH": os.defpath,
                    "HOME": str(folder),
                    "ATOLL_DATA": str(data),
                    "ATOLL_PORT": "0",
                    **{f"ATOLL_{name.upper()}": value for name, value in settings.items()},
                },
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        self.access = self._started(data / "dev.json")

    def _started(self, dev_json: Path) -> Access:
        for _ in range(int(START_S_MAX / LOOK_EVERY_S)):
            if dev_json.exists():
                return msgspec.json.decode(dev_json.read_bytes(), type=Access)
            try:
                self._process.wait(LOOK_EVERY_S)
            except subprocess.TimeoutExpired:
                continue
            break
        self.stop()
        raise AssertionError(f"atoll dev did not start:\n{self._log.read_text()}")

    def stop(self) -> int:
        """End it, unless it has ended, and return how much memory it ever had, in bytes."""
        if self._process.returncode is not None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        _, status, used = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return used.ru_maxrss * RSS_UNIT_BYTES


@contextmanager
def serving(folder: Path, **settings: str) -> Generator[Served]:
    """Run an Atoll for the length of a `with`; see `Served`."""
    served = Served(folder, **settings)
    try:
        yield served
    finally:
        served.stop()
