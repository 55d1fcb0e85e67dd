"""Running a server: `atoll dev`, which makes what it needs and says so, and `atoll central`."""

import contextlib
import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

import msgspec
import structlog

from atoll import __version__
from atoll.accounts import Account, Namespace
from atoll.cli.command import Here
from atoll.cli.folder import (
    Credentials,
    Dev,
    read_credentials,
    remove_dev,
    write_credentials,
    write_dev,
)
from atoll.cli.output import Out
from atoll.config import Config
from atoll.core.errors import AccountNotFoundError, UnauthenticatedError
from atoll.principal import EVERY_ACCOUNT, Permission, Principal
from atoll.serve.central import Opened, opened, serve
from atoll.serve.log import configure_log
from atoll.serve.server import require_safe, run

DEV_EMAIL: Final = "dev@atoll.localhost"
DEV_ACCOUNT: Final = "dev"
DEV_NAMESPACE: Final = "my-namespace"
DEV_TOKEN: Final = "atoll dev"  # noqa: S105 - a name, not a secret

log = structlog.stdlib.get_logger()


def run_dev(here: Here) -> None:
    """See `atoll dev`."""
    configure_log(here.config)
    require_safe(here.config)
    run(_dev(here))


def run_central(here: Here) -> None:
    """See `atoll central`."""
    configure_log(here.config)
    require_safe(here.config)
    run(_central(here))


async def _dev(here: Here) -> None:
    config = here.config
    async with opened(config, create=True) as node:
        remove_dev(config.data)  # A killed process may have left it.
        credentials = await _credentials(node)
        namespace = await _namespace(node, credentials.account_id)

        def announce(url: str) -> None:
            running = Dev(
                account_id=credentials.account_id,
                token=credentials.token,
                email=credentials.email,
                key=credentials.key,
                namespace_id=namespace.id,
                central=url,
                locations={},
            )
            write_dev(config.data, running)
            _greet(here.out, config, running, namespace)

        try:
            await serve(node, announce)
            here.out.note("Atoll has stopped; `atoll dev` finds everything as it was.")
        finally:
            remove_dev(config.data)


async def _credentials(node: Opened) -> Credentials:
    """Return the credentials kept in the folder, if they still hold; else make new ones."""
    data = node.config.data
    kept = read_credentials(data)
    if kept is not None and await _hold(node, kept):
        return kept
    everyone = Principal(id="atoll dev", account=EVERY_ACCOUNT, permission=Permission.ADMIN)
    accounts = await node.accounts.accounts(everyone)
    account = accounts[0] if accounts else await node.accounts.create_account(DEV_ACCOUNT)
    made = await make_credentials(node, account, email=DEV_EMAIL, token_name=DEV_TOKEN)
    write_credentials(data, made)
    return made


async def _hold(node: Opened, kept: Credentials) -> bool:
    """Whether the store still knows these credentials: another one may have been restored."""
    try:
        await node.accounts.authenticate(authorization=f"Bearer {kept.token}")
        await node.accounts.authenticate(authorization=None, email=kept.email, key=kept.key)
        await node.accounts.account(kept.account_id)
    except (AccountNotFoundError, UnauthenticatedError):
        return False
    return True


async def make_credentials(
    node: Opened, account: Account, *, email: str, token_name: str
) -> Credentials:
    """Make a token and a user who may do everything, and return their secrets."""
    _, token = await node.accounts.create_token(
        EVERY_ACCOUNT, name=token_name, permission=Permission.ADMIN
    )
    key = await node.accounts.create_user(email, account=EVERY_ACCOUNT)
    return Credentials(account_id=account.id, token=token, email=email, key=key)


async def _namespace(node: Opened, account_id: str) -> Namespace:
    """Return the namespace to try things in: the one that dev made, or what took its place."""
    found = await node.accounts.namespaces(account_id)
    found.sort(key=lambda one: (one.title != DEV_NAMESPACE, one.title))
    if found:
        return found[0]
    return await node.accounts.create_namespace(account_id, DEV_NAMESPACE)


def _greet(out: Out, config: Config, running: Dev, namespace: Namespace) -> None:
    """Say where it is, and what to try."""
    elsewhere = config.data != Config().data
    folder = f" --data {shlex.quote(str(config.data))}" if elsewhere else ""
    api = f"{running.central}/client/v4"
    values = f"{api}/accounts/{running.account_id}/storage/kv/namespaces/{namespace.id}/values"
    lines = (
        f"Atoll {__version__} answers at {running.central}    (Ctrl-C stops it)",
        "",
        f"  token      {running.token}",
        f"  account    {running.account_id}",
        f"  namespace  {namespace.id}  {namespace.title}",
        f"  data       {config.data.resolve()}",
        "",
        "Try it in another terminal, with curl, wrangler and atoll itself:",
        "",
        f"  curl -X PUT -d 'hello, world' -H 'Authorization: Bearer {running.token}' \\",
        f"    {values}/greeting",
        "",
        f"  CLOUDFLARE_API_BASE_URL={api} \\",
        f"  CLOUDFLARE_ACCOUNT_ID={running.account_id} CLOUDFLARE_API_TOKEN={running.token} \\",
        f"    npx wrangler kv key get --remote --text --namespace-id {namespace.id} greeting",
        "",
        f"  {_program()} key get {shlex.quote(namespace.title)} greeting{folder}",
        "",
    )
    out.result(msgspec.to_builtins(running), "\n".join(lines))
    sys.stdout.flush()


def _program() -> str:
    """Return how this program is called from here."""
    called = Path(sys.argv[0])
    if shutil.which(called.name) == str(called.absolute()):
        return called.name
    with contextlib.suppress(ValueError):
        return str(called.absolute().relative_to(Path.cwd()))
    return str(called)


async def _central(here: Here) -> None:
    async with opened(here.config, create=False) as node:
        await serve(node, lambda url: log.info("central_started", url=url))
    log.info("central_stopped")
