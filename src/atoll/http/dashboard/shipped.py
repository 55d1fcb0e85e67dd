"""Templates, scripts and styles as the package ships them, read when the module is."""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Final

from jinja2 import DictLoader, Environment, StrictUndefined

_FOLDER: Final = resources.files("atoll.http.dashboard")
_TYPES: Final = {
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A file that browsers fetch."""

    type: bytes
    body: bytes
    gzipped: bytes


def _files(folder: str) -> dict[str, bytes]:
    found = sorted(_FOLDER.joinpath(folder).iterdir(), key=lambda file: file.name)
    return {file.name: file.read_bytes() for file in found if file.is_file()}


def _asset(name: str, body: bytes) -> Asset:
    kind = _TYPES[name.rpartition(".")[2]]
    return Asset(type=kind, body=body, gzipped=gzip.compress(body, mtime=0))


_raw: Final = _files("assets")

ASSETS: Final[Mapping[str, Asset]] = {name: _asset(name, body) for name, body in _raw.items()}

RELEASE: Final = hashlib.sha256(repr(_raw).encode()).hexdigest()[:16]
"""Stands in the addresses of assets, so that they may be kept for ever."""

PAGES: Final = Environment(
    loader=DictLoader({name: body.decode() for name, body in _files("templates").items()}),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
