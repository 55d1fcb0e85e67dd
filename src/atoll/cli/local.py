"""The commands that work in a data folder: they run its server, make it, and look after it.

What they do is imported when they are called: it needs the whole server, which a command that
only sends a request can do without.
"""

import re
import shlex
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from atoll.cli.command import Here, local
from atoll.cli.folder import Dev, read_dev
from atoll.cli.group import START, starting
from atoll.core.errors import UnavailableError

ACCOUNT: Final = "default"
EMAIL: Final = "admin@atoll.localhost"


def _flag(name: str, kind: object, text: str, metavar: str) -> Parameter:
    """Make an option that is a setting."""
    option = typer.Option(f"--{name}", help=text, metavar=metavar)
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])


LISTEN: Final = (
    _flag("host", str | None, "Where to listen. [ATOLL_HOST; default: 127.0.0.1]", "ADDRESS"),
    _flag("port", int | None, "The port; 0 takes a free one. [ATOLL_PORT; default: 8780]", "PORT"),
)


def register_servers(app: typer.Typer) -> None:
    """Add the commands that run a server."""
    trying = starting(app, "dev", text="Start Atoll here, with everything it needs to be tried.")
    local(trying, START, also=LISTEN)(dev)
    local(trying, "cut")(cut)
    local(trying, "heal")(heal)
    local(trying, "rtt")(rtt)
    local(app, "env")(env)


UPSTREAM: Final = (
    _flag("upstream", str | None, "Central's URL, or another location's. [ATOLL_UPSTREAM]", "URL"),
    _flag("processes", int | None, "How many answer requests. [ATOLL_PROCESSES; default: 1]", "N"),
)


def register_upkeep(app: typer.Typer) -> typer.Typer:
    """Add the commands of a real deployment, and return the group about locations."""
    local(app, "init")(init)
    local(app, "central", also=LISTEN)(central)
    places = starting(app, "location", text="Locations: run one, list them, forget one.")
    local(places, START, also=(*UPSTREAM, *LISTEN))(start_location)
    local(app, "backup")(backup)
    local(app, "restore")(restore)
    seal = typer.Typer()
    local(seal, "rotate")(rotate)
    app.add_typer(
        seal, name="seal", help="The key that values are sealed with.", no_args_is_help=True
    )
    local(app, "config")(config)
    return places


def dev(
    here: Here,
    *,
    locations: Annotated[
        str,
        typer.Option(
            help="The locations to start beside central, by name; `none` for central alone.",
            metavar="NAME,NAME,...",
        ),
    ] = "LHR,IAD,SIN",
    rtt_ms: Annotated[
        str,
        typer.Option(
            "--rtt",
            help="How long a round trip between them and central takes, in milliseconds: one"
            " number for all, or NAME=MS for some.",
            metavar="MS",
        ),
    ] = "0",
) -> None:
    """Start Atoll here, with everything it needs to be tried: central and three locations.

    The first start makes an account, a token and a namespace in the data folder; later ones find
    everything as it was. Ctrl-C stops it. While it runs, `atoll dev cut NAME`, `atoll dev heal
    NAME` and `atoll dev rtt NAME MS` change the ways between the locations and central.
    """
    from atoll.cli.running import run_dev  # noqa: PLC0415 - see above

    run_dev(here, locations=locations, rtt_ms=rtt_ms)


LOCATION_ARGUMENT: Final = typer.Argument(help="The location.", metavar="NAME")


def cut(here: Here, name: Annotated[str, LOCATION_ARGUMENT]) -> None:
    """Cut a location of the running `atoll dev` off from central: nothing gets through."""
    _order(here, name, "cut")


def heal(here: Here, name: Annotated[str, LOCATION_ARGUMENT]) -> None:
    """Let everything through again."""
    _order(here, name, "heal")


def rtt(
    here: Here,
    name: Annotated[str, LOCATION_ARGUMENT],
    milliseconds: Annotated[float, typer.Argument(min=0, max=60_000, metavar="MS")],
) -> None:
    """Say how long a round trip between a location and central takes from now on."""
    _order(here, name, "rtt", rtt_ms=milliseconds)


def _order(
    here: Here, name: str, action: Literal["cut", "heal", "rtt"], *, rtt_ms: float = 0.0
) -> None:
    from atoll.cli.running import order_links  # noqa: PLC0415 - see above

    order_links(here, name, action, rtt_ms=rtt_ms)


def start_location(
    here: Here,
    name: Annotated[str, typer.Argument(help="Its name, such as LHR.", metavar="NAME")],
    *,
    part: Annotated[str | None, typer.Option(hidden=True)] = None,
    listen_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    alive_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run a location: it answers reads from its own disk, and passes writes up.

    It reads through --upstream, central or another location, and shows the credential that `atoll
    node create NAME` made there. With --processes, several share the port, supervised; SIGHUP
    replaces them one after the other. SIGTERM stops it.
    """
    from atoll.cli.running import run_location  # noqa: PLC0415 - see above

    run_location(here, name, part=part, listen_fd=listen_fd, alive_fd=alive_fd)


def central(here: Here) -> None:
    """Serve a data folder that `atoll init` made.

    It logs to standard error. SIGTERM stops it, after the requests that have begun.
    """
    from atoll.cli.running import run_central  # noqa: PLC0415 - see above

    run_central(here)


def _running(data: Path) -> Dev:
    running = read_dev(data)
    if running is None:
        raise UnavailableError(f"nothing runs on the data folder {data}: start `atoll dev` first")
    return running


def shell_name(location: str) -> str:
    """Return the variable that holds a location's URL. With ATOLL_ in front it were a setting."""
    return "AT_" + re.sub(r"[^A-Z0-9]", "_", location.upper())


def env(here: Here) -> None:
    """Print the environment in which other clients use the Atoll that runs here.

    `eval "$(atoll env)"` sets it for wrangler, for Cloudflare's SDKs and for this program, and
    NAMESPACE_ID and the locations' URLs (AT_LHR) for what you type.
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
        **{shell_name(name): url for name, url in running.locations.items()},
    }
    lines = (f"export {name}={shlex.quote(value)}" for name, value in variables.items())
    here.out.result(variables, "\n".join(lines))


def init(
    here: Here,
    *,
    account: Annotated[str, typer.Option(help="The first account's name.")] = ACCOUNT,
    email: Annotated[
        str, typer.Option(help="Whom the global key belongs to (X-Auth-Email).")
    ] = EMAIL,
    save: Annotated[
        bool, typer.Option("--save", help="Keep the credentials in the data folder, too.")
    ] = False,
) -> None:
    """Make the data folder of a real deployment: store, sealing key, account, token, global key.

    Token and global key are shown this once, and may do everything. `atoll central` serves the
    folder.
    """
    from atoll.cli.offline import initialise  # noqa: PLC0415 - see above

    initialise(here, account_name=account, email=email, save=save)


def config(here: Here) -> None:
    """Show every setting, its value, and where that came from."""
    rows = list(here.loaded.rows())
    document = [{"name": name, "value": value, "from": origin} for name, value, origin in rows]
    here.out.table(document, ("SETTING", "VALUE", "FROM"), rows)


def backup(
    here: Here,
    path: Annotated[Path, typer.Argument(help="The file to make.", metavar="PATH")],
) -> None:
    """Copy the data folder's store to one file, also while a server runs on it.

    The copy is the store as it was at one moment, sealed as it is sealed. The sealing key is not in
    it: keep a copy of that elsewhere, or the backup cannot be read.
    """
    from atoll.cli.offline import make_backup  # noqa: PLC0415 - see above

    make_backup(here, path)


def restore(
    here: Here,
    path: Annotated[Path, typer.Argument(help="From `atoll backup`.", metavar="PATH")],
) -> None:
    """Put a backup back, in a data folder without a store.

    It takes the key that the backup was sealed with, as sealing.key in the folder or where the
    setting `sealing_key` says. Accounts, tokens and namespaces are those of the backup.
    """
    from atoll.cli.offline import put_back  # noqa: PLC0415 - see above

    put_back(here, path)


def rotate(here: Here) -> None:
    """Replace the sealing key, and seal everything anew with it.

    No server may run on the folder. To rotate without a stop, send the server SIGUSR1 instead.
    """
    from atoll.cli.offline import rotate_key  # noqa: PLC0415 - see above

    rotate_key(here)
