"""The command that holds a running deployment to the promises."""

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from atoll.cli.api import opened_client
from atoll.cli.command import Session, remote
from atoll.cli.exits import Exit
from atoll.cli.folder import read_dev
from atoll.clock import SystemClock
from atoll.core.errors import ConfigError, UnavailableError
from atoll.core.model import CENTRAL_NAME

if TYPE_CHECKING:
    from atoll.verify.client import Place
    from atoll.verify.report import Report
    from atoll.verify.run import Verifier

PREFIX: Final = "atoll-verify/"
PREFIX_BYTES: Final = 8
ANSWER_S_MAX: Final = 10.0
PROGRESS_S: Final = 1.0
METRICS_EVERY: Final = 5
"""How many of the progress lines lie between two writings of the metrics."""
MS_PER_S: Final = 1000


NamespaceName = Annotated[
    str | None,
    typer.Argument(
        help="Where to put keys; default: the namespace of `atoll dev`.", metavar="NAMESPACE"
    ),
]
Locations = Annotated[
    list[str] | None,
    typer.Option(help="A location. Repeatable; default: those of `atoll dev`.", metavar="NAME=URL"),
]
MetricsFile = Annotated[
    Path | None,
    typer.Option(help="Keep a file for Prometheus up to date while it runs.", metavar="FILE"),
]
Settle = Annotated[
    float, typer.Option(help="Seconds until all places must show the same at the end.", min=1)
]
Bound = Annotated[
    float,
    typer.Option(help="The setting bound_s of the locations, if it is another.", min=0),
]
Ttl = Annotated[int, typer.Option(help="For how many seconds those live that expire.", min=1)]


def register(app: typer.Typer) -> None:
    """Add the command."""
    remote(app, "verify")(verify)


async def verify(
    session: Session,
    namespace: NamespaceName = None,
    *,
    location: Locations = None,
    seconds: Annotated[float, typer.Option(help="For how long.", min=1)] = 30.0,
    forever: Annotated[
        bool, typer.Option("--forever", help="Until SIGINT or SIGTERM says to stop.")
    ] = False,
    rate: Annotated[
        float, typer.Option(help="Reads in a second, at all places together.", min=0.1)
    ] = 100.0,
    keys: Annotated[int, typer.Option(help="How many keys; a quarter more expire.", min=1)] = 8,
    ttl: Ttl = 61,
    bound: Bound = 60.0,
    settle: Settle = 65.0,
    metrics: MetricsFile = None,
) -> None:
    """Hold a running deployment to its promises: write own keys, read them everywhere.

    It writes under a prefix that it announces, touches no other key, and deletes its own at the
    end. A broken promise ends it with 1, when its time is over.
    """
    from atoll.verify.run import Options, Verifier, incarnation_of  # noqa: PLC0415 - see below

    urls = _urls(session, location)
    named, token = await _namespace(session, namespace)
    prefix = f"{PREFIX}{os.urandom(PREFIX_BYTES).hex()}/"
    async with _places(session, urls, namespace=named, token=token) as places:
        central = places[CENTRAL_NAME]
        settings = await central.settings()
        bound_s = bound if settings.bound_s is None else settings.bound_s
        verifier = Verifier(
            places,
            namespace=named,
            incarnation=await incarnation_of(central, prefix),
            options=Options(
                prefix=prefix,
                seconds=None if forever else seconds,
                rate=rate,
                keys=keys,
                ttl_s=ttl,
                bound_ms=round(bound_s * MS_PER_S),
                refuses_stale=settings.stale == "refuse",
                settle_s=settle,
            ),
            clock=SystemClock(),
            random=random.Random(),  # noqa: S311 - what is asked is no secret
        )
        session.out.note(
            f"keys begin with {prefix} in namespace {named}; reading at {', '.join(places)}"
        )
        with _stopping(verifier):
            telling = asyncio.create_task(_tell(session, verifier, metrics))
            try:
                report = await verifier.run()
            finally:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)
        if metrics is not None:
            await asyncio.to_thread(_replace, metrics, report.exposition())
    session.out.result(report.document(), report.text())
    if report.violations:
        raise typer.Exit(Exit.REFUSED)
    _require_reads(report)


def _require_reads(report: "Report") -> None:
    if not report.reads:
        raise UnavailableError("nobody answered, so nothing was checked")


def _urls(session: Session, given: list[str] | None) -> Mapping[str, str]:
    """Return where each place answers; central comes first."""
    target = session.api.target
    urls = {CENTRAL_NAME: target.url}
    if given:
        for text in given:
            name, equals, url = text.partition("=")
            if not equals or not url.startswith(("http://", "https://")) or name in urls:
                raise ConfigError(
                    name="location",
                    given=text,
                    rule="give a name that no other place has, and a URL, as in"
                    " --location LHR=http://127.0.0.1:8781",
                    origin="command line",
                )
            urls[name] = url.rstrip("/")
    else:
        dev = read_dev(session.config.data)
        if dev is not None and dev.central == target.url:
            urls |= dev.locations
    return urls


async def _namespace(session: Session, named: str | None) -> tuple[str, str]:
    """Return the namespace's id, and who asks."""
    token = session.api.require_token()
    if named is not None:
        return await session.api.namespace_id(named), token
    dev = read_dev(session.config.data)
    if dev is not None and dev.central == session.api.target.url:
        return dev.namespace_id, token
    raise typer.BadParameter("name the namespace to put keys in", param_hint="NAMESPACE")


@asynccontextmanager
async def _places(
    session: Session, urls: Mapping[str, str], *, namespace: str, token: str
) -> AsyncGenerator[Mapping[str, "Place"]]:
    """Open a client for each place."""
    from atoll.verify.client import Place  # noqa: PLC0415 - no other command needs it

    async with contextlib.AsyncExitStack() as stack:
        places: dict[str, Place] = {}
        for name, url in urls.items():
            client = opened_client(
                url,
                timeout_s=min(session.config.timeout_s, ANSWER_S_MAX),
                ca_certificate=session.config.ca_certificate,
            )
            await stack.enter_async_context(client)
            places[name] = Place(name, client, token=token, namespace=namespace)
        yield places


@contextlib.contextmanager
def _stopping(verifier: "Verifier") -> Generator[None]:
    """End the run on a signal, so that it checks its end and cleans up."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, verifier.stop)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _tell(session: Session, verifier: "Verifier", metrics: Path | None) -> None:
    """Say from time to time how far it has come."""
    shown = sys.stderr.isatty() and not session.out.as_json
    clock = SystemClock()
    told = 0
    while True:
        await clock.sleep(PROGRESS_S)
        report = verifier.report()
        if shown:
            sys.stderr.write(f"\r\x1b[K{report.seconds:.0f} s: {report.summary}")
            sys.stderr.flush()
        told += 1
        if metrics is not None and told % METRICS_EVERY == 1:
            await asyncio.to_thread(_replace, metrics, report.exposition())


def _replace(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)
