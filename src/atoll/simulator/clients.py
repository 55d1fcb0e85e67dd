"""Clients: they read, write, delete, list and make conditions, and remember what they were told."""

import asyncio
from collections import deque
from dataclasses import replace
from random import Random
from typing import Final
from zlib import crc32

from atoll.checking.facts import Operation, Question, wrote
from atoll.core.errors import AtollError, ConditionFailedError
from atoll.core.model import (
    AtLeast,
    Batch,
    Condition,
    ListQuery,
    Mutation,
    Presence,
    Read,
    Reading,
)
from atoll.core.version import Version
from atoll.simulator.checks import Checker
from atoll.simulator.clock import US_PER_S
from atoll.simulator.loop import VirtualLoop
from atoll.simulator.network import Link, LinkError
from atoll.simulator.nodes import CentralNode
from atoll.simulator.plan import Plan

PATIENCE_S: Final = 20.0
"""A client gives up after this."""

DEFAULT_BOUND_MS: Final = 60_000
"""What a namespace promises that says nothing else."""

BOUNDS_MS: Final = (None, None, None, 0, 0, 200, 1000, 5000, 30_000)
TOKENS_KEPT: Final = 12
LIST_KEYS_MAX: Final = 1000


class Notes:
    """What all clients share: recent tokens, a counter for values, and a digest of every answer."""

    def __init__(self) -> None:
        self.tokens: deque[tuple[str, str, AtLeast]] = deque(maxlen=TOKENS_KEPT)
        self.written = 0
        self.digest = 0

    def new_value(self) -> bytes:
        """Return a value that no other write has."""
        self.written += 1
        return b"w%d" % self.written

    def answer(self, *facts: object) -> None:
        """Mix an answer into the digest."""
        self.digest = crc32(" ".join(map(str, facts)).encode(), self.digest)


class Client:
    """Somebody at one place."""

    def __init__(
        self,
        *,
        place: str,
        link: Link,
        loop: VirtualLoop,
        random: Random,
        plan: Plan,
        checker: Checker,
        central: CentralNode,
        notes: Notes,
    ) -> None:
        self.place = place
        self._link = link
        self._loop = loop
        self._random = random
        self._plan = plan
        self._checker = checker
        self._central = central
        self._notes = notes
        self._last: dict[tuple[str, str], int | None] = {}

    async def live(self) -> None:
        """Ask one thing after another, until cancelled."""
        random = self._random
        while True:
            pause_s = random.expovariate(1 / self._plan.think_s)
            await asyncio.sleep(pause_s)  # noqa: TID251 - virtual seconds
            if random.random() < self._plan.writes and self._may_write():
                await self._write_something()
            elif random.random() < 0.04:  # noqa: PLR2004 - lists are rarer than reads
                await self.list_keys()
            elif random.random() < 0.05:  # noqa: PLR2004
                await self._read_all()
            else:
                for _ in range(random.choice((1, 1, 1, 5))):
                    await self._read_something()

    def _may_write(self) -> bool:
        """Whether anybody writes here, and now."""
        plan = self._plan
        is_lull = plan.lull_s > 0 and self._loop.time() % (2 * plan.lull_s) > plan.lull_s
        return not is_lull and plan.written_at in {"", self.place}

    def _pick(self) -> tuple[str, str]:
        return self._random.choice(self._plan.namespaces), self._random.choice(self._plan.keys)

    # Reading.

    async def _read_something(self) -> None:
        namespace, key = self._pick()
        at_least: AtLeast | None = None
        if self._notes.tokens and self._random.random() < 0.15:  # noqa: PLR2004
            namespace, key, at_least = self._random.choice(self._notes.tokens)
        request = Read(
            namespace=namespace,
            keys=(key,),
            age_ms_max=self._random.choice(BOUNDS_MS),
            stale_ms_max=self._random.choice((None, None, 0)),
            at_least=at_least,
        )
        await self.read(request)

    async def _read_all(self) -> None:
        """Read every key at once, and have each answer checked: a bound holds per key."""
        request = Read(
            namespace=self._random.choice(self._plan.namespaces),
            keys=self._plan.keys,
            age_ms_max=self._random.choice(BOUNDS_MS),
        )
        questions = [self.ask(replace(request, keys=(key,))) for key in request.keys]
        try:
            async with asyncio.timeout(PATIENCE_S):
                readings = await self._link.read_many(request)
        except (AtollError, TimeoutError):
            self._checker.counts["bulk reads: refused"] += 1
            return
        self._checker.counts["bulk reads"] += 1
        for question, reading in zip(questions, readings, strict=True):
            self._heard(question, reading)

    def ask(self, request: Read) -> Question:
        """Note a question before it is asked."""
        bound_ms = request.age_ms_max
        return self._checker.asking(
            self.place,
            request.namespace,
            request.keys[0],
            now_s=self._loop.time(),
            central_us=self._central.own_us,
            bound_ms=DEFAULT_BOUND_MS if bound_ms is None else bound_ms,
            at_least=request.at_least,
            must_refuse_stale=request.stale_ms_max == 0,
        )

    async def read(self, request: Read) -> tuple[Question, Reading] | None:
        """Read one key, and have the answer checked."""
        question = self.ask(request)
        try:
            async with asyncio.timeout(PATIENCE_S):
                reading = await self._link.read(request)
        except TimeoutError:
            self._checker.slow(question, now_s=self._loop.time())
            return None
        except LinkError as error:
            if error.origin != self._link.origin:
                self._checker.refused(question, error, now_s=self._loop.time())
            return None
        except AtollError as error:
            self._checker.refused(question, error, now_s=self._loop.time())
            return None
        self._checker.slow(question, now_s=self._loop.time())
        self._heard(question, reading)
        return question, reading

    def _heard(self, question: Question, reading: Reading) -> None:
        now_s = self._loop.time()
        self._checker.answered(question, reading, now_s=now_s, central_us=self._central.now_us())
        version = None if reading.entry is None else reading.entry.version
        self._last[question.namespace, question.key] = version
        self._notes.answer(
            self.place, question.key, version, reading.position.sequence, reading.age_ms, now_s
        )

    async def list_keys(self) -> None:
        """List a namespace in one page, and have it checked."""
        namespace, _ = self._pick()
        asked_us = self._central.own_us
        query = ListQuery(namespace=namespace, prefix="k", limit=LIST_KEYS_MAX)
        try:
            async with asyncio.timeout(PATIENCE_S):
                page = await self._link.list(query)
        except (AtollError, TimeoutError):
            self._checker.counts["lists: refused"] += 1
            return
        self._checker.check_page(
            self.place,
            namespace,
            "k",
            page,
            asked_us=asked_us,
            now_us=self._central.now_us(),
            now_s=self._loop.time(),
        )

    # Writing.

    async def _write_something(self) -> None:
        random = self._random
        namespace, key = self._pick()
        value = None if random.random() < 0.25 else self._notes.new_value()  # noqa: PLR2004
        expiration: int | None = None
        if value is not None and random.random() < 0.2:  # noqa: PLR2004
            expiration = self._central.now_us() // US_PER_S + random.choice((1, 2, 5, 20))
        condition: Condition | None = None
        if random.random() < 0.2:  # noqa: PLR2004
            version = self._last.get((namespace, key))
            seen = None if version is None else Version(version)
            condition = random.choice((seen, Presence.ABSENT, Presence.PRESENT))
        mutation = Mutation(key=key, value=value, expiration=expiration, condition=condition)
        await self.write(namespace, mutation)

    async def write(self, namespace: str, mutation: Mutation) -> Operation:
        """Write one key, and have the answer checked."""
        checker = self._checker
        operation = Operation(
            place=self.place,
            namespace=namespace,
            key=mutation.key,
            value=mutation.value,
            expiration=mutation.expiration,
            condition=mutation.condition,
            asked_s=self._loop.time(),
        )
        asked_us = self._central.own_us
        checker.writing(operation)
        try:
            async with asyncio.timeout(PATIENCE_S):
                written = await self._link.write(Batch(namespace=namespace, mutations=(mutation,)))
        except ConditionFailedError as error:
            checker.condition_failed(
                operation,
                error,
                asked_us=asked_us,
                now_us=self._central.now_us(),
                now_s=self._loop.time(),
            )
            return operation
        except (AtollError, TimeoutError) as error:
            code = error.code if isinstance(error, AtollError) else "timeout"
            checker.history.say(self._loop.time(), f"{wrote(operation)} failed: {error!r} {error}")
            checker.counts["writes: failed, " + code] += 1
            return operation
        now_s = self._loop.time()
        checker.acknowledged(operation, written, now_s=now_s)
        if operation.condition is not None:
            checker.condition_held(operation, central_us=self._central.now_us(), now_s=now_s)
        token: AtLeast = written.token or written.position
        self._notes.tokens.append((namespace, mutation.key, token))
        self._last[namespace, mutation.key] = (
            None if mutation.value is None else written.outcomes[0].version
        )
        self._notes.answer(self.place, mutation.key, written.outcomes[0].version, token, now_s)
        return operation
