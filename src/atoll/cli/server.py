"""`atoll dev` and `atoll central`: the commands that run a server, and `atoll env` beside them."""

import contextlib
import shlex
import shutil
import sys
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Final

import msgspec
import structlog
import typer

from atoll import __version__
from atoll.accounts import EVERY_ACCOUNT, Account, Namespace, Permission, Principal
from atoll.cli.command import Here, local
from atoll.cli.folder import (
    Credentials,
    Dev,
    read_credentials,
    read_dev,
    remove_dev,
    write_credentials,
    write_dev,
)
from atoll.cli.output import Out
from atoll.config import Config
from atoll.core.errors import AccountNotFoundError, UnauthenticatedError, UnavailableError
from atoll.serve import Opened, configure_log, opened, run, serve

DEV_EMAIL: Final = "dev@atoll.localhost"
DEV_ACCOUNT: Final = "dev"
DEV_NAMESPACE: Final = "my-namespace"
DEV_TOKEN: Final = "atoll dev"  # noqa: S105 - a name, not a secret

log = structlog.stdlib.get_logger()


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    local(app, "dev", also=(_HOST, _PORT))(dev)
    local(app, "central", also=(_HOST, _PORT))(central)
    local(app, "env")(env)


def _flag(name: str, kind: object, text: str, metavar: str) -> Parameter:
    option = typer.Option(f"--{name}", help=text, metavar=metavar)
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])


_HOST: Final = _flag(
    "host", str | None, "Where to listen. [ATOLL_HOST; default: 127.0.0.1]", "ADDRESS"
)
_PORT: Final = _flag(
    "port", int | None, "The port; 0 takes a free one. [ATOLL_PORT; default: 8780]", "PORT"
)


def dev(here: Here) -> None:
    """Start Atoll here, with everything it needs to be tried.

    The first start makes an account, a token and a namespace in the data folder; later ones find
    everything as it was. Ctrl-C stops it.
    """
    configure_log(here.config)
    run(_dev(here))


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
        finally:
            remove_dev(config.data)
            here.out.note("Atoll has stopped; `atoll dev` finds everything as it was.")


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
    program = _program()
    if config.data != Config().data:
        program += f" --data {shlex.quote(str(config.data))}"
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
        f"  {program} key get {shlex.quote(namespace.title)} greeting",
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


def central(here: Here) -> None:
    """Serve a data folder that `atoll init` made: central, for real.

    It logs to standard error. SIGTERM stops it, after the requests that have begun.
    """
    configure_log(here.config)
    run(_central(here))


async def _central(here: Here) -> None:
    async with opened(here.config, create=False) as node:
        await serve(node, lambda url: log.info("central_started", url=url))
    log.info("central_stopped")


def _running(data: Path) -> Dev:
    running = read_dev(data)
    if running is None:
        raise UnavailableError(
            f"nothing runs on the data folder {data}: start `atoll dev` there first."
        )
    return running


def env(here: Here) -> None:
    """Print what tells other clients of the Atoll that runs here, for a shell to evaluate.

    `eval "$(atoll env)"` sets it for wrangler, Cloudflare's SDKs and this program, and
    `NAMESPACE_ID` for commands that you type.
    """
    running = _running(here.config.data)
    variables = {
        "ATOLL_URL": running.central,
        "ATOLL_TOKEN": running.token,
        "ATOLL_ACCOUNT_ID": running.account_id,
        "CLOUDFLARE_API_BASE_URL": f"{running.central}/client/v4",
        "CLOUDFLARE_BASE_URL": f"{running.central}/client/v4",
        "CLOUDFLARE_API_TOKEN": running.token,
        "CLOUDFLARE_ACCOUNT_ID": running.account_id,
        "NAMESPACE_ID": running.namespace_id,
    }
    lines = (f"export {name}={shlex.quote(value)}" for name, value in variables.items())
    here.out.result(variables, "\n".join(lines))
