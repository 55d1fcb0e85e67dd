"""A Worker's script: of which of the two forms it is, and which files belong to it."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from atoll.core.errors import ConfigError
from atoll.core.limits import MIB

FILE_BYTES_MAX: Final = 64 * MIB
FILES_MAX: Final = 1000

BUNDLED_SUFFIXES: Final = frozenset({".ts", ".tsx", ".mts", ".cts", ".jsx"})
"""What workerd does not run as it is."""

_BUILT_IN: Final = ("node:", "cloudflare:", "workerd:")
_COMMENT: Final = re.compile(r"/\*.*?\*/|^\s*//[^\n]*", re.DOTALL | re.MULTILINE)
_EXPORT: Final = re.compile(
    r"(?:^|[;}])\s*export\s*(?:\{|\*|(?:default|const|let|var|class|function|async)\b)",
    re.MULTILINE,
)
_STATEMENT: Final = re.compile(
    r"""(?:^|[;}])\s*(?:import|export)\b(?:[^;'"()]*?\bfrom)?\s*["']([^"'\n]+)["']""", re.MULTILINE
)
_CALL: Final = re.compile(r"""\bimport\(\s*["'](\.[^"'\n]+)["']\s*\)""")


class Form(StrEnum):
    """How a script receives requests."""

    MODULES = "modules"
    """`export default`, bindings as an argument."""
    SERVICE_WORKER = "service-worker"
    """`addEventListener("fetch", ...)`, bindings as globals."""


class Kind(StrEnum):
    """What a file is to workerd, by the name that its configuration has for that."""

    ES_MODULE = "esModule"
    COMMON_JS = "commonJsModule"
    JSON = "json"
    TEXT = "text"
    DATA = "data"
    WASM = "wasm"

    @property
    def is_binary(self) -> bool:
        """Whether it is bytes, and no text."""
        return self in {Kind.DATA, Kind.WASM}


_KINDS: Final = {
    ".js": Kind.ES_MODULE,
    ".mjs": Kind.ES_MODULE,
    ".cjs": Kind.COMMON_JS,
    ".json": Kind.JSON,
    ".txt": Kind.TEXT,
    ".html": Kind.TEXT,
    ".sql": Kind.TEXT,
    ".bin": Kind.DATA,
    ".wasm": Kind.WASM,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One file of a script."""

    name: str
    """What the others import it by."""
    kind: Kind
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """The files of a Worker, the main one first."""

    form: Form
    modules: tuple[Module, ...]
    sources: tuple[Path, ...]
    """What it was made from: a change of any of these changes the script."""


class BundlingNeededError(Exception):
    """A file is no JavaScript that workerd runs as it is. Never seen outside of this package."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(why)
        self.path = path


def read_script(main: Path, form: Form | None = None) -> Script:
    """Find out what a script consists of.

    Args:
        main: Its main file, by its whole path.
        form: Of which form it is; by default the one that it looks like.

    Raises:
        BundlingNeededError: It is TypeScript, or imports packages.
        ConfigError: A file cannot be read, or it has too many.
    """
    if main.suffix in BUNDLED_SUFFIXES:
        raise BundlingNeededError(
            main, f"it is {main.suffix.removeprefix('.')}, which is no JavaScript"
        )
    text = _text(main)
    form = form or form_of(main, text)
    if form is Form.SERVICE_WORKER:
        module = Module(name=main.name, kind=Kind.ES_MODULE, path=main)
        return Script(form=form, modules=(module,), sources=(main,))
    paths: dict[Path, None] = {main: None}
    waiting = [(main, text)]
    while waiting:
        path, text = waiting.pop()
        for found in _imported(path, text):
            if found in paths:
                continue
            paths[found] = None
            if len(paths) > FILES_MAX:
                raise _unusable(main, f"it imports more than {FILES_MAX} files")
            if _kind(found) is Kind.ES_MODULE:
                waiting.append((found, _text(found)))
    root = Path(os.path.commonpath([path.parent for path in paths]))
    modules = tuple(
        Module(name=path.relative_to(root).as_posix(), kind=_kind(path), path=path)
        for path in paths
    )
    return Script(form=form, modules=modules, sources=tuple(paths))


def form_of(path: Path, text: str) -> Form:
    """Say of which form a script looks: modules export something, the others do not."""
    if path.suffix == ".mjs" or _EXPORT.search(_COMMENT.sub("", text)):
        return Form.MODULES
    return Form.SERVICE_WORKER


def _imported(path: Path, text: str) -> Iterator[Path]:
    """Yield the files that a module imports. What is not there workerd will complain about."""
    text = _COMMENT.sub("", text)
    for name in (*_STATEMENT.findall(text), *_CALL.findall(text)):
        if name.startswith(_BUILT_IN):
            continue
        if not name.startswith(("./", "../")):
            raise BundlingNeededError(path, f"it imports the package {name!r}")
        found = (path.parent / name).resolve()
        if found.is_file() and found.suffix not in BUNDLED_SUFFIXES:
            yield found
        elif any(found.with_name(found.name + end).is_file() for end in (".js", ".ts", ".mjs")):
            raise BundlingNeededError(
                path, f"it imports {name!r} without the end of the file's name"
            )
        elif found.is_file() or found.with_suffix(".ts").is_file():
            raise BundlingNeededError(path, f"it imports {name!r}, which is TypeScript")


def _kind(path: Path) -> Kind:
    kind = _KINDS.get(path.suffix)
    if kind is None:
        raise _unusable(path, f"it is imported, and is none of {', '.join(_KINDS)}")
    return kind


def _text(path: Path) -> str:
    return read_file(path).decode("utf-8", "replace")


def read_file(path: Path) -> bytes:
    """Read a file of a script.

    Raises:
        ConfigError: It cannot be read, or is too large.
    """
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise _unusable(path, f"it cannot be read: {error.strerror or error}") from error
    if len(content) > FILE_BYTES_MAX:
        raise _unusable(path, f"it is larger than {FILE_BYTES_MAX} bytes")
    return content


def _unusable(path: Path, rule: str) -> ConfigError:
    return ConfigError(name="script", given=str(path), rule=rule, origin="script")
