"""Puts the commands together, and turns whatever ends one into a message and an exit code."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Final

import typer
from typer.exceptions import TyperException

from atoll import __version__
from atoll.cli import (
    accounts,
    bulk,
    exporting,
    importing,
    keys,
    local,
    namespaces,
    nodes,
    operations,
    simulating,
    usage,
    verifying,
    watching,
    worker,
)
from atoll.cli.command import PipeClosed
from atoll.cli.exits import Exit, exit_code
from atoll.cli.output import Out
from atoll.core.errors import AtollError, RemoteError

app: Final = typer.Typer(
    name="atoll",
    help="A self-hosted Workers KV. `atoll dev` starts one here; the other commands use it.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:  # noqa: FBT001 - typer calls it so
    if asked:
        sys.stdout.write(f"atoll {__version__}\n")
        raise typer.Exit


@app.callback()
def root(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """A self-hosted Workers KV. `atoll dev` starts one here; the other commands use it."""


local.register_servers(app)
for group, name, text in (
    (namespaces.app, "namespace", "Namespaces: sets of keys with a title."),
    (keys.app, "key", "One key at a time."),
    (bulk.app, "bulk", "Many keys from a file, in the formats of wrangler."),
):
    app.add_typer(group, name=name, help=text, no_args_is_help=True)
exporting.register(app)
importing.register(app)
watching.register(app)
for group, name, text in (
    (accounts.accounts_app, "account", "Accounts: who namespaces and tokens belong to."),
    (accounts.tokens_app, "token", "API tokens."),
    (nodes.app, "node", "Nodes: what locations show central."),
    (usage.app, "quota", "Quotas: what an account may use."),
    (worker.app, "worker", "Workers on workerd, with namespaces as their bindings."),
):
    app.add_typer(group, name=name, help=text, no_args_is_help=True)
usage.register(app)
operations.register(app, local.register_upkeep(app))
simulating.register(app)
verifying.register(app)


def run(args: Sequence[str]) -> int:
    """Run one command.

    Args:
        args: What stands behind the program's name.

    Returns:
        The exit code.
    """
    options = args[: args.index("--")] if "--" in args else args
    out = Out(as_json="--json" in options)
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # a TextIOWrapper
    try:
        code: object = app(args=list(args), prog_name="atoll", standalone_mode=False)
    except (AtollError, OSError, PipeClosed, TyperException, UnicodeError, typer.Abort) as error:
        return _explained(error, out)
    return code if isinstance(code, int) else Exit.DONE


def _explained(error: Exception, out: Out) -> Exit:
    """Tell why a command ended, and return the code for it."""
    name, message, code = "os_error", str(error), Exit.REFUSED
    facts: dict[str, object] = {}
    match error:
        case PipeClosed():
            # Python flushes once more at its end; let that go nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return Exit.PIPE_CLOSED
        case TyperException():
            name, message, code = "usage", error.format_message(), Exit.USAGE
            if not message:  # A group without a command: its help has been printed.
                return code
            context = getattr(error, "ctx", None)
            if context is not None:
                out.note(f"{context.get_usage()}\nTry '{context.command_path} --help'.")
        case RemoteError():
            name, code = error.remote_code, exit_code(error)
            facts["status"] = error.status
        case AtollError():
            name, code = error.code, exit_code(error)
        case UnicodeEncodeError():
            name, code = "usage", Exit.USAGE
            message = f"{error.object!a} is not UTF-8, as keys, titles and settings are"
        case typer.Abort():
            name, message = "aborted", "not confirmed; nothing was changed"
        case _:
            pass
    out.error(code=name, message=message, facts=facts)
    return code
