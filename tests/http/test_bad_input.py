"""Everything that a caller can get wrong is refused in the envelope, and changes nothing."""

from pathlib import Path

import pytest

from atoll.core.limits import PRESETS
from tests.http.site import BOUNDARY, Site, form, unchanged

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


@pytest.fixture
async def site(anyio_backend: str, tmp_path: Path) -> Site:
    """Return a site with one key."""
    assert anyio_backend == "asyncio"
    site = await Site.make(tmp_path)
    await site.put("kept", b"v")
    return site


# Keys.


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize(
    ("key", "refused"),
    [
        ("", (400, 10042)),
        (".", (400, 10042)),
        ("..", (400, 10042)),
        ("%2e", (400, 10042)),
        ("%2E%2e", (400, 10042)),
        (".%2e", (400, 10042)),
        ("k" * 513, (414, 10030)),
        ("%C3%A9" * 257, (414, 10030)),
        ("%00" * 513, (414, 10030)),
        ("100%", (400, 10042)),
        ("%", (400, 10042)),
        ("%2", (400, 10042)),
        ("%zz", (400, 10042)),
        ("%25%+1", (400, 10042)),
        ("%ff", (400, 10042)),
        ("%C3", (400, 10042)),
        ("%ED%A0%80", (400, 10042)),
        ("%C0%AF", (400, 10042)),
    ],
)
async def test_a_key_that_cannot_be(
    site: Site, method: str, key: str, refused: tuple[int, int]
) -> None:
    """Empty, dots, too long, broken escapes, not UTF-8: for every verb and for metadata."""
    reply = await site.ask(method, site.value(key), body=b"x")

    assert reply.refused == refused
    if method == "GET":
        assert (await site.ask("GET", site.metadata(key))).refused == refused
        assert (await site.ask("GET", f"{site.v1}/values/{key}")).status == refused[0]
    assert await unchanged(site)


async def test_dot_keys_of_wrangler_spare_the_namespace(site: Site) -> None:
    """`key delete ..` arrives as DELETE on the namespace with a slash behind it."""
    for method in ("GET", "PUT", "DELETE"):
        reply = await site.ask(method, f"{site.home}/", body=b'{"title":"x"}')
        assert reply.refused == (404, 7003)
    assert await unchanged(site)


# Values and metadata.


@pytest.mark.parametrize("announced", [True, False])
async def test_a_value_of_a_byte_too_many(tmp_path: Path, announced: bool) -> None:  # noqa: FBT001
    """The limit itself passes, announced or chunked, by itself and in a form."""
    site = await Site.make(tmp_path, limits=PRESETS["2019"])
    fits = b"x" * 2_000_000
    length = {"content-length": str(len(fits) + 1)} if announced else {}

    await site.put("kept", fits)
    reply = await site.ask("PUT", site.value("k"), body=[fits, b"x"], headers=length)
    in_form = await site.ask_form("PUT", site.value("k"), ('name="value"', fits + b"x"))
    in_v1 = await site.ask("PUT", f"{site.v1}/values/k", body=fits + b"x")

    assert reply.refused == in_form.refused == (413, 10024)
    assert reply.message == "put: 'Value length of 2000001 exceeds limit of 2000000.'"
    assert in_form.message == reply.message
    assert in_v1.code == (413, "value_too_large")
    assert await unchanged(site)


async def test_a_form_that_is_far_too_large(tmp_path: Path) -> None:
    """Announced or not, and whatever its parts are called."""
    site = await Site.make(tmp_path, limits=PRESETS["2019"])
    await site.put("kept", b"v")
    body = form(('name="other"', bytes(3_100_000)), ('name="value"', b"v"))

    for length in ({}, {"content-length": str(len(body))}):
        reply = await site.ask(
            "PUT",
            site.value("k"),
            body=[body[i : i + 65_536] for i in range(0, len(body), 65_536)],
            headers={**FORM, **length},
        )
        assert reply.refused == (413, 10024)
    assert await unchanged(site)


async def test_metadata_of_a_byte_too_many(site: Site) -> None:
    """It is measured compact: spaces do not count, and the limit itself passes."""

    async def put(key: str, metadata: bytes) -> tuple[int, int]:
        """Store metadata, and return what became of it."""
        path = site.value(key)
        reply = await site.ask_form(
            "PUT", path, ('name="value"', b"v"), ('name="metadata"', metadata)
        )
        return (200, 0) if reply.status == 200 else reply.refused

    assert await put("kept", b'{"a" :\n "' + b"x" * 1016 + b'"}') == (200, 0)
    assert await put("kept", b'"' + "é".encode() * 511 + b'"') == (200, 0)
    assert await put("kept", b'"' + b"\\u00e9" * 511 + b'"') == (200, 0)
    assert await put("k", b'{"a" : "' + b"x" * 1017 + b'"}') == (413, 10147)
    assert await put("k", b'"' + "é".encode() * 512 + b'"') == (413, 10147)
    assert await put("k", b'"' + b"x" * 10_000_000 + b'"') == (413, 10147)
    assert await unchanged(site)


@pytest.mark.parametrize(
    "metadata",
    [
        b"{",
        b"{'a':1}",
        b"nope",
        b"NaN",
        b"[Infinity]",
        b'"\xff"',
        b'"\\ud800"',
        b'{"a":1}}',
        b"[" * 1000 + b"]" * 1000 + b"[",
    ],
)
async def test_metadata_that_is_not_json(site: Site, metadata: bytes) -> None:
    """In a form, and in the header of `/v1`."""
    reply = await site.ask_form(
        "PUT", site.value("k"), ('name="value"', b"v"), ('name="metadata"', metadata)
    )
    in_v1 = await site.ask(
        "PUT", f"{site.v1}/values/k", headers={"atoll-metadata": metadata.decode("latin-1")}
    )

    assert reply.refused == (400, 10147)
    assert in_v1.code == (400, "metadata_invalid")
    assert await unchanged(site)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (form(('name="metadata"', b"1")), FORM),
        (form(), FORM),
        (b"", FORM),
        (b"no form at all", FORM),
        (form(('name="value"', b"v"))[:-6], FORM),
        (form(('name="value"', b"v"), ('name="value"', b"w")), FORM),
        (form(*[(f'name="{i}"', b"v") for i in range(100)]), FORM),
        (form(('name="value"', b"v")), {"content-type": "multipart/form-data"}),
        (form(('name="value"', b"v")), {"content-type": "multipart/form-data; boundary="}),
        (
            form(('name="value"', b"v")),
            {"content-type": f"multipart/form-data; boundary={'x' * 300}"},
        ),
    ],
)
async def test_a_form_that_is_none(site: Site, body: bytes, headers: dict[str, str]) -> None:
    """No value, no end, no boundary, twice the same part: nothing is stored."""
    reply = await site.ask("PUT", site.value("k"), body=body, headers=headers)

    assert reply.refused == (400, 20400)
    assert await unchanged(site)


# Expirations.


@pytest.mark.parametrize(
    ("query", "number"),
    [
        (f"expiration={NOW - 1}", 10033),
        (f"expiration={NOW}", 10033),
        (f"expiration={NOW + 59}", 10033),
        ("expiration=0", 10033),
        ("expiration=-5", 10033),
        ("expiration=soon", 10033),
        ("expiration=", 10033),
        ("expiration=1e10", 10033),
        ("expiration=nan", 10033),
        (f"expiration={NOW + 100}000", 10033),
        ("expiration_ttl=59", 10034),
        ("expiration_ttl=59.9", 10034),
        ("expiration_ttl=0", 10034),
        ("expiration_ttl=-60", 10034),
        ("expiration_ttl=a", 10034),
        ("expiration_ttl=", 10034),
        ("expiration_ttl=99999999999999", 10034),
        (f"expiration={NOW + 100}&expiration_ttl=59", 10034),
    ],
)
async def test_an_expiration_that_cannot_be(site: Site, query: str, number: int) -> None:
    """Past, too near, negative, no number; of both the TTL counts, right or wrong."""
    reply = await site.ask("PUT", f"{site.value('k')}?{query}", body=b"v")
    in_v1 = await site.ask("PUT", f"{site.v1}/values/k?{query}", body=b"v")

    assert reply.refused == (400, number)
    assert in_v1.status == 400
    assert await unchanged(site)


# Listings.


async def test_a_cursor_from_elsewhere(site: Site) -> None:
    """Forged, of another prefix, or of another namespace."""
    for i in range(11):
        await site.put(f"p{i}", b"")
    page = await site.ask("GET", f"{site.home}/keys?limit=10&prefix=p")
    cursor = page.json()["result_info"]["cursor"]
    other = await site.accounts.create_namespace(site.account.id, "other")

    for path in (
        f"{site.home}/keys?cursor=nonsense",
        f"{site.home}/keys?cursor=AAAAAAAAAAAAAAAA",
        f"{site.home}/keys?cursor={cursor}x&prefix=p",
        f"{site.home}/keys?cursor={cursor}",
        f"{site.home}/keys?cursor={cursor}&prefix=q",
        f"{site.namespaces}/{other.id}/keys?cursor={cursor}&prefix=p",
    ):
        assert (await site.ask("GET", path)).refused == (400, 10041)
    assert (await site.ask("GET", f"{site.home}/keys?cursor={cursor}&prefix=p")).status == 200


@pytest.mark.parametrize(
    "limit", ["9", "0", "-1", "1001", "10.5", "ten", "", "1e2", "٣٠", "99" * 9]
)
async def test_a_limit_out_of_range(site: Site, limit: str) -> None:
    """REST takes 10 to 1,000."""
    reply = await site.ask("GET", f"{site.home}/keys?limit={percent(limit)}")

    assert reply.refused == (400, 10028)


def percent(text: str) -> str:
    """Percent-encode everything."""
    return "".join(f"%{byte:02x}" for byte in text.encode())


async def test_a_prefix_that_no_key_has(site: Site) -> None:
    """Longer than any key, or no UTF-8."""
    for face in (site.home, site.v1):
        assert (await site.ask("GET", f"{face}/keys?prefix={'x' * 513}")).status == 414
        assert (await site.ask("GET", f"{face}/keys?prefix=%ff")).status == 400


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("page=0", 10007),
        ("page=x", 10007),
        ("page=-1", 10007),
        ("per_page=0", 10008),
        ("per_page=1001", 10008),
        ("order=size", 10043),
        ("direction=up", 10044),
    ],
)
async def test_a_page_of_namespaces_that_cannot_be(site: Site, query: str, number: int) -> None:
    """Each parameter has its number."""
    assert (await site.ask("GET", f"{site.namespaces}?{query}")).refused == (400, number)


# Namespaces.


@pytest.mark.parametrize(
    ("body", "number"),
    [
        (b"{}", 10019),
        (b'{"title":""}', 10019),
        (b'{"title":"  "}', 10019),
        (b'{"title":5}', 10019),
        (b'{"title":null}', 10019),
        (b'{"title":"' + b"x" * 513 + b'"}', 10019),
        (b"", 10010),
        (b"[]", 10010),
        (b'"x"', 10010),
        (b"title=x", 10010),
    ],
)
async def test_a_title_that_cannot_be(site: Site, body: bytes, number: int) -> None:
    """Missing, empty, too long, not in an object."""
    created = await site.ask("POST", site.namespaces, body=body)
    renamed = await site.ask("PUT", site.home, body=body)

    assert created.refused == renamed.refused == (400, number)
    assert await unchanged(site)


@pytest.mark.parametrize(
    ("namespace", "refused"),
    [
        ("f" * 32, (404, 10013)),
        ("0" * 32, (404, 10013)),
        ("f" * 31, (400, 10011)),
        ("F" * 32, (400, 10011)),
        ("g" * 32, (400, 10011)),
        ("%66" * 32, (400, 10011)),
        ("00000000-0000-0000-0000-000000000000", (400, 10011)),
    ],
)
async def test_a_namespace_that_is_not_there(
    site: Site, namespace: str, refused: tuple[int, int]
) -> None:
    """Unknown, or no id at all; the system namespace is not there either."""
    home = f"{site.namespaces}/{namespace}"
    for method, path, body in (
        ("GET", "/keys", b""),
        ("GET", "/values/k", b""),
        ("PUT", "/values/k", b"v"),
        ("PUT", "/bulk", b"[]"),
        ("GET", "", b""),
        ("PUT", "", b'{"title":"x"}'),
        ("DELETE", "", b""),
    ):
        assert (await site.ask(method, home + path, body=body)).refused == refused
    in_v1 = await site.ask("GET", f"/v1/namespaces/{namespace}/keys")
    assert in_v1.status == refused[0]
    assert await unchanged(site)


# Routes, methods, content types, headers.


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nope",
        "//",
        "/client/v4",
        "/client/v4/",
        "/client/v4/nope",
        "/client/v4/accounts/",
        "/client/v4/user/",
        "/client/v4//accounts",
        "{account}/",
        "{account}/nope",
        "{account}/tokens/",
        "{account}/tokens/a/b",
        "{account}/storage/kv",
        "{account}/storage/kv/namespaces/",
        "{home}/",
        "{home}//keys",
        "{home}/keys/",
        "{home}/keys/x",
        "{home}/values",
        "{home}/metadata",
        "{home}/bulk/",
        "{home}/bulk/nope",
        "{home}/nope",
        "/Client/v4/accounts",
        "/client/%76%34/accounts",
    ],
)
async def test_a_path_that_leads_nowhere(site: Site, path: str) -> None:
    """404 in the envelope for every method; slashes are neither added nor removed."""
    account = f"/client/v4/accounts/{site.account.id}"
    for method in ("GET", "PUT", "POST", "DELETE", "PATCH"):
        reply = await site.ask(method, path.format(account=account, home=site.home), body=b"{}")
        assert reply.refused == (404, 7003)
    assert await unchanged(site)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("{home}/values/k", "GET, HEAD, PUT, DELETE"),
        ("{home}/metadata/k", "GET, HEAD"),
        ("{home}/keys", "GET, HEAD"),
        ("{home}/bulk", "PUT, DELETE"),
        ("{home}/bulk/delete", "POST"),
        ("{home}/bulk/get", "POST"),
        ("{home}", "GET, HEAD, PUT, DELETE"),
        ("/client/v4/accounts", "GET, HEAD, POST"),
        ("/healthz", "GET, HEAD"),
    ],
)
async def test_a_wrong_method(site: Site, path: str, allowed: str) -> None:
    """405 in the envelope, with what is allowed; OPTIONS and TRACE included."""
    for method in ("GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"):
        if method not in allowed.split(", "):
            reply = await site.ask(method, path.format(home=site.home), body=b"x")
            assert reply.refused == (405, 10405)
            assert reply.headers["allow"] == allowed
    assert await unchanged(site)


async def test_a_wrong_content_type(site: Site) -> None:
    """A form where JSON belongs is not JSON, whatever it holds."""
    for method, path in (("PUT", f"{site.home}/bulk"), ("POST", site.namespaces)):
        reply = await site.ask_form(method, path, ('name="value"', b"[]"))
        assert reply.status == 400
        assert reply.json()["success"] is False
    assert await unchanged(site)


@pytest.mark.parametrize(
    "headers",
    [
        {"if-match": "5"},
        {"if-match": '"x"'},
        {"if-match": '"5", "6"'},
        {"if-match": 'W/"5"'},
        {"if-match": '"0"'},
        {"if-match": '"' + "9" * 19 + '"'},
        {"if-none-match": '"5"'},
        {"if-match": "*", "if-none-match": "*"},
        {"idempotency-key": ""},
        {"idempotency-key": "x" * 256},
    ],
)
async def test_a_header_that_makes_no_sense(site: Site, headers: dict[str, str]) -> None:
    """A condition that cannot be understood must not be ignored."""
    for method in ("PUT", "DELETE"):
        reply = await site.ask(method, site.value("kept"), body=b"w", headers=headers)
        assert reply.refused == (400, 20400)
        in_v1 = await site.ask(method, f"{site.v1}/values/kept", body=b"w", headers=headers)
        assert in_v1.status == 400
    assert await site.get("kept") == b"v"


@pytest.mark.parametrize("position", ["", "5", "0000000000000007-", "0000000000000007--1", "é"])
async def test_a_position_that_is_none(site: Site, position: str) -> None:
    """On values, lists and bulk reads."""
    headers = {"atoll-at-least": position.encode().decode("latin-1")}
    for path in (site.value("kept"), f"{site.home}/keys"):
        assert (await site.ask("GET", path, headers=headers)).refused == (400, 20400)


@pytest.mark.parametrize("query", ["prefix=%ff", "&".join(f"a{i}=1" for i in range(65))])
async def test_a_query_that_is_none(site: Site, query: str) -> None:
    """Not UTF-8, or endless."""
    assert (await site.ask("GET", f"{site.home}/keys?{query}")).refused == (400, 20400)


async def test_a_body_that_ends_early(site: Site) -> None:
    """There is nobody to answer, and nothing is stored."""
    pairs = b'[{"key":"k","value":"v"}]'
    for method, path, body in (
        ("PUT", site.value("k"), b"half of a val"),
        ("PUT", f"{site.home}/bulk", pairs),
        ("PUT", f"{site.v1}/values/k", b"half"),
        ("POST", site.namespaces, b'{"title":"x"}'),
        ("POST", f"{site.v1}/delete", b'{"prefix":""}'),
    ):
        reply = await site.ask(method, path, body=body, cut=True)
        assert reply.status == 0
    whole = form(('name="value"', b"v"))
    reply = await site.ask("PUT", site.value("k"), body=whole, headers=FORM, cut=True)
    assert reply.status == 0
    assert await unchanged(site)
