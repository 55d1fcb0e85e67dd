"""What is done to a data folder: make it, copy it, put it back, change its key."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import typer

from atoll.cli.command import Here
from atoll.cli.folder import CREDENTIALS_NAME, write_credentials
from atoll.cli.progress import progress
from atoll.cli.running import make_credentials
from atoll.core.errors import StoreExistsError, StoreInUseError
from atoll.principal import EVERY_ACCOUNT, Permission, Principal
from atoll.serve.central import back_up, opened, restore, sealing_key_of
from atoll.serve.server import run

INIT_TOKEN: Final = "first"  # noqa: S105 - a name, not a secret


def initialise(here: Here, *, account_name: str, email: str, save: bool) -> None:
    """See `atoll init`."""
    run(_init(here, account_name=account_name, email=email, save=save))


async def _init(here: Here, *, account_name: str, email: str, save: bool) -> None:
    settings = here.config
    async with opened(settings, create=True) as node:
        everyone = Principal(id="atoll init", account=EVERY_ACCOUNT, permission=Permission.ADMIN)
        if await node.accounts.accounts(everyone):
            raise StoreExistsError(path=str(settings.data))
        account = await node.accounts.create_account(account_name)
        made = await make_credentials(node, account, email=email, token_name=INIT_TOKEN)
    if save:
        write_credentials(settings.data, made)
    sealing_key = sealing_key_of(settings)
    lines = (
        f"The data folder {settings.data.resolve()} is ready; `atoll central` serves it.",
        "",
        f"  account     {made.account_id}  {account_name}",
        f"  token       {made.token}",
        f"  X-Auth-Email  {made.email}",
        f"  X-Auth-Key    {made.key}",
        "",
        "Token and X-Auth-Key may do everything, and are not shown again."
        if not save
        else f"Token and X-Auth-Key may do everything; they are kept in {CREDENTIALS_NAME} there.",
        f"Values are sealed with the key in {sealing_key}. Copy it to a safe place, away from",
        "the backups: without it neither the data nor any backup can be read.",
    )
    document = msgspec.to_builtins(made) | {
        "data": str(settings.data.resolve()),
        "sealing_key": str(sealing_key),
    }
    here.out.result(document, "\n".join(lines))


def make_backup(here: Here, path: Path) -> None:
    """See `atoll backup`."""
    if path.exists():
        raise typer.BadParameter(f"{path} exists; choose another name", param_hint="PATH")
    with _pages(here, "backup") as show:
        made = back_up(here.config, path, progress=show)
    document = {"path": str(path), "size": made.size_bytes, "position": str(made.position)}
    text = (
        f"{made.size_bytes:,} bytes in {path}, up to position {made.position}.\n"
        f"The sealing key is not in it: keep a copy of {sealing_key_of(here.config)} elsewhere."
    )
    here.out.result(document, text)


def put_back(here: Here, path: Path) -> None:
    """See `atoll restore`."""
    if not path.is_file():
        raise typer.BadParameter(f"there is no file {path}", param_hint="PATH")
    with _pages(here, "restore") as show:
        restore(here.config, path, progress=show)
    data = here.config.data
    here.out.result({"data": str(data)}, f"{path} is back in {data}; `atoll central` serves it.")


def rotate_key(here: Here) -> None:
    """See `atoll seal rotate`."""
    run(_rotate(here))


async def _rotate(here: Here) -> None:
    try:
        async with opened(here.config, create=False) as node:
            await node.store.rotate()
            shown = not here.out.as_json and sys.stderr.isatty()
            with progress("seal", total=None, in_bytes=False, shown=shown) as show:
                while not (resealed := await node.store.reseal()).complete:
                    show(resealed.done, f"of {resealed.total:,} entries")
    except StoreInUseError as error:
        pid = error.holder.rpartition(" ")[2]
        here.out.note(f"To rotate while that server runs: kill -USR1 {pid}")
        raise
    document = {"sealing_key": str(sealing_key_of(here.config)), "resealed": resealed.done}
    text = (
        f"{resealed.done:,} entries are sealed with the new key in {document['sealing_key']}: copy"
        " it to a safe place.\nThe old key lies beside it, and is needed for older backups alone."
    )
    here.out.result(document, text)


@contextmanager
def _pages(here: Here, title: str) -> Generator[Callable[[int, int], None]]:
    """Show a bar, told pages done and pages in all."""
    shown = not here.out.as_json and sys.stderr.isatty()
    with progress(title, total=None, in_bytes=False, shown=shown) as show:
        yield lambda done, total: show(done, f"of {total:,} pages")
