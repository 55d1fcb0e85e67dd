"""One version of wrangler, run as a user would run it: a process, its exit code, what it prints."""

import copy
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.clients import installed
from tests.clients.plain import Access

RELEASES: Final = {
    "wrangler-4.86": installed.older_wrangler,
    "wrangler-newest": installed.newer_wrangler,
}
RUN_S_MAX: Final = 60.0

# Both releases look for news of themselves at most once in a while; they find that they just have.
NO_NEWS: Final = '{"latest": "4.0.0", "lastUpdate": 9000000000000000}'

_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a command ended."""

    exit: int
    stdout: bytes
    stderr: bytes

    @property
    def out(self) -> str:
        """What it printed, as text without colours."""
        return _COLOURS.sub("", self.stdout.decode())

    @property
    def err(self) -> str:
        """What it complained about, as text without colours."""
        return _COLOURS.sub("", self.stderr.decode())


class Wrangler:
    """A release of wrangler with a home of its own, so that nothing of the user's is touched."""

    def __init__(self, release: str, *, home: Path, access: Access) -> None:
        """Use `release`, call the Atoll of `access`, and keep every file under `home`."""
        self.command = RELEASES[release]()
        self.access = access
        self.folder = home / "project"
        self.folder.mkdir()
        news = home / "tmp" / "update-check"
        news.mkdir(parents=True)
        (news / "wrangler-latest.json").write_text(NO_NEWS)
        self.home = {
            "PATH": os.defpath,
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            "TMPDIR": str(home / "tmp"),
            "NODE_COMPILE_CACHE": str(home / "compiled"),
            "WRANGLER_SEND_METRICS": "false",
            "CI": "true",
        }

    def at(self, access: Access) -> "Wrangler":
        """Return the same wrangler, calling the Atoll of `access`."""
        other = copy.copy(self)
        other.access = access
        return other

    def __call__(self, *arguments: str, **credentials: str) -> Ran:
        """Run a command.

        Args:
            *arguments: What a user types behind `wrangler`.
            **credentials: The variables that say who calls, without `CLOUDFLARE_` and in lower
                case; without any, the account and the token of `access`.
        """
        given = credentials or {
            "account_id": self.access.account_id,
            "api_token": self.access.token,
        }
        variables = {f"CLOUDFLARE_{name.upper()}": value for name, value in given.items()}
        done = subprocess.run(
            [*self.command, *arguments],
            cwd=self.folder,
            env=self.home | variables | {"CLOUDFLARE_API_BASE_URL": self.access.api},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=RUN_S_MAX,
            check=False,
        )
        return Ran(exit=done.returncode, stdout=done.stdout, stderr=done.stderr)

    def kv(self, *arguments: str) -> Ran:
        """Run a `kv` command that has to succeed."""
        ran = self("kv", *arguments)
        assert ran.exit == 0, ran
        return ran

    def refused(self, *arguments: str) -> str:
        """Run a `kv` command that has to fail, and return its complaint."""
        ran = self("kv", *arguments)
        assert ran.exit == 1, ran
        return ran.err

    def file(self, name: str, content: bytes) -> str:
        """Put a file into the project, and return its name."""
        (self.folder / name).write_bytes(content)
        return name
