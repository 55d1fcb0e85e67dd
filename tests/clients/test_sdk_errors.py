"""Cloudflare's SDK 5 raises the error that a program expects, and tries again where that helps."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import cloudflare
import msgspec
import pytest
from cloudflare import AsyncCloudflare
from cloudflare.types.kv.namespace_bulk_update_params import Body

from tests.clients.plain import Access, Namespace, create, succeed, titles
from tests.clients.sdk import Place, connect, connect_to, place

UNKNOWN = "0" * 32

Call = Callable[[AsyncCloudflare, Place], Awaitable[object]]


def bulk(*pairs: Body) -> Call:
    """Return a bulk write of `pairs`."""
    return lambda sdk, here: sdk.kv.namespaces.bulk_update(**here, body=pairs)


def bulk_get(*keys: str) -> Call:
    """Return a bulk read of `keys`."""
    return lambda sdk, here: sdk.kv.namespaces.bulk_get(**here, keys=keys)


REFUSALS: dict[str, tuple[Call, type[cloudflare.APIStatusError], int]] = {
    "get of a missing key": (
        lambda sdk, here: sdk.kv.namespaces.values.get("missing", **here),
        cloudflare.NotFoundError,
        10009,
    ),
    "put in an unknown namespace": (
        lambda sdk, here: sdk.kv.namespaces.values.update(
            "k", account_id=here["account_id"], namespace_id=UNKNOWN, value=b"v"
        ),
        cloudflare.NotFoundError,
        10013,
    ),
    "get of an unknown namespace": (
        lambda sdk, here: sdk.kv.namespaces.get(UNKNOWN, account_id=here["account_id"]),
        cloudflare.NotFoundError,
        10013,
    ),
    "listing of no namespace id": (
        lambda sdk, here: sdk.kv.namespaces.keys.list(
            account_id=here["account_id"], namespace_id="no-id"
        ),
        cloudflare.BadRequestError,
        10011,
    ),
    "create without a title": (
        lambda sdk, here: sdk.kv.namespaces.create(account_id=here["account_id"], title=""),
        cloudflare.BadRequestError,
        10019,
    ),
    "expiration in the past": (
        lambda sdk, here: sdk.kv.namespaces.values.update("k", **here, value=b"v", expiration=1.5),
        cloudflare.BadRequestError,
        10033,
    ),
    "time to live too short": (
        lambda sdk, here: sdk.kv.namespaces.values.update(
            "k", **here, value=b"v", expiration_ttl=59.0
        ),
        cloudflare.BadRequestError,
        10034,
    ),
    "metadata that is no JSON": (
        lambda sdk, here: sdk.kv.namespaces.values.update("k", **here, value=b"v", metadata="{"),
        cloudflare.BadRequestError,
        10147,
    ),
    "bulk with a bad pair": (
        bulk({"key": "good", "value": "v"}, {"key": "..", "value": "v"}),
        cloudflare.BadRequestError,
        10012,
    ),
    "bulk get of nothing": (bulk_get(), cloudflare.BadRequestError, 10029),
    "bulk get of 101 keys": (
        bulk_get(*(f"k{n}" for n in range(101))),
        cloudflare.BadRequestError,
        10029,
    ),
    "cursor from elsewhere": (
        lambda sdk, here: sdk.kv.namespaces.keys.list(**here, cursor="elsewhere"),
        cloudflare.BadRequestError,
        10041,
    ),
    "page below the least": (
        lambda sdk, here: sdk.kv.namespaces.keys.list(**here, limit=9.0),
        cloudflare.BadRequestError,
        10028,
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
async def test_a_refusal_has_its_class_and_number(
    sdk: AsyncCloudflare, namespace: Namespace, case: str
) -> None:
    """Programs branch on both, and nothing was stored."""
    call, kind, code = REFUSALS[case]

    with pytest.raises(kind) as caught:
        await call(sdk, place(namespace))

    assert [error.code for error in caught.value.errors] == [code]
    assert namespace.names() == []


async def test_a_title_is_taken_only_once(
    sdk: AsyncCloudflare, access: Access, numbers: Iterator[int]
) -> None:
    """Neither making nor renaming a namespace takes another's title."""
    taken = f"taken-{next(numbers)}"
    create(access, taken)
    other = create(access, f"{taken}-not")
    account = access.account_id

    with pytest.raises(cloudflare.BadRequestError) as making:
        await sdk.kv.namespaces.create(account_id=account, title=taken)
    with pytest.raises(cloudflare.BadRequestError) as renaming:
        await sdk.kv.namespaces.update(other.id, account_id=account, title=taken)

    assert making.value.errors[0].code == renaming.value.errors[0].code == 10014
    assert titles(access)[f"{taken}-not"] == other.id


async def test_a_value_too_large_is_refused(sdk: AsyncCloudflare, namespace: Namespace) -> None:
    """The SDK has sent all of the form, and still sees the answer."""
    with pytest.raises(cloudflare.APIStatusError) as caught:
        await sdk.kv.namespaces.values.update(
            "k", **place(namespace), value=bytes(25 * 2**20 + 1), metadata={"a": 1}
        )

    assert (caught.value.status_code, caught.value.errors[0].code) == (413, 10024)
    assert namespace.names() == []


@pytest.mark.parametrize("key", ["", ".", ".."])
async def test_what_is_no_key_never_leaves_the_client(
    sdk: AsyncCloudflare, namespace: Namespace, key: str
) -> None:
    """The SDK knows these by itself."""
    with pytest.raises(ValueError, match=r"key_name|dot"):
        await sdk.kv.namespaces.values.delete(key, **place(namespace))


async def test_text_is_no_value(sdk: AsyncCloudflare, namespace: Namespace) -> None:
    """The hints allow a string and the SDK refuses it; nothing was sent."""
    with pytest.raises(RuntimeError, match="bytes"):
        await sdk.kv.namespaces.values.update("k", **place(namespace), value="text")

    assert namespace.names() == []


# Who may call.

Credentials = Callable[[Access], dict[str, str]]


async def names(kind: str, namespace: Namespace, **credentials: str) -> list[str]:
    """List the keys of a namespace with the credentials given."""
    client = connect(kind, namespace.access.api, **credentials, max_retries=0)
    try:
        page = await client.kv.namespaces.keys.list(**place(namespace))
    finally:
        await client.close()
    return [row.name for row in page.result]


async def test_email_and_key_are_credentials_too(sdk_kind: str, namespace: Namespace) -> None:
    """The older form works as the token does."""
    namespace.put("k", b"v")
    access = namespace.access

    found = await names(sdk_kind, namespace, api_email=access.email, api_key=access.key)

    assert found == ["k"]


WRONG: dict[str, Credentials] = {
    "token": lambda _: {"api_token": "no-such-token"},
    "key": lambda access: {"api_email": access.email, "api_key": "no-such-key"},
    "email": lambda access: {"api_email": "nobody@example.com", "api_key": access.key},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
async def test_wrong_credentials_are_refused(
    sdk_kind: str, namespace: Namespace, wrong: Credentials
) -> None:
    """Whatever is wrong with them, and without telling what."""
    with pytest.raises(cloudflare.AuthenticationError) as caught:
        await names(sdk_kind, namespace, **wrong(namespace.access))

    assert [(error.code, error.message) for error in caught.value.errors] == [
        (10000, "Authentication error")
    ]


async def test_a_stray_email_is_explained(sdk_kind: str, namespace: Namespace) -> None:
    """With an email and a token the SDK sends the email alone: the answer says what is missing."""
    access = namespace.access

    with pytest.raises(cloudflare.AuthenticationError, match="X-Auth-Key"):
        await names(sdk_kind, namespace, api_email=access.email, api_token=access.token)


class _Token(msgspec.Struct):
    value: str


async def test_a_token_that_may_only_read(sdk_kind: str, namespace: Namespace) -> None:
    """It reads, and is refused when it writes."""
    namespace.put("k", b"v")
    access = namespace.access
    body = msgspec.json.encode({"name": "reader", "permission": "read"})
    made = succeed(access, "POST", f"/accounts/{access.account_id}/tokens", body=body)
    token = msgspec.convert(made.result, _Token).value
    client = connect(sdk_kind, access.api, api_token=token)
    values = client.kv.namespaces.values

    got = await (await values.get("k", **place(namespace))).read()
    with pytest.raises(cloudflare.PermissionDeniedError) as caught:
        await values.update("k", **place(namespace), value=b"changed")
    await client.close()

    assert got == namespace.value("k") == b"v"
    assert caught.value.errors[0].code == 10000


# Once a second to the same key, over REST too, as it was in 2019.


@pytest.fixture
async def sdk_2019(sdk_kind: str, access_2019: Access) -> AsyncIterator[AsyncCloudflare]:
    """Return each of the SDK's clients in turn, calling an Atoll with the limits of 2019."""
    client = connect_to(sdk_kind, access_2019)
    yield client
    await client.close()


async def test_a_write_that_comes_too_soon_is_tried_again(
    sdk_2019: AsyncCloudflare, access_2019: Access, numbers: Iterator[int]
) -> None:
    """The SDK waits as long as it is told to, repeats the write, and succeeds."""
    namespace = create(access_2019, f"soon-{next(numbers)}")
    namespace.put("k", b"first")

    raw = await sdk_2019.kv.namespaces.values.with_raw_response.update(
        "k", **place(namespace), value=b"second", metadata={"n": 2}
    )

    assert raw.retries_taken == 1
    assert namespace.value("k") == b"second"
    assert namespace.metadata("k") == {"n": 2}


async def test_without_retries_the_refusal_is_an_error(
    sdk_kind: str, access_2019: Access, numbers: Iterator[int]
) -> None:
    """A program that does not want to wait is told how long it would have to."""
    namespace = create(access_2019, f"soon-{next(numbers)}")
    client = connect_to(sdk_kind, access_2019, max_retries=0)
    namespace.put("k", b"first")

    with pytest.raises(cloudflare.RateLimitError) as caught:
        await client.kv.namespaces.values.update("k", **place(namespace), value=b"second")
    await client.close()

    assert caught.value.errors[0].code == 10022
    assert caught.value.response.headers["retry-after"] == "1"
    assert namespace.value("k") == b"first"
