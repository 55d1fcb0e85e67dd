"""What is done to a data folder while no server runs on it."""

from typing import Final

import msgspec

from atoll.accounts import EVERY_ACCOUNT, Permission, Principal
from atoll.cli.command import Here
from atoll.cli.folder import CREDENTIALS_NAME, write_credentials
from atoll.cli.running import make_credentials
from atoll.core.errors import StoreExistsError
from atoll.serve import opened, run, sealing_key_of

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
