"""How much memory a process ever held, and nothing else.

What `wait4` reports of a child is not that: on Linux it begins with how large its parent was when
it was forked, so a small program started by a large test run would look large.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

RSS_UNIT_BYTES: Final = 1 if sys.platform == "darwin" else 1024

# A parent so small that what its child inherits does not count.
_SMALL_PARENT: Final = """
import os, resource, sys
child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, used = os.wait4(child, 0)
with open(sys.argv[1], "w") as file:
    file.write(str(used.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def of_running(process: int) -> int:
    """Return the most memory that a running process has held so far, in bytes."""
    if sys.platform != "linux":
        said = subprocess.run(
            ["/bin/ps", "-o", "rss=", "-p", str(process)], capture_output=True, check=True
        )
        return int(said.stdout) * 1024
    status = Path(f"/proc/{process}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def of_command(command: Sequence[str], *, env: Mapping[str, str], cwd: Path, said_in: Path) -> int:
    """Run a command to its end, which must be a good one, and return the most that it held.

    Args:
        command: The program and its arguments.
        env: Its environment.
        cwd: Its folder.
        said_in: A file for the number.
    """
    parent = [sys.executable, "-I", "-S", "-c", _SMALL_PARENT, str(said_in)]
    done = subprocess.run(
        [*parent, *command], env=dict(env), cwd=cwd, capture_output=True, check=False
    )
    assert done.returncode == 0, done
    return int(said_in.read_text()) * RSS_UNIT_BYTES
