"""What the loop of the simulator promises: asyncio as everybody knows it, and no time lost."""

import asyncio
import time
from random import Random

import pytest

from atoll.simulator.clock import SimClock
from atoll.simulator.loop import Life, StuckError, VirtualLoop, run

DAY_S = 86_400.0


def seeded(seed: int) -> Random:
    """Return a generator that draws the same again."""
    return Random(seed)  # noqa: S311 - nothing here is secret


def test_an_idle_day_takes_seconds() -> None:
    """Three nodes that look around once a second all day long are simulated in seconds."""

    async def main(loop: VirtualLoop) -> int:
        """What the loop runs."""
        looks = 0

        async def look_around() -> None:
            """Look around once a second."""
            nonlocal looks
            while True:
                await asyncio.sleep(1)  # noqa: TID251 - virtual
                looks += 1

        async def look_around_all_day() -> None:
            """Do so three times over, for a day."""
            async with asyncio.timeout(DAY_S), asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(look_around())

        with pytest.raises(TimeoutError):
            await look_around_all_day()
        assert loop.time() == DAY_S
        return looks

    began_s = time.monotonic()

    looks = run(main, seeded(1))

    assert 3 * (DAY_S - 1) <= looks <= 3 * DAY_S
    assert time.monotonic() - began_s < 30


def order_of(seed: int) -> list[int]:
    """Let ten tasks become ready at the same time, and see in which order they run."""

    async def main(_: VirtualLoop) -> list[int]:
        """What the loop runs."""
        order: list[int] = []

        async def note(number: int) -> None:
            """Wait, then say which one it was."""
            await asyncio.sleep(1)  # noqa: TID251 - virtual
            order.append(number)

        await asyncio.gather(*map(note, range(10)))
        return order

    return run(main, seeded(seed))


def test_the_seed_decides_what_runs_first() -> None:
    """One seed gives one order, another seed another."""
    assert order_of(1) == order_of(1)
    assert len({tuple(order_of(seed)) for seed in range(5)}) == 5
    assert sorted(order_of(1)) == list(range(10))


def test_a_frozen_life_stands_still_and_goes_on() -> None:
    """What becomes ready while a life is frozen runs when it is thawed, and not before."""

    async def main(loop: VirtualLoop) -> list[float]:
        """What the loop runs."""
        woke_s: list[float] = []
        life = Life("frozen")

        async def sleep() -> None:
            """Wait, then say when it is."""
            await asyncio.sleep(1)  # noqa: TID251 - virtual
            woke_s.append(loop.time())

        loop.create_task(sleep(), context=life.context.copy())
        await asyncio.sleep(0.5)  # noqa: TID251 - virtual
        loop.freeze(life)
        await asyncio.sleep(9.5)  # noqa: TID251 - virtual
        assert woke_s == []
        loop.thaw(life)
        await asyncio.sleep(1)  # noqa: TID251 - virtual
        return woke_s

    assert run(main, seeded(1)) == [10.0]


def test_the_end_of_a_life_is_the_end_of_its_tasks_alone() -> None:
    """Tasks that a life started, and those that these started, end with it."""

    async def main(loop: VirtualLoop) -> tuple[bool, bool]:
        """What the loop runs."""
        life = Life("ending")

        async def parent() -> None:
            """Start a task of its own."""
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.Event().wait())

        inside = loop.create_task(parent(), context=life.context.copy())
        outside = asyncio.create_task(asyncio.Event().wait())
        await asyncio.sleep(1)  # noqa: TID251 - virtual
        loop.end(life)
        await asyncio.sleep(1)  # noqa: TID251 - virtual
        ended = inside.cancelled(), outside.done()
        outside.cancel()
        return ended

    assert run(main, seeded(1)) == (True, False)


def test_waiting_for_what_cannot_come_is_an_error() -> None:
    """A run in which nothing can happen any more says so instead of hanging."""

    async def main(_: VirtualLoop) -> None:
        """What the loop runs."""
        await asyncio.Event().wait()

    with pytest.raises(StuckError):
        run(main, seeded(1))


def test_clocks_drift_step_and_start_again() -> None:
    """A clock counts at its own rate; a step moves the wall alone, a reboot elapsed time alone."""

    async def main(loop: VirtualLoop) -> None:
        """What the loop runs."""
        clock = SimClock(loop, rate=1.5, ahead_s=10, up_s=1)
        wall_us = clock.now_us()

        await clock.sleep(3)

        assert loop.time() == pytest.approx(2)
        assert clock.elapsed_ms() == 4000
        assert clock.now_us() == wall_us + 3_000_000
        clock.step(-60)
        assert (clock.elapsed_ms(), clock.now_us()) == (4000, wall_us - 57_000_000)
        clock.reboot(up_s=5)
        assert (clock.elapsed_ms(), clock.boot_id) == (5000, 2)

    run(main, seeded(1))
