"""`atoll worker`: Workers on workerd, with namespaces of Atoll's as their bindings.

What the commands do is in `cli/working.py`.
"""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from atoll.cli.command import REMOTE, Session, remote
from atoll.cli.working import DATE_2019, Wanted, print_config, run_worker
from atoll.workers.script import Form

app: Final = typer.Typer()

PORT: Final = 8787
"""Where `wrangler dev` answers, too."""
SHARED: Final = tuple(one for one in REMOTE if one.name != "config")
"""Without the file of settings: here `--config` is the project's."""

Script = Annotated[
    Path | None, typer.Argument(help="The script; else the project's.", metavar="[SCRIPT]")
]
Kv = Annotated[
    list[str] | None,
    typer.Option(
        "--kv",
        help="A binding, and the id or title of the namespace that it is. Repeatable.",
        metavar="NAME=NAMESPACE",
    ),
]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", help="A variable of the Worker. Repeatable.", metavar="NAME=VALUE"),
]
ProjectFile = Annotated[
    Path | None,
    typer.Option(
        "--config", help="The project: its wrangler.toml, .json or .jsonc.", metavar="FILE"
    ),
]
Location = Annotated[
    str | None,
    typer.Option(
        help="Where it reads and writes: a location of the running `atoll dev` by name, or a URL,"
        " or unix:PATH.",
        show_default="the first location of `atoll dev`, else the server",
        metavar="NAME|URL",
    ),
]
Port = Annotated[int, typer.Option(help="Where the Worker answers; 0 takes a free port.")]
AsForm = Annotated[
    Form | None,
    typer.Option("--format", help="Of which form the script is.", show_default="as it looks"),
]
Date = Annotated[
    str | None,
    typer.Option(
        help="As of which day the runtime behaves.",
        show_default=f"modules: the runtime's own; others: {DATE_2019}",
        metavar="YYYY-MM-DD",
    ),
]
Flag = Annotated[
    list[str] | None,
    typer.Option("--compatibility-flag", help="As in a project. Repeatable.", metavar="FLAG"),
]
WorkerToken = Annotated[
    str | None,
    typer.Option(
        help="The token that the Worker shows.",
        show_default="one is made for its namespaces alone",
    ),
]
ReadOnly = Annotated[bool, typer.Option("--read-only", help="Make a token that may not write.")]
Workerd = Annotated[Path | None, typer.Option(help="The program. [ATOLL_WORKERD]", metavar="PATH")]


RUN: Final = """Run a Worker here, on workerd, with namespaces of Atoll's as its bindings.

The script is as it would be deployed: modules, or the older form with bindings as globals. It is
started again when one of its files changes. The token that is made for it reaches its namespaces
and nothing else, and ends with it. Ctrl-C stops it.
"""

CONFIG: Final = """Print the configuration with which workerd runs a Worker.

It is for who runs workerd themselves, names the script's files as seen from the current folder, and
holds a token, which is made for it and lasts unless one is given: keep it from others.
"""


def _register(name: str, text: str, act: Callable[[Session, Wanted], Awaitable[None]]) -> None:
    """Add a command; both take the same options."""

    async def command(
        session: Session,
        script: Script = None,
        *,
        kv: Kv = None,
        env: Env = None,
        config: ProjectFile = None,
        location: Location = None,
        port: Port = PORT,
        form: AsForm = None,
        compatibility_date: Date = None,
        compatibility_flag: Flag = None,
        worker_token: WorkerToken = None,
        read_only: ReadOnly = False,
        workerd: Workerd = None,
    ) -> None:
        wanted = Wanted(
            script=script,
            project_file=config,
            kv=_pairs(kv, "--kv"),
            variables=_pairs(env, "--env"),
            location=location,
            port=port,
            form=form,
            compatibility_date=compatibility_date,
            compatibility_flags=tuple(compatibility_flag or ()),
            token=worker_token,
            read_only=read_only,
            workerd=workerd or session.config.workerd,
        )
        await act(session, wanted)

    command.__doc__ = text
    remote(app, name, shared=SHARED)(command)


def _pairs(given: Sequence[str] | None, option: str) -> dict[str, str]:
    """Read what is given as NAME=VALUE."""
    pairs: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise typer.BadParameter(
                f"{text!r} is not of the form NAME=VALUE, NAME being one of JavaScript",
                param_hint=option,
            )
        pairs[name] = value
    return pairs


_register("run", RUN, run_worker)
_register("config", CONFIG, print_config)
