"""How commands are made: the options that each of them has, and what each is given.

A command is a plain function. `remote` and `local` register it with the shared options behind its
own, so that `--json` or `--data` may stand wherever a user thinks of them.
"""

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Concatenate, Final, ParamSpec

import typer

from atoll.cli.api import Api, connected
from atoll.cli.output import Out
from atoll.cli.target import target_of
from atoll.config import Config, Loaded, load

P = ParamSpec("P")

SHARED_PANEL: Final = "Shared options"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What a command that talks to a server is given."""

    api: Api
    out: Out
    config: Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What a command that works in the data folder is given."""

    out: Out
    loaded: Loaded

    @property
    def config(self) -> Config:
        """The settings themselves."""
        return self.loaded.config


def _option(*names: str, text: str, metavar: str | None = None) -> Any:  # noqa: ANN401 - typer's
    return typer.Option(*names, help=text, metavar=metavar, rich_help_panel=SHARED_PANEL)


def _shared(name: str, kind: object, default: object = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


_JSON: Final = _shared(
    "as_json", Annotated[bool, _option("--json", text="Print JSON, errors too.")], default=False
)
_DATA: Final = _shared(
    "data",
    Annotated[
        Path | None,
        _option("--data", text="The data folder. [ATOLL_DATA; default: .atoll]", metavar="FOLDER"),
    ],
)
_CONFIG: Final = _shared(
    "config",
    Annotated[
        Path | None,
        _option("--config", text="The file with settings. [ATOLL_CONFIG]", metavar="FILE"),
    ],
)
_SET: Final = _shared(
    "settings",
    Annotated[
        list[str] | None,
        _option(
            "--set", text="A setting, as `atoll config` names it. Repeatable.", metavar="NAME=VALUE"
        ),
    ],
)
_URL: Final = _shared(
    "url",
    Annotated[
        str | None, _option("--url", text="The server. [ATOLL_URL; default: the data folder's]")
    ],
)
_TOKEN: Final = _shared(
    "token",
    Annotated[
        str | None,
        _option("--token", text="The API token. [ATOLL_TOKEN; default: the data folder's]"),
    ],
)
_ACCOUNT: Final = _shared(
    "account_id",
    Annotated[
        str | None,
        _option("--account", text="The account's id. [ATOLL_ACCOUNT_ID; default: the only one]"),
    ],
)

REMOTE: Final = (_URL, _TOKEN, _ACCOUNT, _DATA, _CONFIG, _JSON)
LOCAL: Final = (_DATA, _CONFIG, _SET, _JSON)


def remote(
    app: typer.Typer, name: str, *, shared: Sequence[inspect.Parameter] = REMOTE
) -> Callable[
    [Callable[Concatenate[Session, P], Awaitable[None]]],
    Callable[Concatenate[Session, P], Awaitable[None]],
]:
    """Register a command that talks to a server.

    Args:
        app: Where it belongs.
        name: What it is called.
        shared: The options that it has besides its own.
    """

    def register(
        function: Callable[Concatenate[Session, P], Awaitable[None]],
    ) -> Callable[Concatenate[Session, P], Awaitable[None]]:
        def run(**given: Any) -> None:  # noqa: ANN401 - typer's
            out, loaded = _taken(given, shared)
            with quiet_pipes():
                asyncio.run(_with_session(function, out, loaded, given))

        _register(app, name, function, run, shared)
        return function

    return register


def local(
    app: typer.Typer, name: str, *, also: Sequence[inspect.Parameter] = ()
) -> Callable[[Callable[Concatenate[Here, P], None]], Callable[Concatenate[Here, P], None]]:
    """Register a command that works in the data folder.

    Args:
        app: Where it belongs.
        name: What it is called.
        also: Options that are settings, named as these are.
    """

    def register(
        function: Callable[Concatenate[Here, P], None],
    ) -> Callable[Concatenate[Here, P], None]:
        shared = (*also, *LOCAL)

        def run(**given: Any) -> None:  # noqa: ANN401 - typer's
            out, loaded = _taken(given, shared)
            called: Callable[..., None] = function
            with quiet_pipes():
                called(Here(out=out, loaded=loaded), **given)

        _register(app, name, function, run, shared)
        return function

    return register


class PipeClosed(Exception):  # noqa: N818 - no error: whoever read our output has read enough
    """Who read our output stopped reading."""


@contextmanager
def quiet_pipes() -> Generator[None]:
    """Turn a closed pipe into `PipeClosed`, which nobody on the way up mistakes for an error."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise PipeClosed from error


async def _with_session(
    function: Callable[..., Awaitable[None]], out: Out, loaded: Loaded, given: dict[str, Any]
) -> None:
    config = loaded.config
    async with connected(
        target_of(loaded), timeout_s=config.timeout_s, ca_certificate=config.ca_certificate
    ) as api:
        await function(Session(api=api, out=out, config=config), **given)


def _register(
    app: typer.Typer,
    name: str,
    function: Callable[..., object],
    run: Callable[..., None],
    shared: Sequence[inspect.Parameter],
) -> None:
    """Show typer one function with the command's own parameters and the shared ones."""
    _, *own = inspect.signature(function, eval_str=True).parameters.values()
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
    signature = inspect.Signature([*parameters, *shared])
    run.__dict__["__signature__"] = signature
    run.__doc__ = function.__doc__
    app.command(name)(run)


def _taken(given: dict[str, Any], shared: Sequence[inspect.Parameter]) -> tuple[Out, Loaded]:
    """Take the shared options out of what was given, and load the settings with them."""
    values = {one.name: given.pop(one.name) for one in shared}
    out = Out(as_json=values.pop("as_json"))
    flags: dict[str, str] = {}
    for text in values.pop("settings", None) or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r} is not of the form name=value", param_hint="--set")
        flags[name.strip()] = value.strip()
    flags |= {name: str(value) for name, value in values.items() if value is not None}
    return out, load(flags)
