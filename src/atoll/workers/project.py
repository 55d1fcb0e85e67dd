"""A project as wrangler has it: what its configuration says of the Worker, read as it is."""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from atoll.core.errors import ConfigError
from atoll.core.limits import MIB

FILE_BYTES_MAX: Final = MIB

NOT_PROVIDED: Final = frozenset(
    {
        "ai",
        "analytics_engine_datasets",
        "assets",
        "browser",
        "d1_databases",
        "durable_objects",
        "hyperdrive",
        "queues",
        "r2_buckets",
        "secrets_store_secrets",
        "send_email",
        "services",
        "site",
        "vectorize",
        "version_metadata",
        "workflows",
    }
)
"""What else a project may bind, none of which is here."""

# A text, which may hold what looks like the others; a comment; a comma before a closing bracket.
_JSONC: Final = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/|,(?=\s*[\]}])', re.DOTALL)


class _Bound(msgspec.Struct):
    binding: str
    id: str | None = None


class _File(msgspec.Struct):
    name: str = "worker"
    main: str | None = None
    compatibility_date: Any = None
    """A text; without quotes it is a date to TOML."""
    compatibility_flags: list[str] = []
    kv_namespaces: list[_Bound] = []
    vars: dict[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What a Worker is made of, wherever that was said."""

    name: str = "worker"
    main: Path | None = None
    compatibility_date: str | None = None
    compatibility_flags: tuple[str, ...] = ()
    kv: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    """Which namespace each binding is, by id or title; `None` where it does not say."""
    variables: Mapping[str, object] = field(default_factory=dict[str, object])
    left_out: tuple[str, ...] = ()
    """What it binds besides, which is not provided."""


def read_project(path: Path) -> Project:
    """Read `wrangler.toml`, `wrangler.json` or `wrangler.jsonc`.

    Raises:
        ConfigError: It cannot be read, or is none of these.
    """
    try:
        with path.open("rb") as file:
            text = file.read(FILE_BYTES_MAX).decode()
        document = tomllib.loads(text) if path.suffix == ".toml" else json.loads(_strict(text))
        said = msgspec.convert(document, _File)
    except (OSError, ValueError, msgspec.ValidationError, RecursionError) as error:
        raise ConfigError(
            name="config",
            given=str(path),
            rule=f"it cannot be read as a project's configuration: {error}",
            origin="command line",
        ) from error
    date = said.compatibility_date
    return Project(
        name=said.name,
        main=None if said.main is None else path.parent / said.main,
        compatibility_date=None if date is None else str(date),
        compatibility_flags=tuple(said.compatibility_flags),
        kv={one.binding: one.id for one in said.kv_namespaces},
        variables=said.vars,
        left_out=tuple(sorted(NOT_PROVIDED & document.keys())),
    )


def _strict(text: str) -> str:
    """Return JSON without comments, and without commas behind the last of several."""
    # Twice, for a comment may stand between such a comma and its bracket.
    for _ in range(2):
        text = _JSONC.sub(lambda found: found[1] or " ", text)
    return text
