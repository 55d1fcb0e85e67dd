"""Where the unix sockets of a folder are: in it, unless its path is too long for one."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Final

PATH_BYTES_MAX: Final = 100
"""What the address of a unix socket holds; 104 bytes on macOS, 108 on Linux, with a NUL."""
FOLDER_MODE: Final = 0o700


def socket_path(folder: Path, name: str) -> Path:
    """Return the path of the socket `name` of a folder; everybody who asks gets the same.

    Args:
        folder: Whose socket it is; its permissions say who may connect.
        name: The socket's.

    Raises:
        PermissionError: The folder that it would be in instead is not this user's alone.
    """
    path = folder.resolve() / name
    if len(os.fsencode(path)) <= PATH_BYTES_MAX:
        return path
    digest = hashlib.blake2b(os.fsencode(folder.resolve()), digest_size=8).hexdigest()
    elsewhere = Path(tempfile.gettempdir()) / f"atoll-{os.getuid()}-{digest}"
    elsewhere.mkdir(mode=FOLDER_MODE, exist_ok=True)
    stat = elsewhere.lstat()
    # Somebody else may have made it first, to be connected to instead of us.
    if stat.st_uid != os.getuid() or stat.st_mode & 0o077:
        raise PermissionError(f"{elsewhere} is not this user's alone; remove it")
    return elsewhere / name
