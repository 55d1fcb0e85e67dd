"""Cloudflare's SDK 5 manages namespaces and lists what there is."""

from collections.abc import Iterator

import pytest
from cloudflare import AsyncCloudflare

from tests.clients.crowd import CROWDS, Crowd, title
from tests.clients.plain import Access, Namespace, titles
from tests.clients.sdk import connect_to, place


async def test_a_namespace_from_its_making_to_its_end(
    sdk: AsyncCloudflare, access: Access, numbers: Iterator[int]
) -> None:
    """Create, get, rename and delete all answer with what the SDK expects."""
    name = f"sdk-{next(numbers)}"
    account = access.account_id
    namespaces = sdk.kv.namespaces

    made = await namespaces.create(account_id=account, title=name)
    assert made is not None
    got = await namespaces.get(made.id, account_id=account)
    renamed = await namespaces.update(made.id, account_id=account, title=f"{name}-b")
    after_rename = titles(access)
    await namespaces.delete(made.id, account_id=account)

    assert got == made
    assert made.supports_url_encoding is True
    assert (renamed.id, renamed.title) == (made.id, f"{name}-b")
    assert after_rename[f"{name}-b"] == made.id
    assert name not in after_rename
    assert made.id not in titles(access).values()


async def test_a_jurisdiction_is_no_fault(
    sdk: AsyncCloudflare, access: Access, numbers: Iterator[int]
) -> None:
    """There is one centre, wherever it stands: what asks for a region gets a namespace."""
    name = f"there-{next(numbers)}"

    made = await sdk.kv.namespaces.create(
        account_id=access.account_id, title=name, jurisdiction="eu"
    )

    assert made is not None
    assert made.jurisdiction is None
    assert titles(access)[name] == made.id


@pytest.mark.parametrize("size", CROWDS)
@pytest.mark.parametrize("per_page", [None, 100])
async def test_listing_namespaces_is_complete_and_ends(
    sdk_kind: str, crowd: Crowd, size: int, per_page: int | None
) -> None:
    """The SDK asks for pages until one is empty, of twenty rows unless told otherwise."""
    access = crowd(size)
    client = connect_to(sdk_kind, access)
    listing = (
        client.kv.namespaces.list(account_id=access.account_id)
        if per_page is None
        else client.kv.namespaces.list(
            account_id=access.account_id, per_page=per_page, order="title", direction="desc"
        )
    )

    found = [space.title async for space in listing]
    await client.close()

    everything = [title(number) for number in range(size)]
    assert sorted(found) == everything
    if per_page is not None:
        assert found == everything[::-1]


async def test_a_page_of_namespaces_says_how_many_there_are(sdk_kind: str, crowd: Crowd) -> None:
    """Programs that show pages read the total from any of them."""
    access = crowd(101)
    client = connect_to(sdk_kind, access)

    page = await client.kv.namespaces.list(account_id=access.account_id, page=6)
    await client.close()

    assert len(page.result) == 1
    assert page.result_info is not None
    assert (page.result_info.page, page.result_info.per_page) == (6, 20)


@pytest.mark.parametrize("limit", [None, 1_000.0, 10.0])
async def test_listing_keys_is_complete_and_ends(
    sdk: AsyncCloudflare, namespace: Namespace, limit: float | None
) -> None:
    """Every key once, in the order of their bytes, whatever the length of a page."""
    count = 2_500 if limit != 10.0 else 95
    keys = [f"{'é' if n % 2 else 'z'}{n}" for n in range(count)]
    namespace.bulk([{"key": key, "value": "", "metadata": {"k": key}} for key in keys])
    here = place(namespace)
    listing = (
        sdk.kv.namespaces.keys.list(**here)
        if limit is None
        else sdk.kv.namespaces.keys.list(**here, limit=limit)
    )

    rows = [row async for row in listing]

    assert [row.name for row in rows] == sorted(keys, key=str.encode)
    assert all(row.metadata == {"k": row.name} for row in rows)
    assert all(row.expiration is None for row in rows)


@pytest.mark.parametrize("prefix", ["a b", "a+b", "a&b=", "a/b/", "ключ✓", "%2F"])
async def test_listing_keys_of_a_prefix(
    sdk: AsyncCloudflare, namespace: Namespace, prefix: str
) -> None:
    """A prefix means what it says, whatever it needs on its way."""
    others = ["a", "aXb", "a%20b", "ключ", "/", "z"]
    ours = [f"{prefix}{n}" for n in range(25)]
    namespace.bulk([{"key": key, "value": "v"} for key in others + ours])

    listing = sdk.kv.namespaces.keys.list(**place(namespace), prefix=prefix, limit=10)
    found = [row.name async for row in listing]

    assert found == sorted(ours)


async def test_listing_an_empty_namespace(sdk: AsyncCloudflare, namespace: Namespace) -> None:
    """No keys, no error, and an end."""
    assert [row async for row in sdk.kv.namespaces.keys.list(**place(namespace))] == []
