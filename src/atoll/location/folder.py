"""A location's folder on this machine: who may have it, and under which boot.

The lock is the kernel's, so that it goes with the process, however that ends.
"""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from atoll.core.location_errors import LocationInUseError

LOCK_NAME: Final = "keeper.lock"
PID_BYTES_MAX: Final = 32
BOOT_ID_LINUX: Final = Path("/proc/sys/kernel/random/boot_id")
BOOT_ID_MACOS: Final = ("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid")
SYSCTL_S_MAX: Final = 5


class KeeperLock:
    """Held by the one keeper of a location, from before it opens cache or journal."""

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Args:
            folder: The location's, made if it is not there.

        Raises:
            LocationInUseError: Another process has it.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._file: int | None = os.open(folder / LOCK_NAME, flags, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            said = os.pread(self._file, PID_BYTES_MAX, 0).strip()
            self.close()
            pid = int(said) if said.isdigit() else None
            raise LocationInUseError(folder=folder, pid=pid) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, b"%d\n" % os.getpid(), 0)

    def close(self) -> None:
        """Let go of it. The file stays: one that was removed would be locked by two."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def boot_id(source: Callable[[], str] | None = None) -> str:
    """Return what names this boot of the machine.

    Args:
        source: Where to read it; the operating system's own by default.
    """
    return (source or SOURCES.get(sys.platform, _boot_id_linux))().strip()


def _boot_id_linux() -> str:
    return BOOT_ID_LINUX.read_text(encoding="ascii")


def _boot_id_macos() -> str:
    said = subprocess.run(  # noqa: S603 - a fixed program with fixed arguments
        BOOT_ID_MACOS, capture_output=True, check=True, text=True, timeout=SYSCTL_S_MAX
    )
    return said.stdout


SOURCES: Final = {"darwin": _boot_id_macos}
