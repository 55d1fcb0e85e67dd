"""Looking up in the cache of a location on this machine, in this process.

There is one `Local` for each folder in a process, however many clients there are: LMDB does not
allow one file to be opened twice. What it cannot answer is asked of the keeper.

An open cache must not cross a `fork`: the child would use the parent's place among the readers, and
free it when it ends. So the cache is closed before a fork and opened by both when they next read. A
fork that Python does not hear of leaves the child without a cache of its own: it asks the keeper.
"""

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from atoll.accounts import Namespace
from atoll.client.values import Asked
from atoll.clock import Clock, SystemClock
from atoll.core.errors import AtollError
from atoll.core.location_errors import CutOffError
from atoll.core.model import SYSTEM_NAMESPACE, Reading
from atoll.location.folder import boot_id
from atoll.location.glance import Glimpse
from atoll.location.judging import Demand
from atoll.location.lmdb_sight import UNREADABLE, LmdbSight
from atoll.location.lookup import Lookup
from atoll.location.mapping import ReaderMapping
from atoll.location.published import Published, published
from atoll.location.quick import Quick
from atoll.namespace_rules import Choice, NamespaceRules
from atoll.usage.collector import COUNTS_NAME, USAGE_NAME
from atoll.usage.counts import Kind, Operation, kind_of
from atoll.usage.meter import Meter
from atoll.usage.quotas import is_stopped

CACHE_NAME: Final = "cache"
READERS_NAME: Final = "readers"

FACE: Final = "python"
"""What reads in process are counted as."""
US_PER_S: Final = 1_000_000

KNOWN_MS_MAX: Final = 1000
"""How long the rules of a namespace, and what the location publishes, are taken as they were."""
NAMESPACES_MAX: Final = 1000
"""How many namespaces' rules are remembered."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a namespace."""

    rules: NamespaceRules
    until_ms: int
    """The instant from which on it is looked at again."""
    age_ms_max: int
    """The bound of a read that states none."""
    account: str
    counted_us: int
    """Central time when it was looked at; what is read until then counts in that hour."""
    is_stopped: bool
    """Whether a quota stops reads: the keeper says so to who asks."""


class _Open:
    """The cache, as long as it is open here."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        """Open it.

        Raises:
            OSError: There is none, or none that this user may use.
            ValueError: What the location publishes cannot be read.
        """
        self._folder = folder
        self._clock = clock
        self.sight = LmdbSight(folder / CACHE_NAME, opens=False)
        self.look()
        self.mapping = ReaderMapping(folder / READERS_NAME)
        boot = boot_id()
        self.values = Lookup(
            self.told.name, self.sight, clock=clock, boot=boot, mapping=self.mapping
        )
        # Looking for a namespace is not what somebody read.
        self.namespaces = Lookup(self.told.name, self.sight, clock=clock, boot=boot)
        self.quick = Quick(self.values, self.sight, self.mapping, age_ms_max=self.told.age_ms_max)
        self.rules: dict[str, _Known] = {}
        self.meter = Meter(folder / USAGE_NAME / COUNTS_NAME)

    def count(self, known: _Known, namespace: str, kind: Kind, *, age_ms: int, us: int) -> None:
        """Count a read that nobody but this process knows of.

        Args:
            known: What is known of its namespace.
            namespace: The id.
            kind: What it came to.
            age_ms: How old the answer is.
            us: When it began.
        """
        row = self.meter.row(namespace, FACE, known.account, known.counted_us)
        elapsed_us = max(0, self._clock.now_us() - us)
        row.count_read(kind, sent=0, elapsed_us=elapsed_us, age_ms=age_ms)

    def look(self) -> None:
        """See what the location publishes, and which of its files counts.

        Raises:
            OSError: It cannot be read, like the other errors of `UNREADABLE`.
            ValueError: It is something else.
        """
        told_ms = self._clock.elapsed_ms()
        self.told: Published = published(self._folder)
        self.told_ms = told_ms
        self.sight.prepare()

    def prepare(self) -> None:
        """Do `look`, and have a file ready to count in; it raises the same."""
        self.look()
        self.meter.prepare()

    def close(self) -> None:
        """Let go of it."""
        self.sight.close()
        self.mapping.close()
        self.meter.close()


class Local:
    """One location's cache, for all threads of this process."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        """Look in `folder`, a location's; `prepare` opens what is there."""
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._open: _Open | None = None
        self.users = 0

    def quick(self, namespace: str, key: str) -> Glimpse | None:
        """Return what is plainly the answer to a read without bounds; `None`: `answer` says."""
        if self._pid != os.getpid():
            return None
        with self._lock:
            cache = self._open
            known = None if cache is None else cache.rules.get(namespace)
            if cache is None or known is None:
                return None
            now_ms = cache.quick.elapsed_ms()
            if now_ms >= known.until_ms or known.is_stopped:
                return None
            began_us = self._clock.now_us()
            found = cache.quick.look(namespace, key, asked_ms=now_ms, age_ms_max=known.age_ms_max)
            if found is not None:
                cache.quick.note(found)
                kind = Kind.NEGATIVE if found.value is None else Kind.HIT
                cache.count(known, namespace, kind, age_ms=found.age_ms, us=began_us)
            return found

    def answer(self, namespace: str, key: str, wanted: Asked) -> Reading | None:
        """Return what is held if that is an answer; else the keeper is to be asked.

        Args:
            namespace: The id.
            key: The key.
            wanted: What the caller accepts.
        """
        if self._pid != os.getpid():
            return None
        with self._lock:
            cache = self._open
            if cache is None:
                return None
            now_ms = cache.values.elapsed_ms()
            if now_ms - cache.told_ms >= KNOWN_MS_MAX:
                return None  # What the location publishes is to be looked at again.
            known = self._known(cache, namespace, now_ms)
            if known is None or known.is_stopped:
                return None
            began_us = self._clock.now_us()
            demand = _demand(
                namespace, key, wanted, rules=known.rules, told=cache.told, now_ms=now_ms
            )
            reading = cache.values.answer(demand)
            return reading and _counted(cache, known, namespace, reading, began_us)

    def prepare(self) -> None:
        """Open the cache, and see what the location publishes: what reads files, in a thread."""
        if self._pid != os.getpid():
            return
        with self._lock:
            try:
                if self._open is None:
                    self._open = _Open(self._folder, self._clock)
                else:
                    self._open.prepare()
            except UNREADABLE:
                pass  # No location is there, or it is being replaced; the keeper is asked.

    def final(self, namespace: str, key: str, wanted: Asked) -> Reading:
        """Answer by age while the keeper cannot be asked.

        Raises:
            CutOffError: Nothing held is good enough.
            NotArrivedError: Nothing at or after the required position is held.
        """
        with self._lock:
            cache = self._open if self._pid == os.getpid() else None
            if cache is None:
                raise CutOffError(detail="the keeper of this location cannot be reached")
            now_ms = cache.values.elapsed_ms()
            known = self._known(cache, namespace, now_ms, final=True)
            if known is None:
                raise CutOffError(detail="this namespace is not known here")
            began_us = self._clock.now_us()
            demand = _demand(
                namespace, key, wanted, rules=known.rules, told=cache.told, now_ms=now_ms
            )
            return _counted(cache, known, namespace, cache.values.final(demand), began_us)

    def _known(
        self, cache: _Open, namespace: str, now_ms: int, *, final: bool = False
    ) -> _Known | None:
        """Return what is known of a namespace; `None` if not even that it exists."""
        known = cache.rules.get(namespace)
        if known is not None and now_ms < known.until_ms:
            return known
        demand = Demand(
            namespace=SYSTEM_NAMESPACE,
            key=f"namespace/{namespace}",
            asked_ms=now_ms,
            age_ms_max=cache.told.age_ms_max,
        )
        try:
            reading = cache.namespaces.final(demand) if final else cache.namespaces.answer(demand)
        except AtollError:
            reading = None
        entry = None if reading is None else reading.entry
        if entry is None or not isinstance(entry.value, bytes):
            cache.rules.pop(namespace, None)
            return None
        found = msgspec.json.decode(entry.value, type=Namespace)
        rules = found.rules
        if len(cache.rules) >= NAMESPACES_MAX:
            cache.rules.clear()
        bound_ms = rules.age_ms_max
        now_us = cache.values.central_us() or self._clock.now_us()
        known = cache.rules[namespace] = _Known(
            rules=rules,
            until_ms=min(now_ms, cache.told_ms) + KNOWN_MS_MAX,
            age_ms_max=cache.told.age_ms_max if bound_ms is None else bound_ms,
            account=found.account,
            counted_us=now_us,
            is_stopped=is_stopped(found.stops, Operation.READ, now_s=now_us // US_PER_S),
        )
        return known

    def close(self) -> None:
        """Close the cache. The next read opens it again."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        cache, self._open = self._open, None
        if cache is None:
            return
        if self._pid == os.getpid():
            cache.close()
        else:
            _ORPHANS.append(cache)

    # Around a fork.

    def before_fork(self) -> None:
        """Let no thread read, and leave nothing open."""
        self._lock.acquire()
        self._close()

    def after_fork(self, *, in_child: bool) -> None:
        """Go on, in the process that forked or in the new one."""
        if in_child:
            self._close()  # Only if it was not asked before.
            self._pid = os.getpid()
            self._lock = threading.Lock()
        else:
            self._lock.release()


def _counted(
    cache: _Open, known: _Known, namespace: str, reading: Reading, began_us: int
) -> Reading:
    """Count an answer, whose age is 0 where nobody can say it."""
    cache.count(known, namespace, kind_of(reading), age_ms=reading.age_ms or 0, us=began_us)
    return reading


def _demand(
    namespace: str, key: str, wanted: Asked, *, rules: NamespaceRules, told: Published, now_ms: int
) -> Demand:
    """Ask as over HTTP: the bound is the request's, else the namespace's, else the location's."""
    age_ms_max = wanted.age_ms_max
    if age_ms_max is None:
        age_ms_max = told.age_ms_max if rules.age_ms_max is None else rules.age_ms_max
    return Demand(
        namespace=namespace,
        key=key,
        asked_ms=now_ms,
        age_ms_max=age_ms_max,
        stale_ms_max=0 if rules.stale is Choice.REFUSE else wanted.stale_ms_max,
        at_least=wanted.at_least,
    )


_ORPHANS: Final[list[_Open]] = []
"""Caches that a parent process had open: never closed here, which would take its places away."""

_locals: Final[dict[Path, Local]] = {}
_locals_lock = threading.Lock()


def local_of(folder: Path) -> Local:
    """Return this process's view of a location; give it back with `release`.

    A folder that goes by two paths has two views; the second asks the keeper for everything.
    """
    with _locals_lock:
        found = _locals.get(folder)
        if found is None:
            found = _locals[folder] = Local(folder, SystemClock())
        found.users += 1
        return found


def release(local: Local) -> None:
    """Give back what `local_of` returned; the last one closes the cache."""
    with _locals_lock:
        local.users -= 1
        if local.users == 0:
            local.close()


def _before_fork() -> None:
    _locals_lock.acquire()
    for local in _locals.values():
        local.before_fork()


def _after_fork_in_parent() -> None:
    for local in _locals.values():
        local.after_fork(in_child=False)
    _locals_lock.release()


def _after_fork_in_child() -> None:
    global _locals_lock  # noqa: PLW0603 - a lock of the parent's threads is nobody's here
    for local in _locals.values():
        local.after_fork(in_child=True)
    _locals_lock = threading.Lock()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
