"""Which locations there are, kept as entries of the system namespace.

    location/<name>     Registered: the node id that the location stamps journaled writes with
    node/<id>           the name that has the id, so that none is given twice
    delivered/<name>    how far the location has delivered its journal

A location registers itself through its upstream, as it writes any key. Central reads what is
registered before it removes tombstones, because a journal may hold something older than they are.
"""

import re
from typing import Final

import msgspec

from atoll.core.errors import ConditionFailedError, ParameterInvalidError
from atoll.core.location_errors import LocationForgottenError
from atoll.core.model import (
    CENTRAL_NAME,
    SYSTEM_NAMESPACE,
    Batch,
    Include,
    ListQuery,
    Mutation,
    Presence,
    Read,
)
from atoll.core.version import NODE_MAX, Version
from atoll.upstream import Upstream

LOCATION_PREFIX: Final = "location/"
NODE_PREFIX: Final = "node/"
DELIVERED_PREFIX: Final = "delivered/"

LABEL_MARK: Final = "~"
"""Between the name of a location and what tells its journals apart."""

REGISTER_ATTEMPTS_MAX: Final = 5

_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,30}[A-Za-z0-9])?")


def location_of(origin: str) -> str:
    """Return the location that an identity comes from, whichever of its journals numbered it."""
    return origin.partition(LABEL_MARK)[0]


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """A location that may deliver a journal."""

    name: str
    node: int
    forgotten: bool = False
    """Its journal, should it return, is refused."""


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a location: it stands in keys, headers and folders.

    Raises:
        ParameterInvalidError: It is none, or means central.
    """
    if name == CENTRAL_NAME or not _NAME.fullmatch(name):
        raise ParameterInvalidError(
            name="location",
            given=name,
            rule="Use 1 to 32 letters, digits, dots, dashes and underscores, letters or digits at"
            f" both ends, and not {CENTRAL_NAME!r}.",
        )


def location_key(name: str) -> str:
    """Where the registration of a location stands."""
    return LOCATION_PREFIX + name


def delivered_key(name: str) -> str:
    """Where stands how far a location has delivered its journal."""
    return DELIVERED_PREFIX + name


def decode_registered(value: bytes) -> Registered:
    """Read the entry at `location_key`."""
    return msgspec.json.decode(value, type=Registered)


async def find(upstream: Upstream, name: str) -> tuple[Registered, Version] | None:
    """Return a location's registration as central has it now."""
    reading = await upstream.read(
        Read(namespace=SYSTEM_NAMESPACE, keys=(location_key(name),), age_ms_max=0, stale_ms_max=0)
    )
    if reading.entry is None or not isinstance(reading.entry.value, bytes):
        return None
    return decode_registered(reading.entry.value), reading.entry.version


async def register(upstream: Upstream, name: str) -> tuple[Registered, Version]:
    """Return a location's registration, and make it first where there is none.

    Returns:
        The registration and its version: whatever the location stamps must be later.

    Raises:
        LocationForgottenError: It was forgotten; the name is not given again.
        ConditionFailedError: Too many others registered at the same time.
    """
    for attempt in range(REGISTER_ATTEMPTS_MAX):
        found = await find(upstream, name)
        if found is not None:
            if found[0].forgotten:
                raise LocationForgottenError(location=name)
            return found
        registered = Registered(name=name, node=await _free_node(upstream))
        try:
            written = await upstream.write(
                Batch(
                    namespace=SYSTEM_NAMESPACE,
                    mutations=(
                        Mutation(
                            key=location_key(name),
                            value=msgspec.json.encode(registered),
                            condition=Presence.ABSENT,
                        ),
                        Mutation(
                            key=f"{NODE_PREFIX}{registered.node:04d}",
                            value=name.encode(),
                            condition=Presence.ABSENT,
                        ),
                    ),
                )
            )
        except ConditionFailedError:
            if attempt == REGISTER_ATTEMPTS_MAX - 1:
                raise
            continue  # Another took the id, or an earlier try of ours got through after all.
        return registered, written.outcomes[0].version
    raise AssertionError  # The last attempt returned or raised.


async def forget(upstream: Upstream, name: str) -> bool:
    """Release a location that never comes back; its node id is not given again.

    Returns:
        Whether there was one to forget.
    """
    found = await find(upstream, name)
    if found is None:
        return False
    registered, version = found
    forgotten = msgspec.structs.replace(registered, forgotten=True)
    await upstream.write(
        Batch(
            namespace=SYSTEM_NAMESPACE,
            mutations=(
                Mutation(
                    key=location_key(name),
                    value=msgspec.json.encode(forgotten),
                    condition=version,
                ),
            ),
        )
    )
    return True


async def _free_node(upstream: Upstream) -> int:
    """Return the id behind the largest given so far; central itself is 0."""
    largest = 0
    after: str | None = None
    while True:
        page = await upstream.list(
            ListQuery(
                namespace=SYSTEM_NAMESPACE, prefix=NODE_PREFIX, after=after, include=Include.KEYS
            )
        )
        for item in page.items:
            largest = max(largest, int(item.key.removeprefix(NODE_PREFIX)))
        after = page.after
        if after is None:
            assert largest < NODE_MAX, "every node id has been given"
            return largest + 1
