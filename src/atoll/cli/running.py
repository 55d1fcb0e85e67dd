"""Running a server: `atoll dev`, which makes what it needs and says so, and `atoll central`."""

import asyncio
import contextlib
import shlex
import shutil
import sys
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
import structlog
import typer

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
from atoll.core.errors import (
    AccountNotFoundError,
    ConfigError,
    ParameterInvalidError,
    UnauthenticatedError,
)
from atoll.principal import EVERY_ACCOUNT, Permission, Principal
from atoll.registry import check_name
from atoll.serve.central import Opened, opened, serve
from atoll.serve.collecting import READER
from atoll.serve.fleet import fleet
from atoll.serve.links import RTT_MS_MAX, Order, control_path, give
from atoll.serve.location import (
    Part,
    credential_of,
    serve_alone,
    serve_keeper,
    serve_reader,
    site_of,
    supervise,
)
from atoll.serve.log import configure_log
from atoll.serve.server import UNIX, Upkeep, require_safe, run

DEV_EMAIL: Final = "dev@atoll.localhost"
DEV_ACCOUNT: Final = "dev"
DEV_NAMESPACE: Final = "my-namespace"
DEV_TOKEN: Final = "atoll dev"  # noqa: S105 - a name, not a secret

log = structlog.stdlib.get_logger()


def run_dev(here: Here, *, locations: str, rtt_ms: str) -> None:
    """See `atoll dev`.

    Raises:
        ConfigError: It is to listen on a unix socket.
    """
    with usage():
        names = _names(locations)
        links = _rtt_ms(rtt_ms, names)
    configure_log(here.config)
    require_safe(here.config)
    if here.config.host.startswith(UNIX):
        raise ConfigError(
            name="host",
            given=here.config.host,
            rule="`atoll dev` listens on an address; `atoll central` and `atoll location` also"
            " take unix:PATH",
            origin="in effect",
        )
    run(_dev(here, links))


def run_central(here: Here) -> None:
    """See `atoll central`."""
    configure_log(here.config)
    require_safe(here.config)
    run(_central(here))


def run_location(
    here: Here,
    name: str,
    *,
    part: str | None,
    listen_fd: int | None,
    alive_fd: int | None,
) -> None:
    """See `atoll location`.

    Args:
        here: The settings.
        name: The location's.
        part: Which process this is of several; `None` for the first, or the only one.
        listen_fd: The socket that readers share.
        alive_fd: Where the process shows its supervisor that it lives.
    """
    configure_log(here.config)
    with usage():
        site = site_of(here.config, name)

    def announce(url: str) -> None:
        log.info("location_started", location=name, url=url)

    told = None if alive_fd is None else Part(alive_fd=alive_fd, listen_fd=listen_fd)
    match part, told:
        case "keeper", Part():
            run(serve_keeper(site, told))
        case str(name_of_part), Part() if name_of_part.startswith(READER):
            run(serve_reader(site, told, name_of_part))
        case None, None if here.config.processes > 1:
            run(supervise(site, sys.argv[1:], announce))
        case _:
            run(serve_alone(site, announce, told))
    log.info("location_stopped", location=name, part=part)


def order_links(
    here: Here, name: str, action: Literal["cut", "heal", "rtt"], *, rtt_ms: float
) -> None:
    """See `atoll dev cut`, `heal` and `rtt`."""
    order = Order(link=name, action=action, rtt_ms=rtt_ms)
    with usage():
        states = run(give(control_path(here.config.data), order))
    rows = [(one.name, f"{one.rtt_ms:g} ms", "cut" if one.cut else "open") for one in states]
    here.out.table(msgspec.to_builtins(states), ("LOCATION", "ROUND TRIP", "WAY"), rows)


@contextlib.contextmanager
def usage() -> Generator[None]:
    """Tell of an argument that is wrong as of any other wrong usage."""
    try:
        yield
    except ParameterInvalidError as error:
        raise typer.BadParameter(f"{error.given!r}: {error.rule}", param_hint=error.name) from error


def _names(locations: str) -> list[str]:
    """Read which locations `atoll dev` starts.

    Raises:
        ParameterInvalidError: One is named twice, or is no name.
    """
    if locations == "none":
        return []
    names = [name.strip() for name in locations.split(",")]
    for name in names:
        check_name(name)
        if names.count(name) > 1:
            raise ParameterInvalidError(
                name="locations", given=locations, rule=f"{name} stands there twice"
            )
    return names


def _rtt_ms(text: str, names: Sequence[str]) -> dict[str, float]:
    """Read the round trips, by location.

    Raises:
        ParameterInvalidError: One is no number in range, or of no location.
    """
    rtt_ms = dict.fromkeys(names, 0.0)
    for piece in text.split(","):
        name, equals, number = piece.strip().rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not 0 <= value <= RTT_MS_MAX or (equals and name not in rtt_ms):
            raise ParameterInvalidError(
                name="rtt",
                given=text,
                rule=f"Give milliseconds from 0 to {RTT_MS_MAX}, for all locations or as"
                " NAME=MS,NAME=MS for some of those that are started.",
            )
        rtt_ms.update({name: value} if equals else dict.fromkeys(names, value))
    return rtt_ms


async def _dev(here: Here, rtt_ms: Mapping[str, float]) -> None:
    config = here.config
    async with opened(config, create=True) as node:
        remove_dev(config.data)  # A killed process may have left it.
        credentials = await _credentials(node)
        namespace = await _namespace(node, credentials.account_id)
        shown = {name: await credential_of(config, node.nodes, name) for name in rtt_ms}
        answering: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def live() -> None:
            """Have locations, and say where everything is, for as long as central answers."""
            central = await answering
            async with fleet(here.loaded, central, shown, rtt_ms) as locations:
                running = Dev(
                    account_id=credentials.account_id,
                    token=credentials.token,
                    email=credentials.email,
                    key=credentials.key,
                    namespace_id=namespace.id,
                    central=central,
                    locations=locations,
                )
                write_dev(config.data, running)
                link = f"{central}/dashboard/sign-in?code={node.sessions.link(running.token)}"
                _greet(here.out, config, running, namespace, link)
                await asyncio.Event().wait()

        try:
            await serve(
                node,
                answering.set_result,
                beside=(Upkeep(name="locations", work=live, is_vital=True),),
            )
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


def _greet(out: Out, config: Config, running: Dev, namespace: Namespace, link: str) -> None:
    """Say where it is, and what to try."""
    elsewhere = config.data != Config().data
    folder = f" --data {shlex.quote(str(config.data))}" if elsewhere else ""
    api = f"{running.central}/client/v4"
    values = f"{api}/accounts/{running.account_id}/storage/kv/namespaces/{namespace.id}/values"
    lines = (
        f"Atoll {__version__} answers at {running.central}    (Ctrl-C stops it)",
        "",
        f"  dashboard  {link}    (works once)",
        f"  token      {running.token}",
        f"  account    {running.account_id}",
        f"  namespace  {namespace.id}  {namespace.title}",
        f"  data       {config.data.resolve()}",
        *(f"  {name:9}  {url}" for name, url in running.locations.items()),
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
        *_at_a_location(running, namespace, folder),
    )
    out.result({**msgspec.to_builtins(running), "dashboard": link}, "\n".join(lines))
    sys.stdout.flush()


def _at_a_location(running: Dev, namespace: Namespace, folder: str) -> tuple[str, ...]:
    """Say what to try with a location, if there is one."""
    if not running.locations:
        return ()
    name, url = list(running.locations.items())[-1]
    return (
        f"Read it at {name}; then cut {name} off, write there, and heal it:",
        "",
        f"  curl -i -H 'Authorization: Bearer {running.token}' \\",
        f"    {url}/v1/namespaces/{namespace.id}/values/greeting",
        "",
        f"  {_program()} dev cut {name}{folder}",
        f"  {_program()} dev heal {name}{folder}",
        "",
    )


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
