"""What central does for locations: stamps, journals, and a time that never goes back."""

from dataclasses import replace

import pytest

from atoll import registry
from atoll.central import STAMP_AHEAD_US_MAX, Central
from atoll.core.errors import NotArrivedError
from atoll.core.limits import Limits
from atoll.core.location_errors import LocationForgottenError, LocationUnknownError
from atoll.core.model import Batch, Identity, JournalToken, Mutation, OutcomeKind, Read
from atoll.core.version import Version, micros_of, node_of, version_at
from atoll.store.memory import MemoryStore
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio

NS = "1" * 32


class Setup:
    """A central in memory, and the journal of a location that has registered."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(incarnation=7)
        self.central = self.start()

    def start(self) -> Central:
        """Start a central over the store, as after a restart."""
        return Central(self.store, clock=self.clock, limits=Limits())

    def delivery(self, number: int, *, ahead_us: int = 0, value: bytes | None = b"v") -> Batch:
        """Make the batch that delivers an entry, stamped so far ahead of the wall clock."""
        now_us = self.clock.now_us()
        stamp = version_at(now_us + ahead_us, 1)
        name = number.to_bytes(8, "big")
        return Batch(
            namespace=NS,
            mutations=(Mutation(key="k", value=value, stamp=stamp),),
            identity=Identity(origin="LHR", name=name, lowest_unresolved=name),
            token=JournalToken(location="LHR", sequence=number),
            heard_us=now_us - 1000,
        )


async def test_only_the_registered_deliver() -> None:
    """A location that is not known registers first; one that was forgotten is refused."""
    setup = Setup()

    with pytest.raises(LocationUnknownError):
        await setup.central.write(setup.delivery(1))
    registered, _ = await registry.register(setup.central, "LHR")
    written = await setup.central.write(setup.delivery(1))
    await registry.forget(setup.central, "LHR")
    with pytest.raises(LocationForgottenError):
        await setup.central.write(setup.delivery(2))

    assert registered.node == 1
    assert written.outcomes[0].kind is OutcomeKind.APPLIED
    assert not await registry.forget(setup.central, "never there")


async def test_a_stamp_from_the_future_is_taken_back() -> None:
    """To the time that its location had heard; a little ahead is let pass."""
    setup = Setup()
    await registry.register(setup.central, "LHR")
    near, far = setup.delivery(1, ahead_us=STAMP_AHEAD_US_MAX), setup.delivery(2, ahead_us=10**9)

    first = await setup.central.write(near)
    second = await setup.central.write(replace(far, namespace="2" * 32))

    assert first.outcomes[0].version == near.mutations[0].stamp
    version = second.outcomes[0].version
    assert (micros_of(version), node_of(version)) == (far.heard_us, 1)


async def test_a_place_in_a_journal_is_met_once_it_was_delivered() -> None:
    """Also after a restart of central, and for every key and list."""
    setup = Setup()
    await registry.register(setup.central, "LHR")
    token = JournalToken(location="LHR", sequence=1)
    read = Read(namespace=NS, keys=("k",), at_least=token)

    with pytest.raises(NotArrivedError):
        await setup.central.read(read)
    await setup.central.write(setup.delivery(1))
    setup.central = setup.start()
    reading = await setup.central.read(read)

    assert reading.entry is not None
    with pytest.raises(NotArrivedError):
        await setup.central.read(replace(read, at_least=replace(token, sequence=2)))


async def test_what_has_expired_never_lives_again() -> None:
    """Central's time stands still when the wall clock is set back, also across a restart."""
    setup = Setup()
    expires_s = int(setup.clock.now_s) + 10
    mutation = Mutation(key="k", value=b"v", expiration=expires_s)
    await setup.central.write(Batch(namespace=NS, mutations=(mutation,)))
    setup.clock.advance(11)
    gone = await setup.central.read(Read(namespace=NS, keys=("k",)))
    await setup.central.write(Batch(namespace=NS, mutations=(Mutation(key="l", value=b"v"),)))

    setup.clock.step(-3600)
    still = await setup.central.read(Read(namespace=NS, keys=("k",)))
    setup.central = setup.start()
    after = await setup.central.read(Read(namespace=NS, keys=("k",)))

    assert gone.entry is still.entry is after.entry is None
    assert gone.buried is not None


async def test_central_stamps_later_than_what_the_sender_has_seen() -> None:
    """A write made after seeing another beats it, whatever central's clock says."""
    setup = Setup()
    seen = version_at(setup.clock.now_us() + 500_000, 3)

    written = await setup.central.write(
        Batch(namespace=NS, mutations=(Mutation(key="k", value=b"v"),), clock=seen)
    )
    wild = await setup.central.write(
        Batch(namespace=NS, mutations=(Mutation(key="l", value=b"v"),), clock=Version(2**62))
    )

    assert written.outcomes[0].version > seen
    assert micros_of(wild.outcomes[0].version) < setup.clock.now_us() + STAMP_AHEAD_US_MAX
