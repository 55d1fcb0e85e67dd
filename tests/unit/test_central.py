"""Central: stamps, the one write a second, positions, sweeping, and the feed."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from atoll.accounts import Accounts
from atoll.central import Central, CentralSettings
from atoll.core.errors import (
    ConditionFailedError,
    DeadlinePassedError,
    NotArrivedError,
    RewriteTooSoonError,
    UnauthenticatedError,
)
from atoll.core.limits import Limits
from atoll.core.model import (
    Batch,
    Identity,
    Mutation,
    Position,
    Presence,
    Read,
    Reading,
    Written,
)
from atoll.core.session import (
    Changed,
    Downward,
    Echo,
    Heartbeat,
    Hello,
    Resumed,
    StartedOver,
    Subscribe,
    Subscribed,
    Upward,
)
from atoll.core.version import Versions, micros_of
from atoll.principal import Permission
from atoll.store.memory import MemoryStore
from atoll.store.protocol import Admit
from tests.support.clock import ManualClock
from tests.support.rng import seeded_bytes

pytestmark = pytest.mark.anyio

NS = "1" * 32


class Setup:
    """A central in memory with a clock that the test turns."""

    def __init__(self, *, log_rows_max: int = 1_000_000) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(incarnation=7)
        self.settings = CentralSettings(log_rows_max=log_rows_max)
        self.central = self.start()

    def start(self) -> Central:
        """Start a central over the store, as after a restart."""
        return Central(self.store, clock=self.clock, limits=Limits(), settings=self.settings)

    async def put(self, key: str, value: bytes | None, *, rate_limited: bool = False) -> Written:
        """Write one key."""
        mutation = Mutation(key=key, value=value)
        batch = Batch(namespace=NS, mutations=(mutation,), rate_limited=rate_limited)
        return await self.central.write(batch)

    async def read(self, key: str, at_least: Position | None = None) -> Reading:
        """Read one key."""
        return await self.central.read(Read(namespace=NS, keys=(key,), at_least=at_least))


async def test_a_write_is_read_with_its_version_and_position() -> None:
    """What the write answered is what the read shows."""
    setup = Setup()

    written = await setup.put("k", b"v")
    reading = await setup.read("k")

    assert reading.entry is not None
    assert reading.entry.value == b"v"
    assert reading.entry.version == written.outcomes[0].version
    assert reading.position == written.position
    assert micros_of(reading.entry.version) == setup.clock.now_us()


async def test_later_writes_win_though_the_wall_clock_steps_back() -> None:
    """Also across a restart: stamps never go back."""
    setup = Setup()
    first = await setup.put("k", b"first")

    setup.clock.step(-3600)
    second = await setup.put("k", b"second")
    setup.central = setup.start()
    third = await setup.put("k", b"third")

    assert first.outcomes[0].version < second.outcomes[0].version < third.outcomes[0].version
    reading = await setup.read("k")
    assert reading.entry is not None
    assert reading.entry.value == b"third"


async def test_a_write_past_its_deadline_is_not_applied() -> None:
    """Its sender has stopped waiting and may have put it into its journal."""
    setup = Setup()
    late = setup.clock.now_us() - 5
    batch = Batch(namespace=NS, mutations=(Mutation(key="k", value=b"v"),), deadline_us=late)

    with pytest.raises(DeadlinePassedError) as caught:
        await setup.central.write(batch)

    assert caught.value.late_us == 5
    assert (await setup.read("k")).entry is None


async def test_a_position_ahead_of_the_log_has_not_arrived() -> None:
    """And so has one of another incarnation; one that is met changes nothing."""
    setup = Setup()
    written = await setup.put("k", b"v")
    at = written.position

    assert (await setup.read("k", at_least=at)).entry is not None
    for ahead in (
        Position(incarnation=at.incarnation, sequence=at.sequence + 1),
        Position(incarnation=at.incarnation + 1, sequence=0),
    ):
        with pytest.raises(NotArrivedError):
            await setup.read("k", at_least=ahead)


async def test_what_was_seen_to_have_expired_never_lives_again() -> None:
    """Not after a restart with a clock that was set back, though no sweeper had come by."""
    setup = Setup()
    mutation = Mutation(key="k", value=b"v", expiration=int(setup.clock.now_s) + 60)
    await setup.central.write(Batch(namespace=NS, mutations=(mutation,)))
    setup.clock.advance(61)
    assert (await setup.read("k")).entry is None

    setup.clock.step(-3600)
    setup.central = setup.start()

    assert (await setup.read("k")).entry is None


async def test_central_time_goes_on_while_the_wall_clock_is_behind() -> None:
    """A location that goes on by its own elapsed clock is not ahead of it."""
    setup = Setup()
    before_us = setup.central.now_us()

    setup.clock.step(-3600)
    setup.clock.advance(10)
    assert 9_000_000 < setup.central.now_us() - before_us <= 10_000_000

    setup.clock.step(3660)
    assert setup.central.now_us() == setup.clock.now_us()


async def test_what_has_expired_is_missing_whatever_the_sweeper_did() -> None:
    """To the second, and it stays so after the sweep."""
    setup = Setup()
    expiration = int(setup.clock.now_s) + 60
    mutation = Mutation(key="k", value=b"v", expiration=expiration)
    await setup.central.write(Batch(namespace=NS, mutations=(mutation,)))

    setup.clock.advance(59.9)
    assert (await setup.read("k")).entry is not None
    setup.clock.advance(0.1)
    assert (await setup.read("k")).entry is None
    await setup.central.sweep()
    assert (await setup.read("k")).entry is None


async def test_one_write_a_second_to_a_key_where_the_rule_counts() -> None:
    """Puts and deletes count alike; without the rule nothing is refused."""
    setup = Setup()
    await setup.put("k", b"1", rate_limited=True)

    with pytest.raises(RewriteTooSoonError):
        await setup.put("k", b"2", rate_limited=True)
    with pytest.raises(RewriteTooSoonError):
        await setup.put("k", None, rate_limited=True)
    await setup.put("k", b"3")
    await setup.put("other", b"1", rate_limited=True)
    setup.clock.advance(1)
    await setup.put("k", b"4", rate_limited=True)


async def test_deleting_what_is_absent_is_never_too_soon() -> None:
    """A client that repeats a delete meets no limit."""
    setup = Setup()
    for _ in range(3):
        await setup.put("k", None, rate_limited=True)

    await setup.put("k", b"v", rate_limited=True)


async def test_a_write_that_its_condition_stopped_does_not_count() -> None:
    """Who was refused may try again at once."""
    setup = Setup()
    present = Mutation(key="k", value=b"v", condition=Presence.PRESENT)
    with pytest.raises(ConditionFailedError):
        await setup.central.write(Batch(namespace=NS, mutations=(present,), rate_limited=True))

    await setup.put("k", b"v", rate_limited=True)


async def test_a_bulk_refused_for_one_key_counts_none_of_them() -> None:
    """A batch applies whole or not at all, and is counted the same way."""
    setup = Setup()
    await setup.put("hot", b"v", rate_limited=True)
    mutations = tuple(Mutation(key=key, value=b"v") for key in ("cold", "hot"))
    with pytest.raises(RewriteTooSoonError):
        await setup.central.write(Batch(namespace=NS, mutations=mutations, rate_limited=True))

    assert (await setup.read("cold")).entry is None
    await setup.put("cold", b"v", rate_limited=True)


async def test_a_repeat_is_answered_with_the_first_outcome_and_no_limit() -> None:
    """The same identity again applies nothing, and the record it shows is the present one."""
    setup = Setup()
    batch = Batch(
        namespace=NS,
        mutations=(Mutation(key="k", value=b"first"),),
        identity=Identity(origin="token:x", name=b"1"),
        rate_limited=True,
    )
    first = await setup.central.write(batch)
    await setup.put("k", b"second")

    repeat = await setup.central.write(batch)

    assert repeat.repeated
    assert repeat.outcomes[0].version == first.outcomes[0].version
    assert repeat.outcomes[0].current is not None
    assert repeat.outcomes[0].current.value == b"second"


class SlowToTell(MemoryStore):
    """Commits at once, and says so only when it is let."""

    def __init__(self) -> None:
        super().__init__(incarnation=7)
        self.committed = asyncio.Event()
        self.told = asyncio.Event()
        self.told.set()

    async def apply(
        self, batch: Batch, versions: Versions, *, now_us: int, admit: Admit | None = None
    ) -> Written:
        """See `Store`."""
        written = await super().apply(batch, versions, now_us=now_us, admit=admit)
        self.committed.set()
        await self.told.wait()
        return written


async def test_who_stops_waiting_for_a_revocation_has_revoked_all_the_same() -> None:
    """What central keeps at hand of tokens follows the commit, not the caller's patience."""
    store, clock = SlowToTell(), ManualClock()
    central = Central(store, clock=clock, limits=Limits())
    accounts = Accounts(central, limits=Limits(), clock=clock, random_bytes=seeded_bytes())
    token, secret = await accounts.create_token("a" * 32, name="t", permission=Permission.READ)
    await accounts.authenticate(authorization=f"Bearer {secret}")
    store.told.clear()
    revoking = asyncio.create_task(accounts.revoke_token("a" * 32, token.id))
    store.committed.clear()
    await store.committed.wait()

    revoking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await revoking
    store.told.set()
    for _ in range(5):
        await asyncio.sleep(0)  # noqa: TID251

    with pytest.raises(UnauthenticatedError):
        await accounts.authenticate(authorization=f"Bearer {secret}")


async def test_the_entries_of_a_dropped_namespace_are_removed() -> None:
    """By and by all of it goes, and in the end the note that it must go as well."""
    setup = Setup()
    accounts = Accounts(
        setup.central, limits=Limits(), clock=setup.clock, random_bytes=seeded_bytes()
    )
    namespace = await accounts.create_namespace("a" * 32, "title")
    mutations = tuple(Mutation(key=f"k{i}", value=b"v") for i in range(2_500))
    await setup.central.write(Batch(namespace=namespace.id, mutations=mutations))
    await accounts.delete_namespace("a" * 32, namespace.id)

    assert (await setup.central.sweep()).dropped == 2_500
    found = await setup.store.get(namespace.id, ["k0", "k2499"])
    assert list(found.entries) == [None, None]
    assert (await setup.central.sweep()).dropped == 0
    setup.clock.advance(61)
    await setup.central.sweep()
    setup.clock.advance(1)
    await setup.central.sweep()
    usage = await setup.store.usage("0" * 32, now_us=setup.clock.now_us())
    assert usage.keys == 0


class Follower:
    """The other end of a session."""

    def __init__(self, central: Central, hello: Hello) -> None:
        self._sent: asyncio.Queue[Upward] = asyncio.Queue()
        self._session = central.follow(hello, self._upward())

    async def _upward(self) -> AsyncIterator[Upward]:
        while True:
            yield await self._sent.get()

    def send(self, message: Upward) -> None:
        """Send a message up."""
        self._sent.put_nowait(message)

    async def next(self) -> Downward:
        """Return what comes down next."""
        async with asyncio.timeout(5):
            return await anext(self._session)

    async def end(self) -> None:
        """Hang up."""
        await self._session.aclose()  # type: ignore[attr-defined]


async def test_a_follower_is_told_what_it_subscribed_to_in_order() -> None:
    """A subscription vouches from its position on; changes before it are not told."""
    setup = Setup()
    await setup.put("early", b"v")
    follower = Follower(setup.central, Hello())
    assert await follower.next() == StartedOver(position=setup.central.position)

    follower.send(Subscribe(namespace=NS))
    assert await follower.next() == Subscribed(namespace=NS, position=setup.central.position)
    await setup.put("a", b"1")
    first = await follower.next()
    await setup.put("b", b"x" * 20_000)
    await setup.put("a", None)
    second, third = await follower.next(), await follower.next()

    assert isinstance(first, Changed)
    assert isinstance(second, Changed)
    assert isinstance(third, Changed)
    assert (first.entry.key, first.entry.value, first.value_included) == ("a", b"1", True)
    assert (second.entry.key, second.value_included) == ("b", False)
    assert (third.entry.key, third.entry.value) == ("a", None)
    assert first.position.sequence < second.position.sequence < third.position.sequence
    await follower.end()


async def test_an_echo_stands_behind_all_that_was_in_the_log() -> None:
    """When the echo comes, everything committed before its heartbeat has been told."""
    setup = Setup()
    follower = Follower(setup.central, Hello())
    await follower.next()
    follower.send(Subscribe(namespace=NS))
    await follower.next()

    await setup.put("k", b"v")
    follower.send(Heartbeat(instant_ms=42))

    assert isinstance(await follower.next(), Changed)
    assert await follower.next() == Echo(
        instant_ms=42, position=setup.central.position, central_us=setup.clock.now_us()
    )
    await follower.end()


async def test_a_session_resumes_where_it_ended() -> None:
    """What was written between is told, with the subscriptions it had."""
    setup = Setup()
    before = setup.central.position
    await setup.put("k", b"v")
    await setup.central.write(
        Batch(namespace="2" * 32, mutations=(Mutation(key="not ours", value=b""),))
    )

    follower = Follower(setup.central, Hello(resume_after=before, namespaces=frozenset({NS})))

    assert isinstance(await follower.next(), Resumed)
    changed = await follower.next()
    assert isinstance(changed, Changed)
    assert changed.entry.key == "k"
    follower.send(Heartbeat(instant_ms=1))
    assert isinstance(await follower.next(), Echo)
    await follower.end()


async def test_who_was_away_too_long_starts_over() -> None:
    """The log no longer reaches back, or belongs to another incarnation."""
    setup = Setup(log_rows_max=2)
    before = setup.central.position
    for i in range(5):
        await setup.put(f"k{i}", b"v")
    await setup.central.sweep()

    for stale in (before, Position(incarnation=8, sequence=5)):
        follower = Follower(setup.central, Hello(resume_after=stale, namespaces=frozenset({NS})))
        assert await follower.next() == StartedOver(position=setup.central.position)
        await follower.end()


async def test_a_follower_slower_than_the_log_starts_over() -> None:
    """It never holds up central; it is told that it missed something."""
    setup = Setup(log_rows_max=2)
    follower = Follower(setup.central, Hello())
    await follower.next()
    follower.send(Subscribe(namespace=NS))
    await follower.next()

    for i in range(5):
        await setup.put(f"k{i}", b"v")
    await setup.central.sweep()

    assert await follower.next() == StartedOver(position=setup.central.position)
    await follower.end()


async def test_a_swept_deletion_is_still_told() -> None:
    """A tombstone may be gone from the store before a slow follower has heard of it."""
    setup = Setup()
    await setup.put("k", b"v")
    after_put = setup.central.position
    await setup.put("k", None)
    setup.clock.advance(1)
    assert (await setup.central.sweep()).removed == 1

    follower = Follower(setup.central, Hello(resume_after=after_put, namespaces=frozenset({NS})))

    assert isinstance(await follower.next(), Resumed)
    changed = await follower.next()
    assert isinstance(changed, Changed)
    assert (changed.entry.key, changed.entry.value) == ("k", None)
    await follower.end()
