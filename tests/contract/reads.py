"""The sentences about reading and listing."""

import asyncio

import pytest

from atoll.core.model import (
    VALUE_INLINE_BYTES_MAX,
    Entry,
    Include,
    Listed,
    ListQuery,
)
from atoll.core.version import NO_VERSION
from atoll.store.protocol import Store
from tests.contract.tools import (
    LAST,
    NOW_S,
    NOW_US,
    NS,
    OTHER,
    Writer,
    delete,
    keys_of,
    listed,
    order,
    put,
    read,
    value_of,
)


class ReadsContract:
    """What a store promises to who reads."""

    async def test_an_empty_store_holds_nothing_at_position_zero(self, store: Store) -> None:
        """Absence is an answer, and its position is the beginning of the log."""
        found = await store.get(NS, ["k"])

        assert found.entries[0] is None
        assert found.position == store.position
        assert store.position.sequence == 0
        assert store.last_version == NO_VERSION

    async def test_entries_come_in_the_order_asked(self, store: Store, write: Writer) -> None:
        """Unknown, dead and repeated keys keep their places."""
        await write(put("a"), put("b", expiration=NOW_S - 5), delete("c"))

        entries = (await store.get(NS, ["c", "x", "b", "a", "b"])).entries

        assert [entry and entry.key for entry in entries] == ["c", None, "b", "a", "b"]
        assert entries[0] is not None
        assert entries[0].value is None
        assert entries[2] == entries[4]
        assert await value_of(entries[2]) == b"v"

    async def test_a_position_is_that_of_what_was_read(self, store: Store, write: Writer) -> None:
        """Also while commits land: where every write is to one key, it stands at its entry."""
        await write(put("k"))
        writing = asyncio.create_task(self.rewrite(write, 300))
        reads = 0
        while not writing.done():
            for keys in (["k"], ["k", "k", "x"]):
                found = await store.get(NS, keys)
                entry = found.entries[0]
                assert entry is not None
                assert entry.sequence == found.position.sequence
                reads += 1
            page = await store.scan(ListQuery(namespace=NS), now_us=NOW_US)
            assert page.items[0].version >> 10 == 999_999 + page.position.sequence
            await asyncio.sleep(0)  # noqa: TID251 - one step of the writer
        await writing
        assert reads > 50

    async def rewrite(self, write: Writer, times: int) -> None:
        """Write one key again and again."""
        for _ in range(times):
            await write(put("k"))
            await asyncio.sleep(0)  # noqa: TID251 - one step of the reader

    async def test_an_entry_is_what_was_written(self, store: Store, write: Writer) -> None:
        """Value, metadata, expiration, version and place in the log come back."""
        written = await write(put("k", b"\x00\xff", metadata=b'{"a":1}', expiration=NOW_S + 60))

        assert await read(store, "k") == Entry(
            key="k",
            version=written.outcomes[0].version,
            value=b"\x00\xff",
            metadata=b'{"a":1}',
            expiration=NOW_S + 60,
            sequence=written.position.sequence,
        )

    @pytest.mark.parametrize("key", ["\0", "a\0b", "é", "\U0010ffff", "x" * 512, "%2F/?#", " "])
    async def test_any_text_is_a_key(self, store: Store, write: Writer, key: str) -> None:
        """Keys are told apart byte by byte, a NUL included."""
        await write(put(key, b"mine"), put(key + "\0", b"other"))

        assert await value_of(await read(store, key)) == b"mine"
        assert await keys_of(listed(store, prefix=key)) == [key, key + "\0"]

    async def test_namespaces_are_apart(self, store: Store, write: Writer) -> None:
        """The same key in two namespaces is two keys."""
        await write(put("k", b"1"))
        await write(put("k", b"2"), namespace=OTHER)
        await write(delete("k"))

        assert await value_of(await read(store, "k")) is None
        assert await value_of(await read(store, "k", namespace=OTHER)) == b"2"

    @pytest.mark.parametrize("metadata", [None, b"1", b'"' + b"m" * 600 + b'"'])
    @pytest.mark.parametrize(
        "size_bytes", [0, 1, 500, 513, 16_384, 16_385, 2**20, 2**20 + 1, 3 * 2**20 + 5]
    )
    async def test_values_of_any_size_come_back(
        self, store: Store, write: Writer, size_bytes: int, metadata: bytes | None
    ) -> None:
        """Up to a mebibyte one key's value comes as bytes; no piece of any is larger."""
        value = bytes(range(256)) * (size_bytes // 256) + b"z" * (size_bytes % 256)
        await write(put("k", value, metadata=metadata))

        entry = await read(store, "k")

        assert entry is not None
        assert entry.metadata == metadata
        assert await value_of(entry) == value
        if size_bytes <= VALUE_INLINE_BYTES_MAX:
            assert isinstance(entry.value, bytes)
        elif entry.value is not None and not isinstance(entry.value, bytes):
            assert entry.value.size_bytes == size_bytes
            pieces = [len(piece) async for piece in entry.value.chunks()]
            assert max(pieces) <= VALUE_INLINE_BYTES_MAX

    async def test_a_large_value_is_readable_for_as_long_as_it_is_held(
        self, store: Store, write: Writer
    ) -> None:
        """Overwriting, deleting and sweeping take nothing from who is reading."""
        large = b"x" * (2 * VALUE_INLINE_BYTES_MAX + 1)
        await write(put("k", large))
        held = await read(store, "k")
        await write(put("k", b"small"))
        await write(delete("k"))
        for _ in range(3):
            await store.sweep(order(tombstones_below=LAST))

        assert await value_of(held) == large
        assert await read(store, "k") is None

    async def test_many_large_values_in_one_read_all_come_back(
        self, store: Store, write: Writer
    ) -> None:
        """However they are handed around, they are what was written."""
        values = [bytes([i]) * 400_000 for i in range(8)]
        await write(*(put(f"k{i}", value) for i, value in enumerate(values)))

        entries = (await store.get(NS, [f"k{i}" for i in range(8)])).entries

        assert [await value_of(entry) for entry in entries] == values

    async def test_keys_are_listed_in_the_order_of_their_bytes(
        self, store: Store, write: Writer
    ) -> None:
        """UTF-8 order, in which what UTF-16 writes with surrogates comes last."""
        keys = ["\U00010000", "\uffff", "b", "a\0", "a", "é", "B", "a\0a", "\x7f", "\x80"]
        await write(*(put(key) for key in keys))

        assert await keys_of(listed(store)) == sorted(keys, key=str.encode)

    @pytest.mark.parametrize("limit", [1, 2, 3, 5, 6, 7, 1000])
    async def test_pages_hold_every_key_once(self, store: Store, write: Writer, limit: int) -> None:
        """Nothing is left out or told twice where one page ends and the next begins."""
        keys = ["a", "aa", "ab", "b", "ba", "c"]
        await write(*(put(key) for key in keys))

        pages = [page async for page in listed(store, limit=limit)]

        assert [item.key for page in pages for item in page.items] == keys
        assert all(page.count == len(page.items) for page in pages)
        assert all(page.count == limit for page in pages[:-1])
        assert len(pages) == -(-len(keys) // limit)
        assert {page.position for page in pages} == {store.position}

    async def test_a_prefix_bounds_a_listing(self, store: Store, write: Writer) -> None:
        """Keys that begin with it, the prefix itself included, and no others."""
        keys = ["a", "ab", "ab\0", "abc", "ab\U0010ffff", "ac", "b", "é", "éa", "ê"]
        await write(*(put(key) for key in keys))

        for prefix in ["a", "ab", "abc", "b", "é", "x", "ab\U0010ffff"]:
            wanted = [key for key in keys if key.startswith(prefix)]
            found = await keys_of(listed(store, prefix=prefix, limit=2))
            assert found == sorted(wanted, key=str.encode)

    async def test_a_listing_may_start_behind_any_key(self, store: Store, write: Writer) -> None:
        """One that is not there, or that stands before or behind the prefix."""
        await write(*(put(key) for key in ["a", "pa", "pb", "pc", "q"]))

        async def behind(after: str) -> list[str]:
            """Return the names listed behind a key."""
            query = ListQuery(namespace=NS, prefix="p", after=after)
            return [item.key for item in (await store.scan(query, now_us=NOW_US)).items]

        assert await behind("pb") == ["pc"]
        assert await behind("pab") == ["pb", "pc"]
        assert await behind("a") == ["pa", "pb", "pc"]
        assert await behind("p") == ["pa", "pb", "pc"]
        assert await behind("q") == []

    async def test_what_is_dead_is_not_listed(self, store: Store, write: Writer) -> None:
        """Deleted, expired, or expired at this very second, swept or not."""
        await write(
            put("a"),
            put("b", expiration=NOW_S - 1),
            put("c", expiration=NOW_S),
            put("d", expiration=NOW_S + 1),
            put("e"),
        )
        await write(delete("e"))

        assert await keys_of(listed(store)) == ["a", "d"]
        assert await keys_of(listed(store, now_s=NOW_S + 0.999)) == ["a", "d"]
        assert await keys_of(listed(store, now_s=NOW_S + 1)) == ["a"]
        await store.sweep(order())
        assert await keys_of(listed(store, limit=1)) == ["a", "d"]

    async def test_no_page_is_empty_with_more_behind_it(self, store: Store, write: Writer) -> None:
        """However many dead keys stand between two that live."""
        await write(*(put(f"k{i:04}", expiration=NOW_S) for i in range(3000)))
        await write(put("k0000"), put("k1500"), put("z"))

        pages = [page async for page in listed(store, limit=1)]

        assert [[item.key for item in page.items] for page in pages] == [
            ["k0000"],
            ["k1500"],
            ["z"],
        ]

    async def test_a_listing_describes_its_keys(self, store: Store, write: Writer) -> None:
        """Version, size, metadata and expiration, but no values."""
        written = await write(
            put("a", b"value", metadata=b'{"m":1}', expiration=NOW_S + 9),
            put("b", b"y" * 600, metadata=b"2"),
            put("c", b"z" * (VALUE_INLINE_BYTES_MAX + 1)),
        )
        page = await store.scan(ListQuery(namespace=NS), now_us=NOW_US)

        a, b, c = (outcome.version for outcome in written.outcomes)
        assert list(page.items) == [
            Listed(key="a", version=a, size_bytes=5, metadata=b'{"m":1}', expiration=NOW_S + 9),
            Listed(key="b", version=b, size_bytes=600, metadata=b"2"),
            Listed(key="c", version=c, size_bytes=VALUE_INLINE_BYTES_MAX + 1),
        ]

    async def test_values_are_listed_on_request(self, store: Store, write: Writer) -> None:
        """All but those that are handed around in pieces."""
        values = {
            "a": b"",
            "b": b"x" * 100,
            "c": b"y" * 20_000,
            "d": b"z" * VALUE_INLINE_BYTES_MAX,
            "e": b"-" * (VALUE_INLINE_BYTES_MAX + 1),
            "f": b"end",
        }
        await write(*(put(key, value, metadata=b"0") for key, value in values.items()))

        pages = [page async for page in listed(store, include=Include.VALUES)]

        found = {item.key: item.value for page in pages for item in page.items}
        assert found == values | {"e": None}
        assert all(item.metadata == b"0" for page in pages for item in page.items)

    async def test_a_page_ends_before_its_values_are_too_many(
        self, store: Store, write: Writer
    ) -> None:
        """One value at least is in a page, and a page may be filled to the byte."""
        await write(*(put(f"k{i}", b"x" * size) for i, size in enumerate([50, 50, 1, 200, 99, 2])))

        pages = listed(store, include=Include.VALUES, values_bytes_max=100)

        sizes = [[item.size_bytes for item in page.items] async for page in pages]
        assert sizes == [[50, 50], [1], [200], [99], [2]]

    async def test_long_listings_of_values_are_complete(self, store: Store, write: Writer) -> None:
        """Also beyond what is read in one go."""
        keys = [f"k{i:03}" for i in range(300)]
        await write(*(put(key, key.encode() * 3000) for key in keys))

        pages = [page async for page in listed(store, include=Include.VALUES, limit=130)]

        assert [page.count for page in pages] == [130, 130, 40]
        values = {item.key: item.value for page in pages for item in page.items}
        assert values == {key: key.encode() * 3000 for key in keys}

    async def test_counting_counts_what_listing_lists(self, store: Store, write: Writer) -> None:
        """Page by page, without the keys."""
        await write(*(put(f"k{i}") for i in range(7)), put("x"))
        await write(delete("k3"), put("k4", expiration=NOW_S))

        pages = [page async for page in listed(store, prefix="k", limit=2, include=Include.COUNT)]

        assert [(page.count, len(page.items)) for page in pages] == [(2, 0), (2, 0), (1, 0)]
        assert pages[0].position == store.position
