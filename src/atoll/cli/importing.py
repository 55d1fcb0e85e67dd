"""`atoll import`: sends a file of pairs in batches, several at a time, and keeps its place."""

import asyncio
import sys
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import typer

from atoll.cli import ndjson
from atoll.cli.api import Api
from atoll.cli.bulk import json_body
from atoll.cli.command import Session, remote
from atoll.cli.namespaces import Named
from atoll.cli.ndjson import Batch, Checkpoint
from atoll.cli.patience import patiently
from atoll.cli.progress import Progress, progress, silent
from atoll.clock import Clock, SystemClock
from atoll.core.errors import AtollError, InvalidRequestError, RemoteError

IN_FLIGHT_MAX: Final = 4
IN_FLIGHT_BYTES_MAX: Final = 64 * 2**20
"""A batch that is larger by itself is sent alone."""

SOON_S: Final = 120
"""What expires within this time may be refused, as the server's limits have it."""

BAD_REQUEST: Final = 400
US_PER_S: Final = 1_000_000

STDIN: Final = Path("-")


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    remote(app, "import")(import_)


async def import_(
    session: Session,
    namespace: Named,
    file: Annotated[
        Path, typer.Argument(help="One pair a line; `-`: standard input.", metavar="FILE")
    ],
    *,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an earlier import of FILE was stopped.")
    ] = False,
) -> None:
    """Store every pair of a file, of any size.

    Each line is a JSON object {"key", "value", "base64"?, "expiration"?, "expiration_ttl"?,
    "metadata"?}, as `atoll export` writes it. Of two lines with one key the later one counts.
    What has expired is left out. While it runs, FILE.atoll-checkpoint keeps the place.
    """
    namespace_id = await session.api.namespace_id(namespace)
    if file == STDIN:
        if resume:
            raise typer.BadParameter("standard input cannot be resumed", param_hint="--resume")
        importer = _Importer(session.api, namespace_id, file=None, clock=SystemClock())
        await importer.run(sys.stdin.buffer, None, show=silent)
    else:
        importer = _Importer(session.api, namespace_id, file=file, clock=SystemClock())
        with _opened(file) as source:
            kept = _checkpoint(session, source, file, namespace_id) if resume else None
            if not resume and ndjson.read_checkpoint(file) is not None:
                session.out.note("starting over; --resume would have gone on where it stopped")
            total = file.stat().st_size
            shown = not session.out.as_json and sys.stderr.isatty()
            with progress(f"import {file.name}", total=total, in_bytes=True, shown=shown) as show:
                await importer.run(source, kept, show=show)
        ndjson.drop_checkpoint(file)
    counts = {"imported": importer.imported, "expired": importer.expired}
    text = f"{importer.imported:,} pairs imported"
    if importer.expired:
        text += f", {importer.expired:,} left out because they have expired or are about to"
    session.out.result(counts, text)


@contextmanager
def _opened(file: Path) -> Generator[BinaryIO]:
    try:
        source = file.open("rb")
    except OSError as error:
        raise typer.BadParameter(str(error), param_hint="FILE") from error
    with source:
        yield source


def _checkpoint(
    session: Session, source: BinaryIO, file: Path, namespace_id: str
) -> Checkpoint | None:
    """Return the place to go on from, once it is certain that it is one in this file."""
    kept = ndjson.read_checkpoint(file)
    if kept is None:
        session.out.note("there is no checkpoint beside the file; beginning at its start")
        return None
    if kept.namespace_id != namespace_id or kept.proof != ndjson.proof_at(source, kept.offset):
        raise typer.BadParameter(
            f"{ndjson.checkpoint_path(file)} belongs to another namespace, or {file} was changed"
            " since. Import without --resume to begin at the start.",
            param_hint="--resume",
        )
    session.out.note(f"going on behind line {kept.line:,}")
    return kept


@dataclass(slots=True, kw_only=True)
class _Flight:
    """A batch that was sent."""

    batch: Batch
    landed: bool = False
    refused: int = 0
    """Pairs that the server did not take because they expire too soon."""


class _Importer:
    """Sends batches, and moves the checkpoint over those that all before were acknowledged too.

    Batches in the air share no key, so that of two lines with one key the later one stays.
    """

    def __init__(self, api: Api, namespace_id: str, *, file: Path | None, clock: Clock) -> None:
        self.imported = 0
        self.expired = 0
        self._api = api
        self._namespace_id = namespace_id
        self._file = file
        self._clock = clock
        self._flights: deque[_Flight] = deque()
        self._landed = asyncio.Event()
        self._failure: Exception | None = None

    async def run(self, source: BinaryIO, kept: Checkpoint | None, *, show: Progress) -> None:
        """Send what `source` holds behind the place kept."""
        offset, line = (kept.offset, kept.line) if kept is not None else (0, 0)
        if kept is not None:
            self.imported, self.expired = kept.imported, kept.expired
        name = str(self._file or "standard input")
        now_s = self._clock.now_us() / US_PER_S
        batches = ndjson.read_batches(source, name=name, now_s=now_s, start=offset, line=line)
        unread: InvalidRequestError | None = None
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    batch = next(batches, None)
                except InvalidRequestError as error:
                    unread = error
                    break
                if batch is None or not await self._room_for(batch):
                    break
                flight = _Flight(batch=batch)
                self._flights.append(flight)
                group.create_task(self._fly(flight, show))
        if self._failure is not None:
            raise self._failure
        if unread is not None:
            raise unread

    async def _room_for(self, batch: Batch) -> bool:
        """Wait until `batch` may be sent beside what is in the air; false if something failed."""
        while self._failure is None:
            flying = [flight.batch for flight in self._flights]
            size_bytes = sum(one.size_bytes for one in flying) + batch.size_bytes
            if not flying or (
                len(flying) < IN_FLIGHT_MAX
                and size_bytes <= IN_FLIGHT_BYTES_MAX
                and all(batch.lines.keys().isdisjoint(one.lines) for one in flying)
            ):
                return True
            self._landed.clear()
            await self._landed.wait()
        return False

    async def _fly(self, flight: _Flight, show: Progress) -> None:
        """Send a batch; what fails is kept, so that the batches beside it can still land."""
        batch = flight.batch
        try:
            flight.refused = await self._send(batch)
            flight.landed = True
            self._advance(show)
        except (AtollError, OSError) as error:
            lines = f"lines {batch.first_line:,} to {batch.last_line:,}"
            self._failure = self._failure or _located(error, f"{self._file or 'input'}, {lines}")
        finally:
            self._landed.set()

    async def _send(self, batch: Batch) -> int:
        """Store a batch and return how many of its pairs expire too soon to be taken."""
        if not batch.lines:
            return 0
        try:
            await self._put(list(batch.lines.values()))
        except RemoteError as error:
            # A pair that has a minute to live is no reason to refuse the others. The server alone
            # knows what is too soon, so those that may be are sent one by one.
            soon_s = self._clock.now_us() / US_PER_S + SOON_S
            soon = {key for key, at_s in batch.expirations.items() if at_s < soon_s}
            if error.status != BAD_REQUEST or not soon:
                raise
            rest = [line for key, line in batch.lines.items() if key not in soon]
            if rest:
                await self._put(rest)
            return sum([await self._refuses(batch.lines[key]) for key in soon])
        return 0

    async def _refuses(self, line: bytes) -> bool:
        try:
            await self._put([line])
        except RemoteError as error:
            if error.status != BAD_REQUEST:
                raise
            return True
        return False

    async def _put(self, lines: list[bytes]) -> None:
        path = f"/{self._namespace_id}/bulk"
        body = json_body(lines)
        await patiently(lambda: self._api.kv("PUT", path, **body), clock=self._clock)

    def _advance(self, show: Progress) -> None:
        """Count the batches that landed and have nothing in the air before them."""
        last: Batch | None = None
        while self._flights and self._flights[0].landed:
            flight = self._flights.popleft()
            last = flight.batch
            self.imported += len(last.lines) - flight.refused
            self.expired += last.expired + flight.refused
        if last is None:
            return
        show(last.end, f"{self.imported:,} pairs")
        if self._file is not None:
            with self._file.open("rb") as file:
                proof = ndjson.proof_at(file, last.end)
            ndjson.write_checkpoint(
                self._file,
                Checkpoint(
                    namespace_id=self._namespace_id,
                    offset=last.end,
                    line=last.last_line,
                    imported=self.imported,
                    expired=self.expired,
                    proof=proof,
                ),
            )


def _located(error: Exception, where: str) -> Exception:
    """Say in which lines the refused batch stands; the message itself counts from its start."""
    if not isinstance(error, RemoteError):
        return error
    return RemoteError(
        status=error.status, remote_code=error.remote_code, message=f"{where}: {error}"
    )
