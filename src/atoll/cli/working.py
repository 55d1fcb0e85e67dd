"""What `atoll worker` does: what a Worker needs is found or made, and workerd is started."""

import asyncio
import os
import re
import signal
import socket
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from atoll.cli.api import NAMESPACE_ID_DIGITS, Api, key_path
from atoll.cli.command import Session
from atoll.cli.folder import read_dev
from atoll.core.errors import AtollError, ConfigError, RemoteError
from atoll.principal import Permission
from atoll.workers.bundle import script_of
from atoll.workers.config import Store, Worker, embedded, in_full, render
from atoll.workers.project import Project, read_project
from atoll.workers.runtime import Prepared, Runtime, date_of, find
from atoll.workers.script import Form, Module

DATE_2019: Final = "2019-01-01"
"""The runtime that scripts of the older form were written for."""

LOOPBACK: Final = "127.0.0.1"
BACKLOG: Final = 1024
UNIX: Final = "unix:"
PORTS: Final = {"http": 80, "https": 443}
STATUS_NOT_FOUND: Final = 404
STATUS_FORBIDDEN: Final = 403

_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a command line asks for; see its options."""

    script: Path | None
    project_file: Path | None
    kv: Mapping[str, str]
    variables: Mapping[str, str]
    location: str | None
    port: int
    form: Form | None
    compatibility_date: str | None
    compatibility_flags: tuple[str, ...]
    token: str | None
    read_only: bool
    workerd: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """The same, with everything looked up."""

    main: Path
    project: Project
    program: Path
    namespaces: Mapping[str, str]
    """The id of the namespace that each binding is."""


async def run_worker(session: Session, wanted: Wanted) -> None:
    """Run a Worker until a signal says to stop.

    Args:
        session: The server, and where to tell.
        wanted: What to run.
    """
    plan = await _planned(session, wanted)
    place = _store(session, wanted.location)
    name = plan.project.name
    with tempfile.TemporaryDirectory(prefix="atoll-worker-") as made, _bound(wanted) as listener:
        folder = Path(made)
        url = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        # What is wrong with the script is told before anything is made for it.
        await _worker(session, wanted, plan, folder)

        def announce(again: bool) -> None:  # noqa: FBT001 - one call
            if again:
                session.out.note(f"{name} was started again")
                return
            session.out.result(
                {"name": name, "url": url, "location": place.address},
                f"{name} answers at {url}, with namespaces at {place.address}    (Ctrl-C stops it)",
            )

        runtime = Runtime(
            plan.program, folder, listener, announce=announce, complain=session.out.complain
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, runtime.stop)
        async with _own_token(session, wanted, plan) as token:
            store = replace(place, token=token)

            async def prepare() -> Prepared:
                worker = await _worker(session, wanted, plan, folder)
                text = await asyncio.to_thread(render, worker, store, in_full, structured=True)
                return Prepared(config=text, sources=worker.script.sources)

            await runtime.run(prepare)


async def print_config(session: Session, wanted: Wanted) -> None:
    """Print the configuration of a Worker.

    Args:
        session: The server, and where to print.
        wanted: What is to be run.
    """
    plan = await _planned(session, wanted)
    place = _store(session, wanted.location)
    with tempfile.TemporaryDirectory(prefix="atoll-worker-") as made:
        folder = Path(made)
        worker = await _worker(session, wanted, plan, folder)
        token = wanted.token
        if token is None and plan.namespaces:
            token, _ = await _made_token(session.api, wanted, plan)
            session.out.note(
                "The configuration holds a token: keep it from others. `atoll token revoke` ends"
                " it."
            )
        store = replace(place, token=token or "")

        def content(module: Module) -> str:
            # A bundle is gone when this command ends; other files stay where they are.
            if module.path.is_relative_to(folder):
                return in_full(module)
            return embedded(Path(os.path.relpath(module.path)))

        text = await asyncio.to_thread(render, worker, store, content)
    session.out.result({"config": text}, text.rstrip())


def _bound(wanted: Wanted) -> socket.socket:
    """Listen where the Worker is to answer.

    Raises:
        ConfigError: Something else does.
    """
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, wanted.port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigError(
            name="port",
            given=str(wanted.port),
            rule=f"the Worker cannot listen there: {error}. Choose another port: 0 takes a free"
            " one.",
            origin="command line",
        ) from error
    return listener


# Looking up.


async def _planned(session: Session, wanted: Wanted) -> _Plan:
    """Find everything that is needed.

    Raises:
        ConfigError: There is no script, or no workerd.
    """
    file = wanted.project_file
    project = Project() if file is None else await asyncio.to_thread(read_project, file)
    main = wanted.script or project.main
    if main is None:
        raise ConfigError(
            name="script",
            given="none" if file is None else str(file),
            rule="name the script to run, or with --config a project that names its `main`",
            origin="command line",
        )
    if file is None:
        project = replace(project, name=main.stem)
    project = replace(
        project,
        kv={**project.kv, **wanted.kv},
        variables={**project.variables, **wanted.variables},
        compatibility_date=wanted.compatibility_date or project.compatibility_date,
        compatibility_flags=(*project.compatibility_flags, *wanted.compatibility_flags),
    )
    if project.left_out:
        session.out.note(
            f"{project.name} also binds {', '.join(project.left_out)}, which is not provided here"
        )
    main = await asyncio.to_thread(main.resolve)
    folders = (main.parent, await asyncio.to_thread(Path.cwd))
    program = await asyncio.to_thread(find, folders, wanted.workerd)
    namespaces = {
        name: await _namespace(session.api, wanted, name, named)
        for name, named in project.kv.items()
    }
    return _Plan(main=main, project=project, program=program, namespaces=namespaces)


async def _namespace(api: Api, wanted: Wanted, binding: str, named: str | None) -> str:
    """Return the id of the namespace that a binding is.

    Raises:
        ConfigError: It is not said, or there is none.
    """
    rule = f"say which namespace of this Atoll it is: --kv {binding}=TITLE"
    if named is None:
        raise ConfigError(name=f"kv {binding}", given="none", rule=rule, origin="project")
    found = await api.namespace_id(named)
    if wanted.token is None and len(named) == NAMESPACE_ID_DIGITS:
        try:
            await api.kv("GET", f"/{found}")
        except RemoteError as error:
            if error.status != STATUS_NOT_FOUND:
                raise
            rule = f"no namespace of this Atoll has this id; {rule}"
            raise ConfigError(
                name=f"kv {binding}", given=named, rule=rule, origin="project"
            ) from error
    return found


async def _worker(session: Session, wanted: Wanted, plan: _Plan, folder: Path) -> Worker:
    """Read the script, and put together what workerd is told."""
    project = plan.project
    script = await script_of(plan.main, wanted.form, folder)
    return Worker(
        script=script,
        compatibility_date=await _date(session, plan, script.form),
        compatibility_flags=project.compatibility_flags,
        kv=plan.namespaces,
        variables=project.variables,
        listen=f"{LOOPBACK}:{wanted.port}",
    )


async def _date(session: Session, plan: _Plan, form: Form) -> str:
    """Return as of which day the runtime is to behave.

    Raises:
        ConfigError: What is given is no date.
    """
    asked = plan.project.compatibility_date
    if asked is None and form is Form.SERVICE_WORKER:
        return DATE_2019
    newest = await date_of(plan.program)
    if asked is None:
        return newest
    if not _DATE.fullmatch(asked):
        raise ConfigError(
            name="compatibility_date",
            given=asked,
            rule="give a day as YYYY-MM-DD",
            origin="in effect",
        )
    if asked > newest:
        session.out.note(
            f"the compatibility date {asked} is later than this workerd knows: {newest} is used"
        )
        return newest
    return asked


def _store(session: Session, location: str | None) -> Store:
    """Find out where the namespaces are reached.

    Raises:
        ConfigError: There is no location of this name, or it is no URL.
    """
    target = session.api.target
    dev = read_dev(session.config.data)
    known = {} if dev is None or dev.central != target.url else dev.locations
    url = location or next(iter(known.values()), target.url)
    url = known.get(url, url)
    if url.startswith(UNIX):
        return Store(address=url)
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        names = ", ".join(known) or "none"
        raise ConfigError(
            name="location",
            given=url,
            rule="give a URL, unix:PATH, or the name of a location of the running `atoll dev`"
            f" (there are: {names})",
            origin="command line",
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    address = f"{host}:{parts.port or PORTS[parts.scheme]}"
    if parts.scheme == "http":
        return Store(address=address)
    ca = session.config.ca_certificate
    return Store(
        address=address,
        tls_host=parts.hostname,
        authority=None if ca is None else ca.read_text(),
    )


# Its token.


@asynccontextmanager
async def _own_token(session: Session, wanted: Wanted, plan: _Plan) -> AsyncGenerator[str]:
    """Have a token for as long as the Worker runs: the one that is given, or one that is made."""
    if wanted.token is not None or not plan.namespaces:
        yield wanted.token or ""
        return
    secret, path = await _made_token(session.api, wanted, plan)
    try:
        yield secret
    finally:
        try:
            await session.api.rest("DELETE", path)
        except AtollError as error:
            token_id = path.rpartition("/")[2]
            session.out.note(f"the Worker's token {token_id} could not be revoked: {error}")


async def _made_token(api: Api, wanted: Wanted, plan: _Plan) -> tuple[str, str]:
    """Make a token that reaches the Worker's namespaces alone; return it, and its path.

    Raises:
        RemoteError: The caller may not make tokens.
    """
    permission = Permission.READ if wanted.read_only else Permission.WRITE
    tokens = f"/accounts/{await api.account_id()}/tokens"
    asked = {
        "name": f"worker {plan.project.name}",
        "permission": permission.value,
        "namespaces": sorted(set(plan.namespaces.values())),
    }
    try:
        made = (await api.rest("POST", tokens, json=asked)).result
    except RemoteError as error:
        if error.status != STATUS_FORBIDDEN:
            raise
        raise RemoteError(
            status=error.status,
            remote_code=error.remote_code,
            message=f"{error}. A token for the Worker cannot be made with it: give one that was"
            " made for it, with --worker-token.",
        ) from error
    return made["value"], f"{tokens}/{key_path(made['id'])}"
