"""What the command line keeps in a data folder: credentials, and where the server is.

    credentials.json   made by `atoll dev` at first start, or by `atoll init --save`
    dev.json           the same and the server's URL, while `atoll dev` runs

Both are readable by their owner alone, and written whole or not at all.
"""

import contextlib
import os
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from atoll.core.errors import ConfigError

CREDENTIALS_NAME: Final = "credentials.json"
DEV_NAME: Final = "dev.json"
OWNER_ONLY: Final = 0o600
FILE_BYTES_MAX: Final = 2**20


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Who the owner of a data folder is to its server."""

    account_id: str
    token: str
    email: str
    key: str


class Dev(msgspec.Struct, frozen=True, kw_only=True):
    """What `dev.json` tells while `atoll dev` runs."""

    account_id: str
    token: str
    email: str
    key: str
    namespace_id: str
    central: str
    locations: dict[str, str]


Record = TypeVar("Record", Credentials, Dev)


def read_credentials(data: Path) -> Credentials | None:
    """Return the credentials kept in a data folder, if any; see `_read` for what it raises."""
    return _read(data / CREDENTIALS_NAME, Credentials)


def read_dev(data: Path) -> Dev | None:
    """Return what `atoll dev` left while it runs, or when it was killed."""
    return _read(data / DEV_NAME, Dev)


def write_credentials(data: Path, credentials: Credentials) -> None:
    """Keep credentials in a data folder."""
    _write(data / CREDENTIALS_NAME, credentials)


def write_dev(data: Path, dev: Dev) -> None:
    """Say that the server of a data folder answers."""
    _write(data / DEV_NAME, dev)


def remove_dev(data: Path) -> None:
    """Say that it no longer does."""
    (data / DEV_NAME).unlink(missing_ok=True)


def _read(path: Path, kind: type[Record]) -> Record | None:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(FILE_BYTES_MAX), type=kind)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(
            name="data",
            given=str(path),
            rule=f"this file cannot be read ({error}). Set ATOLL_TOKEN, or remove it and start"
            " `atoll dev`, which writes it anew.",
            origin="data folder",
        ) from error


def _write(path: Path, record: Credentials | Dev) -> None:
    """Replace `path` so that a reader finds the old file or the new one, never a part."""
    document = msgspec.json.format(msgspec.json.encode(record), indent=2)
    fresh = path.with_name(f"{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    with os.fdopen(descriptor, "wb") as file:
        file.write(document + b"\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
