"""Making one file of a script that workerd does not run as it is, with the project's esbuild."""

import asyncio
from pathlib import Path
from typing import Final

import msgspec

from atoll.core.errors import ConfigError
from atoll.workers.script import (
    BundlingNeededError,
    Form,
    Kind,
    Module,
    Script,
    form_of,
    read_file,
    read_script,
)

BUNDLE_NAME: Final = "bundle.js"
LEVELS_MAX: Final = 64


class _Meta(msgspec.Struct):
    inputs: dict[str, object]


async def script_of(main: Path, form: Form | None, folder: Path) -> Script:
    """Return the script whose main file is `main`, bundled if it must be.

    Args:
        main: The main file, by its whole path.
        form: Of which form it is; by default the one that it looks like.
        folder: Where a bundle may be put.

    Raises:
        ConfigError: It must be, and the project has no esbuild.
    """
    try:
        return await asyncio.to_thread(read_script, main, form)
    except BundlingNeededError as error:
        esbuild = await asyncio.to_thread(in_node_modules, main.parent, ".bin/esbuild")
        if esbuild is None:
            raise ConfigError(
                name="script",
                given=str(error.path),
                rule=f"{error}. workerd runs JavaScript as it is. `npm install esbuild` in the"
                " project, and it is bundled for you; or name a file that is bundled already.",
                origin="script",
            ) from error
    return await _bundled(esbuild, main, form, folder)


def in_node_modules(start: Path, name: str) -> Path | None:
    """Look for a file in the `node_modules` of a folder, and of those above it."""
    for level in (start, *start.parents)[:LEVELS_MAX]:
        found = level / "node_modules" / name
        if found.is_file():
            return found
    return None


async def _bundled(esbuild: Path, main: Path, form: Form | None, folder: Path) -> Script:
    bundle, meta = folder / BUNDLE_NAME, folder / "bundle.json"
    process = await asyncio.create_subprocess_exec(
        esbuild,
        main.name,
        "--bundle",
        "--format=esm",
        "--target=es2022",
        "--conditions=workerd,worker,browser",
        "--log-level=warning",
        "--loader:.html=text",
        "--loader:.sql=text",
        "--loader:.bin=binary",
        "--external:node:*",
        "--external:cloudflare:*",
        "--external:workerd:*",
        f"--outfile={bundle}",
        f"--metafile={meta}",
        cwd=main.parent,
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaint = await process.communicate()
    if process.returncode:
        raise ConfigError(
            name="script",
            given=str(main),
            rule=f"esbuild cannot bundle it:\n{complaint.decode(errors='replace').strip()}",
            origin="script",
        )
    text = (await asyncio.to_thread(read_file, bundle)).decode("utf-8", "replace")
    raw = await asyncio.to_thread(meta.read_bytes)
    inputs = msgspec.json.decode(raw, type=_Meta).inputs
    return Script(
        form=form or form_of(bundle, text),
        modules=(Module(name=BUNDLE_NAME, kind=Kind.ES_MODULE, path=bundle),),
        sources=tuple((main.parent / name).resolve() for name in inputs),
    )
