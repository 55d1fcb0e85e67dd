"""The commands that work in a data folder: they run its server, make it, and look after it.

What they do is imported when they are called: it needs the whole server, which a command that
only sends a request can do without.
"""

import shlex
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Final

import typer

from atoll.cli.command import Here, local
from atoll.cli.folder import Dev, read_dev
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
    local(app, "dev", also=LISTEN)(dev)
    local(app, "env")(env)


def register_upkeep(app: typer.Typer) -> None:
    """Add the commands of a real deployment."""
    local(app, "init")(init)
    local(app, "central", also=LISTEN)(central)
    local(app, "backup")(backup)
    local(app, "restore")(restore)
    seal = typer.Typer()
    local(seal, "rotate")(rotate)
    app.add_typer(
        seal, name="seal", help="The key that values are sealed with.", no_args_is_help=True
    )
    local(app, "config")(config)


def dev(here: Here) -> None:
    """Start Atoll here, with everything it needs to be tried.

    The first start makes an account, a token and a namespace in the data folder; later ones find
    everything as it was. Ctrl-C stops it.
    """
    from atoll.cli.running import run_dev  # noqa: PLC0415 - see above

    run_dev(here)


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


def env(here: Here) -> None:
    """Print the environment in which other clients use the Atoll that runs here.

    `eval "$(atoll env)"` sets it for wrangler, for Cloudflare's SDKs and for this program, and
    NAMESPACE_ID for what you type.
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
