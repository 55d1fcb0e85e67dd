"""What holds whatever else happens: listings while others write, and requests that come twice."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from tests.clients.plain import Access, Answer, Namespace, Row, create, exchange, put_form, spaces

WALKS = 6
ROUNDS_MAX = 10_000
LATER = 2_000_000_000


def churn(namespace: Namespace, keys: list[str], stop: threading.Event) -> int:
    """Write and delete `keys` again and again, and return how often."""
    for done in range(ROUNDS_MAX):
        if stop.is_set():
            return done
        namespace.bulk([{"key": key, "value": str(done)} for key in keys])
        namespace.delete(keys)
    return ROUNDS_MAX


@pytest.mark.parametrize("limit", [10, 97])
def test_listing_while_others_write(namespace: Namespace, limit: int) -> None:
    """No key comes twice in a walk, those that stay are all there, and no page is empty."""
    staying = [f"{n:04}" for n in range(1_000)]
    coming = [f"{n:04}-comes" for n in range(0, 1_000, 3)]
    coming += [f"0500-comes-{n:03}" for n in range(200)]  # whole pages that come and go
    namespace.bulk([{"key": key, "value": "v"} for key in staying])
    stop = threading.Event()

    with ThreadPoolExecutor() as pool:
        churning = pool.submit(churn, namespace, coming, stop)
        try:
            walks = [namespace.names(limit=limit) for _ in range(WALKS)]
        finally:
            stop.set()
    rounds = churning.result()

    assert rounds > 0
    assert any(set(coming) & set(walk) for walk in walks), "the walks met no write"
    for walk in walks:
        assert walk == sorted(set(walk))
        assert [key for key in walk if key in set(staying)] == staying


def test_a_cursor_outlives_what_it_points_at(namespace: Namespace) -> None:
    """When what lies behind a page was deleted, the next holds what is left, or is the last."""
    keys = [f"k{n:04}" for n in range(3_000)]
    namespace.bulk([{"key": key, "value": "v"} for key in keys])
    first = namespace.page(limit=10)
    assert first.result_info is not None
    cursor = first.result_info.cursor

    namespace.delete(keys[5:-1])
    next_page = namespace.page(limit=10, cursor=cursor)
    namespace.delete(keys[-1:])
    last_page = namespace.page(limit=10, cursor=cursor)

    assert msgspec.convert(next_page.result, list[Row]) == [Row(name=keys[-1])]
    assert next_page.result_info is not None
    assert next_page.result_info.cursor == ""
    assert last_page.result == []
    assert last_page.result_info is not None
    assert last_page.result_info.cursor == ""


def test_listing_while_keys_expire(access_open: Access, numbers: Iterator[int]) -> None:
    """Keys vanish in the middle of walks: no page is empty, and those that stay are there."""
    namespace = create(access_open, f"expiring-{next(numbers)}")
    staying = [f"{n:04}" for n in range(0, 4_000, 200)]
    expiring = [f"{n:04}-expires" for n in range(4_000)]
    namespace.bulk([{"key": key, "value": "v"} for key in staying])
    for ttl, start in enumerate(range(0, len(expiring), 2_000), start=1):
        keys = expiring[start : start + 2_000]
        namespace.bulk([{"key": key, "value": "v", "expiration_ttl": ttl} for key in keys])

    walks: list[list[str]] = []
    for _ in range(ROUNDS_MAX):
        walks.append(namespace.names(limit=20))
        if walks[-1] == staying:
            break

    assert walks[-1] == staying, "keys that should have expired are still listed"
    assert len(walks) > 1, "nothing expired while the listing was walked"
    for walk in walks:
        assert walk == sorted(set(walk))
        assert [key for key in walk if key in set(staying)] == staying


def sending(method: str, path: str, body: object) -> Callable[[Namespace], Answer]:
    """Return a request to something in a namespace."""
    raw = msgspec.json.encode(body)
    return lambda space: exchange(space.access, method, space.path + path, body=raw)


PAIRS = [
    {"key": "a", "value": "1", "metadata": [1], "expiration": LATER},
    {"key": "n", "value": ""},
]

WRITES: dict[str, Callable[[Namespace], Answer]] = {
    "put": lambda space: space.put("a", b"new", expiration=LATER),
    "put of a form": lambda space: put_form(space, "a", ("metadata", b"[1]"), ("value", b"new")),
    "delete": lambda space: exchange(space.access, "DELETE", space.at("a")),
    "delete of a missing key": lambda space: exchange(space.access, "DELETE", space.at("x")),
    "bulk put": sending("PUT", "/bulk", PAIRS),
    "bulk delete": sending("POST", "/bulk/delete", ["a", "x"]),
    "bulk delete, the older": sending("DELETE", "/bulk", ["a", "x"]),
    "rename": sending("PUT", "", {"title": "renamed"}),
}


def state(namespace: Namespace) -> object:
    """Return everything that a namespace holds, and its title."""
    rows = namespace.rows()
    titles = {space.id: space.title for space in spaces(namespace.access)}
    return titles[namespace.id], rows, [namespace.value(row.name) for row in rows]


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_write_that_comes_twice_is_the_same_as_once(
    access: Access, numbers: Iterator[int], write: Callable[[Namespace], Answer]
) -> None:
    """A client that lost the answer sends again, is answered alike, and has changed nothing."""
    namespace = create(access, f"twice-{next(numbers)}")
    namespace.bulk([{"key": key, "value": key, "metadata": {"k": key}} for key in "abc"])
    before = state(namespace)

    first = write(namespace)
    once = state(namespace)
    second = write(namespace)
    twice = state(namespace)
    exchange(access, "DELETE", namespace.path)

    assert first.status == second.status == 200
    assert first.envelope == second.envelope
    assert twice == once
    assert (once != before) or write is WRITES["delete of a missing key"]


def test_making_or_deleting_a_namespace_twice(access: Access, numbers: Iterator[int]) -> None:
    """The second time says that it was done, and the first stands."""
    title = f"once-{next(numbers)}"
    namespace = create(access, title)
    body = msgspec.json.encode({"title": title})

    made_again = exchange(access, "POST", access.namespaces, body=body)
    after_making = [space.id for space in spaces(access) if space.title == title]
    deleted = exchange(access, "DELETE", namespace.path)
    deleted_again = exchange(access, "DELETE", namespace.path)

    assert (made_again.status, made_again.code) == (400, 10014)
    assert after_making == [namespace.id]
    assert deleted.status == 200
    assert (deleted_again.status, deleted_again.code) == (404, 10013)
    assert title not in {space.title for space in spaces(access)}
