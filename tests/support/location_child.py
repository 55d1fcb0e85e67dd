"""Processes that a test kills or stops: each says on its standard output what it has done."""

import asyncio
import sys
from pathlib import Path

import lmdb

from atoll.central import Central
from atoll.clock import SystemClock
from atoll.core.limits import Limits
from atoll.core.model import Batch, Entry, Mutation, Read
from atoll.core.version import Version
from atoll.location.age import Record
from atoll.location.cache import CacheState
from atoll.location.codec import digest_of
from atoll.location.file_journal import FileJournal
from atoll.location.journal import Journaled
from atoll.location.keeper import Keeper
from atoll.location.lmdb_cache import LmdbCache
from atoll.store.memory import MemoryStore
from atoll.upstream import Upstream
from tests.support.location import NS, Wire

BOUND_BYTES = 2**22
KEYS = 10


def say(what: object) -> None:
    """Tell the test."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def record(number: int, size_bytes: int = 100) -> Record:
    """Make a record that shows whether it is whole."""
    value = b"%d," % number * (size_bytes // len(b"%d," % number))
    entry = Entry(key="k", version=Version(number), value=value)
    return Record(entry=entry, sequence=number, instant_ms=number)


def open_cache(path: Path) -> LmdbCache:
    """Open the cache that is fought over."""
    return LmdbCache(path / "cache", boot="b", size_bytes_max=BOUND_BYTES)


async def append_for_ever(path: Path) -> None:
    """Append to the journal, several at a time, and resolve what was appended long ago."""
    journal = FileJournal(path / "journal", size_bytes_max=2**30)

    async def one(number: int) -> None:
        """Append one, and say so."""
        mutation = Mutation(key=f"k{number}", value=b"v" * 1000, stamp=Version(number))
        entry = await journal.append(
            Journaled(sequence=0, identity=number, namespace=NS, mutations=(mutation,), heard_us=1)
        )
        say(f"appended {entry.sequence}")

    number = 0
    while True:
        await asyncio.gather(*(one(number + more) for more in range(1, 4)))
        number += 3
        if len(journal.entries) > 20:
            oldest = journal.entries[0].sequence
            await journal.resolve(oldest)
            say(f"resolved {oldest}")


def put_for_ever(path: Path) -> None:
    """Put one record after another."""
    cache = open_cache(path)
    number = 0
    while True:
        number += 1
        cache.put(NS, f"k{number % KEYS}", record(number))
        cache.save(CacheState(applied=number))
        say(f"put {number}")


def look_for_ever(path: Path, name: str) -> None:
    """Begin a read, say so, and finish it when the test writes a line."""
    file = str(path / "cache" / name)
    with lmdb.open(file, subdir=False, readonly=True, max_dbs=3) as environment:
        records = environment.open_db(b"records", create=False)
        with environment.begin(db=records) as look:
            before = look.get(digest_of(NS, "k0"))
            say("looking")
            sys.stdin.readline()
            say("same" if look.get(digest_of(NS, "k0")) == before else "other")


def open_keeper(path: Path, upstream: Upstream) -> Keeper:
    """Open the location that is fought over."""
    return Keeper(
        "LHR",
        upstream,
        cache=open_cache(path),
        journal=FileJournal(path / "journal", size_bytes_max=2**30),
        clock=SystemClock(),
        boot="b",
        limits=Limits(),
    )


async def write_for_ever(path: Path) -> None:
    """Write at a location that is cut off, and read every write back before it is told of."""
    store = MemoryStore(incarnation=1)
    wire = Wire(Central(store, clock=SystemClock(), limits=Limits()))
    wire.cut()
    keeper = open_keeper(path, wire)
    number = 0
    while True:
        number += 1
        mutation = Mutation(key=f"k{number}", value=b"%d" % number)
        written = await keeper.write(Batch(namespace=NS, mutations=(mutation,)))
        reading = await keeper.read(
            Read(namespace=NS, keys=(mutation.key,), age_ms_max=0, at_least=written.token)
        )
        assert reading.entry is not None
        assert reading.entry.value == mutation.value
        say(f"journaled {number}")


if __name__ == "__main__":
    role, where = sys.argv[1], Path(sys.argv[2])
    if role == "append":
        asyncio.run(append_for_ever(where))
    elif role == "write":
        asyncio.run(write_for_ever(where))
    elif role == "put":
        put_for_ever(where)
    else:
        look_for_ever(where, sys.argv[3] if len(sys.argv) > len("abc") else "cache-1.mdb")
