"""Watching a namespace from a program, over every way and in both manners."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

import atoll
from atoll.client import AsyncClient, Change, Client
from atoll.core.errors import PositionTooOldError, UnauthenticatedError
from tests.python.conftest import Namespace, Ways
from tests.support.server import serving, started


def first(
    ways: Ways,
    way: str,
    manner: str,
    count: int,
    begun: Callable[[], object],
    **options: Any,  # noqa: ANN401
) -> list[Change]:
    """Watch until so many changes came; `begun` is called once the watch has begun."""
    client = ways.client(way, manner)
    space: Namespace = client.namespace(ways.server.running.namespace_id)

    async def watch() -> list[Change]:
        assert isinstance(client, AsyncClient)
        async with client:
            changes: AsyncGenerator[Change] = space.watch(marks=True, **options)
            async for mark in changes:
                if mark.kind == "present":
                    break
            await asyncio.to_thread(begun)
            found = [await anext(changes) for _ in range(count)]
            await changes.aclose()
            return found

    if isinstance(client, AsyncClient):
        return asyncio.run(watch())
    with client, closing(space.watch(marks=True, **options)) as changes:
        assert next(mark for mark in changes if mark.kind == "present").key is None
        begun()
        return list(islice(changes, count))


def test_changes_come_as_they_happen(ways: Ways, way: str, manner: str, key: str) -> None:
    """With their versions, metadata, values and positions; those under another prefix do not."""
    central: Namespace = ways.namespace("central", "sync")
    done: list[Any] = []

    def write() -> None:
        central.put(f"not {key}", "other")
        done.append(central.put(f"{key}a", b"\xff", metadata={"n": 1}, expiration=2_000_000_000))
        done.append(central.delete(f"{key}a"))

    put, gone = first(ways, way, manner, 2, write, prefix=key, values=True)

    assert (put.kind, put.key, put.metadata) == ("put", f"{key}a", {"n": 1})
    assert put.expiration == 2_000_000_000
    # A location is told values only of keys that it holds.
    assert put.value == b"\xff" or (put.value is None and way != "central")
    assert (gone.kind, gone.key, gone.value) == ("delete", f"{key}a", None)
    assert [put.version, gone.version] == [one.version for one in done]
    assert put.age is None
    assert ways.namespace(way, manner).get(f"{key}a", at_least=gone.position) is None


def test_it_begins_behind_a_position(ways: Ways, way: str, manner: str, key: str) -> None:
    """What was written since is told, in its order."""
    central: Namespace = ways.namespace("central", "sync")
    since = central.put(f"{key}0", "v").position
    for number in range(1, 4):
        central.put(f"{key}{number}", "v")
    space = ways.client(way, manner)

    told = past(space, ways.server.running.namespace_id, prefix=key, since=since)

    assert [one.key for one in told] == [f"{key}{number}" for number in range(1, 4)]


def past(client: Client | AsyncClient, namespace: str, **options: Any) -> list[Change]:  # noqa: ANN401
    """Return what is told up to the present, and close the client."""

    async def watch() -> list[Change]:
        assert isinstance(client, AsyncClient)
        found: list[Change] = []
        async with client:
            changes = client.namespace(namespace).watch(marks=True, **options)
            async for change in changes:
                if change.kind == "present":
                    break
                found.append(change)
            await changes.aclose()
        return [one for one in found if one.key is not None]

    if isinstance(client, AsyncClient):
        return asyncio.run(watch())
    with client, closing(client.namespace(namespace).watch(marks=True, **options)) as changes:
        return [one for one in until_present(changes) if one.key is not None]


def until_present(changes: Iterator[Change]) -> Iterator[Change]:
    """Yield changes up to the mark of the present."""
    for change in changes:
        if change.kind == "present":
            return
        yield change


def test_what_cannot_be_watched_says_so(ways: Ways) -> None:
    """With the errors of the tree, before anything is told."""
    running = ways.server.running
    with (
        atoll.connect(running.central, token="atoll_none") as client,  # noqa: S106
        pytest.raises(UnauthenticatedError),
    ):
        next(client.namespace(running.namespace_id).watch())
    space = ways.namespace("central", "sync")
    with pytest.raises(PositionTooOldError) as old:
        next(space.watch(since="0000000000000001-1"))
    assert old.value.start_at


def test_it_goes_on_where_it_was_after_an_interruption(tmp_path: Path) -> None:
    """Central was killed and started anew: nothing is missing, and nothing comes twice."""
    data = tmp_path / "data"
    port = ""
    with serving(data, limits_preset="open", log_format="json") as server:
        port = server.url.rpartition(":")[2]
        running = server.running
        with atoll.connect(server.url, token=running.token) as client:
            space = client.namespace(running.namespace_id)
            with closing(space.watch(marks=True)) as changes:
                next(changes)
                space.put("a", "1")
                before = next(one for one in changes if one.key is not None)
                server.stop(signal.SIGKILL)
                again = started(data, limits_preset="open", log_format="json", port=port)
                try:
                    space.put("b", "2")
                    after = next(one for one in changes if one.key is not None)
                finally:
                    again.stop()

    assert (before.key, after.key) == ("a", "b")
