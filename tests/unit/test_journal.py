"""What a journal promises, in memory and in a file: what it took is there until it is resolved."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from atoll.core.errors import DiskFullError
from atoll.core.location_errors import JournalFullError
from atoll.core.model import Mutation
from atoll.core.version import Version
from atoll.location import file_journal
from atoll.location.file_journal import FileJournal
from atoll.location.journal import Journal, Journaled, JournalState, MemoryJournal, Refused

pytestmark = pytest.mark.anyio

BOUND_BYTES = 100_000
Make = Callable[[Path], Journal]


def in_memory(_: Path) -> Journal:
    """Make a journal in memory."""
    return MemoryJournal(size_bytes_max=BOUND_BYTES)


def in_a_file(path: Path) -> Journal:
    """Make a journal on disk."""
    return FileJournal(path / "journal", size_bytes_max=BOUND_BYTES)


@pytest.fixture(params=[in_memory, in_a_file])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Journal:
    """Return an empty journal."""
    make: Make = request.param
    return make(tmp_path)


def entry(number: int, value: bytes | None = b"v") -> Journaled:
    """Make an entry in one line."""
    mutation = Mutation(
        key=f"k{number}", value=value, metadata=b"{}", expiration=5, stamp=Version(number)
    )
    return Journaled(
        sequence=0, identity=number, namespace="n", mutations=(mutation,), heard_us=number
    )


def refused(one: Journaled) -> Refused:
    """Refuse an entry."""
    return Refused(entry=one, code="some_code", reason="for a reason")


async def test_entries_come_out_in_the_order_in_which_they_were_taken(journal: Journal) -> None:
    """Also those that were asked for at the same time; each gets the next sequence."""
    taken = await asyncio.gather(*(journal.append(entry(n)) for n in range(1, 50)))

    assert list(journal.entries) == taken
    assert [one.sequence for one in taken] == list(range(1, 50))
    assert [one.identity for one in taken] == list(range(1, 50))
    for one in taken:
        assert journal.entries[0] == one
        await journal.resolve(one.sequence)
    assert (list(journal.entries), journal.size_bytes) == ([], 0)
    assert journal.last_sequence == 49
    assert (await journal.append(entry(99))).sequence == 50


async def test_stamps_raise_the_floor_and_changes_of_the_state_add_up(journal: Journal) -> None:
    """Two changes at the same time both count."""
    await asyncio.gather(
        journal.append(entry(70)),
        journal.update(lambda old: replace(old, identities_reserved=1000)),
        journal.update(lambda old: replace(old, node=3, registered_in=2**63)),
    )

    assert journal.state == JournalState(
        identities_reserved=1000, stamp_floor=Version(70), node=3, registered_in=2**63
    )


async def test_a_full_journal_takes_nothing_more(journal: Journal) -> None:
    """Until something was resolved."""
    first = await journal.append(entry(1, b"x" * 60_000))

    with pytest.raises(JournalFullError):
        await journal.append(entry(2, b"x" * 60_000))

    assert list(journal.entries) == [first]
    await journal.resolve(first.sequence)
    await journal.append(entry(2, b"x" * 60_000))


async def test_what_was_refused_is_kept_until_it_is_discarded(journal: Journal) -> None:
    """It stands in nobody's way."""
    first, second = [await journal.append(entry(n)) for n in (1, 2)]

    await journal.resolve(first.sequence, refused(first))

    assert list(journal.entries) == [second]
    assert list(journal.refused) == [refused(first)]
    await journal.discard(first.sequence)
    assert not journal.refused


# What only a file can show.


def opened(path: Path) -> FileJournal:
    """Open the journal in `path`."""
    return FileJournal(path / "journal", size_bytes_max=BOUND_BYTES)


async def filled(path: Path) -> FileJournal:
    """Make a journal with something of everything in it."""
    journal = await asyncio.to_thread(opened, path)
    taken = [await journal.append(entry(n)) for n in (1, 2, 3)]
    await journal.resolve(taken[0].sequence, refused(taken[0]))
    await journal.append(entry(4, None))
    await journal.update(lambda old: replace(old, node=5))
    return journal


async def test_reopened_it_holds_what_it_held(tmp_path: Path) -> None:
    """Everything that was answered for, whether it was closed or not."""
    first = await filled(tmp_path)

    second = await asyncio.to_thread(opened, tmp_path)

    assert list(second.entries) == list(first.entries)
    assert list(second.refused) == list(first.refused)
    assert second.state == first.state
    assert second.last_sequence == first.last_sequence == 4
    assert second.size_bytes == first.size_bytes
    await asyncio.to_thread(second.close)
    await asyncio.to_thread(first.close)


async def test_a_torn_end_costs_nothing_that_was_answered_for(tmp_path: Path) -> None:
    """Cut anywhere inside its last change, the file opens with all the others."""
    first = await filled(tmp_path)
    before = (tmp_path / "journal").stat().st_size
    await first.append(entry(9))
    await asyncio.to_thread(first.close)
    whole = (tmp_path / "journal").read_bytes()

    for length in range(before, len(whole)):
        (tmp_path / "journal").write_bytes(whole[:length])
        second = await asyncio.to_thread(opened, tmp_path)
        assert second.last_sequence == 4
        assert (await second.append(entry(10))).sequence == 5
        await asyncio.to_thread(second.close)
        third = await asyncio.to_thread(opened, tmp_path)
        assert [one.identity for one in third.entries] == [2, 3, 4, 10]
        await asyncio.to_thread(third.close)


async def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """What does not match its sum is not delivered."""
    first = await filled(tmp_path)
    before = (tmp_path / "journal").stat().st_size
    await first.append(entry(9))
    await asyncio.to_thread(first.close)
    raw = bytearray((tmp_path / "journal").read_bytes())
    raw[before + 12] ^= 1
    (tmp_path / "journal").write_bytes(raw)

    second = await asyncio.to_thread(opened, tmp_path)

    assert [one.identity for one in second.entries] == [2, 3, 4]
    await asyncio.to_thread(second.close)


async def test_a_disk_that_fails_leaves_the_journal_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was refused is not there later, and what comes after it is."""
    journal = await filled(tmp_path)
    entries, state = list(journal.entries), journal.state
    syncs = 0

    def fails_once(file: int) -> None:
        """Be a disk that fails, and then does not."""
        nonlocal syncs
        syncs += 1
        if syncs == 1:
            raise OSError
        os.fsync(file)

    monkeypatch.setattr(file_journal, "_sync", fails_once)

    with pytest.raises(DiskFullError):
        await journal.append(entry(9))

    assert (list(journal.entries), journal.state) == (entries, state)
    after = await journal.append(entry(10))
    await asyncio.to_thread(journal.close)
    again = await asyncio.to_thread(opened, tmp_path)
    assert list(again.entries) == [*entries, after]
    await asyncio.to_thread(again.close)


async def test_what_was_answered_for_had_been_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that drops whatever was not synced still has every entry that was taken."""
    synced_bytes = 0

    def notes(file: int) -> None:
        """Note how much would be there after a power failure."""
        nonlocal synced_bytes
        synced_bytes = os.fstat(file).st_size

    monkeypatch.setattr(file_journal, "_sync", notes)
    journal = await asyncio.to_thread(opened, tmp_path)
    folder = tmp_path / "after the power came back"
    folder.mkdir()
    for number in range(1, 20):
        taken = await journal.append(entry(number))

        content = (tmp_path / "journal").read_bytes()[:synced_bytes]
        (folder / "journal").write_bytes(content)
        after = await asyncio.to_thread(opened, folder)
        assert after.entries[-1] == taken
        await asyncio.to_thread(after.close)
    await asyncio.to_thread(journal.close)


async def test_the_file_is_written_anew_when_little_of_it_is_of_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A location that is cut off often does not fill its disk with what was delivered."""
    monkeypatch.setattr(file_journal, "COMPACT_BYTES_MIN", 10_000)
    journal = await filled(tmp_path)
    for number in range(10, 200):
        await journal.append(entry(number, b"x" * 1000))
        await journal.resolve(journal.entries[0].sequence)
    entries, state, last = list(journal.entries), journal.state, journal.last_sequence
    await asyncio.to_thread(journal.close)

    assert (tmp_path / "journal").stat().st_size < 30_000
    again = await asyncio.to_thread(opened, tmp_path)
    assert (list(again.entries), again.state, again.last_sequence) == (entries, state, last)
    assert len(again.refused) == 1
    await asyncio.to_thread(again.close)
