"""`/v1`: versions, positions and ages on every answer, and what REST v4 has no words for."""

import json
from pathlib import Path

import pytest

from atoll.core.limits import Limits
from atoll.core.model import Batch, Mutation, Read, Reading, Written
from atoll.http.cache_control import freshness
from atoll.http.metadata import header_form
from atoll.upstream import Upstream
from tests.http.site import Site

pytestmark = pytest.mark.anyio


async def put(site: Site, key: str, value: bytes, query: str = "", **headers: str) -> str:
    """Store a value by `/v1` and return its ETag. A second passes: so may one key be rewritten."""
    site.clock.advance(1)
    reply = await site.ask("PUT", f"{site.v1}/values/{key}{query}", body=value, headers=headers)
    assert reply.status == 200, reply.body
    return reply.headers["etag"]


async def test_a_write_answers_with_version_and_position(site: Site) -> None:
    """In the body as text, and in the headers."""
    reply = await site.ask("PUT", f"{site.v1}/values/a%2Fb", body=b"v")
    site.clock.advance(1)
    deleted = await site.ask("DELETE", f"{site.v1}/values/a/b")

    for answer in (reply, deleted):
        body = answer.json()
        assert body["key"] == "a/b"
        assert answer.headers["etag"] == f'"{body["version"]}"'
        assert answer.headers["atoll-position"] == body["position"]
    assert int(deleted.json()["version"]) > int(reply.json()["version"])


async def test_a_read_says_everything_in_headers(site: Site) -> None:
    """Version, position, age, where it came from, metadata and expiration."""
    etag = await put(
        site, "k", b"\x00v", "?expiration_ttl=60", **{"atoll-metadata": '{"a": "\\u00e9"}'}
    )

    got = await site.ask("GET", f"{site.v1}/values/k")

    assert (got.status, got.body) == (200, b"\x00v")
    assert got.headers["etag"] == etag
    assert got.headers["age"] == "0"
    assert got.headers["cache-status"] == "central; hit; detail=store"
    assert got.headers["atoll-metadata"] == '{"a":"\\u00e9"}'
    assert got.headers["atoll-expiration"] == str(int(site.clock.now_s) + 60)
    assert got.headers["content-type"] == "application/octet-stream"
    assert "atoll-position" in got.headers


async def test_a_missing_key_has_a_position_too(site: Site) -> None:
    """That something is missing is knowledge like any other."""
    got = await site.ask("GET", f"{site.v1}/values/k")

    assert got.code == (404, "key_not_found")
    assert got.headers["age"] == "0"
    assert "atoll-position" in got.headers
    assert "etag" not in got.headers


@pytest.mark.parametrize("metadata", ['{"a":1}', "[1,  2]", '"é"', '"\x7f"', "null", ""])
async def test_metadata_comes_by_header_in_utf8_or_ascii(site: Site, metadata: str) -> None:
    """What REST stores with a form is the same."""
    await put(site, "k", b"v", **{"atoll-metadata": metadata.encode().decode("latin-1")})

    got = await site.ask("GET", f"{site.v1}/values/k")

    stored = json.loads(metadata or "null")
    assert (await site.ask("GET", site.metadata("k"))).result == stored
    shown = got.headers.get("atoll-metadata")
    assert (None if shown is None else json.loads(shown)) == stored
    assert shown is None or (shown.isascii() and shown.isprintable())


def test_header_metadata_is_the_same_json() -> None:
    """Characters that headers cannot carry are escaped, the others left alone."""
    assert header_form('{"é":"\x7f𐀀"}'.encode()) == b'{"\\u00e9":"\\u007f\\ud800\\udc00"}'
    assert header_form(b'{"a":1.50}') == b'{"a":1.50}'


async def test_a_form_works_here_too(site: Site) -> None:
    """The same parts as in REST."""
    reply = await site.ask_form(
        "PUT", f"{site.v1}/values/k", ('name="metadata"', b"[1]"), ('name="value"', b"v")
    )

    assert reply.status == 200
    assert await site.get("k") == b"v"
    assert (await site.ask("GET", site.metadata("k"))).result == [1]


@pytest.mark.parametrize("form", ["{etag}", "W/{etag}", '"1", {etag}', "*"])
async def test_a_caller_that_holds_the_version_is_told_so(site: Site, form: str) -> None:
    """304 has no body; another version has one."""
    etag = await put(site, "k", b"v")

    same = await site.ask(
        "GET", f"{site.v1}/values/k", headers={"if-none-match": form.format(etag=etag)}
    )
    other = await site.ask("GET", f"{site.v1}/values/k", headers={"if-none-match": '"1"'})

    assert (same.status, same.body, same.headers["etag"]) == (304, b"", etag)
    assert "atoll-position" in same.headers
    assert other.status == 200


async def test_head_is_get_without_the_body(site: Site) -> None:
    """The headers are the same."""
    await put(site, "k", b"value")

    head = await site.ask("HEAD", f"{site.v1}/values/k")
    get = await site.ask("GET", f"{site.v1}/values/k")

    assert head.body == b""
    ids = {"atoll-request-id"}
    assert {k: v for k, v in head.headers.items() if k not in ids} == {
        k: v for k, v in get.headers.items() if k not in ids
    }


async def test_a_condition_that_fails_says_the_version_as_text(site: Site) -> None:
    """412 with the current version: a JavaScript number could not hold it."""
    etag = await put(site, "k", b"v")

    failed = await site.ask("PUT", f"{site.v1}/values/k", body=b"w", headers={"if-none-match": "*"})
    absent = await site.ask("DELETE", f"{site.v1}/values/l", headers={"if-match": etag})

    assert failed.code == (412, "condition_failed")
    assert failed.json()["error"]["version_current"] == etag.strip('"')
    assert failed.json()["error"]["key"] == "k"
    assert failed.headers["etag"] == etag
    assert absent.json()["error"]["version_current"] is None


async def test_programs_write_a_key_once_a_second(site: Site) -> None:
    """429 says when to try again; another key, and a delete of what is absent, may go on."""
    path = f"{site.v1}/values/k"
    await put(site, "k", b"v")

    soon = await site.ask("PUT", path, body=b"w")
    other = await site.ask("PUT", f"{site.v1}/values/l", body=b"w")
    absent = await site.ask("DELETE", f"{site.v1}/values/m")
    site.clock.advance(1)
    later = await site.ask("PUT", path, body=b"w")

    assert soon.code == (429, "rewrite_too_soon")
    assert soon.json()["error"]["retry_after_ms"] == 1000
    assert soon.headers["retry-after"] == "1"
    assert [reply.status for reply in (other, absent, later)] == [200, 200, 200]


@pytest.mark.parametrize(
    ("header", "bound_ms"),
    [
        (None, None),
        (b"", None),
        (b"max-stale", None),
        (b"max-age=5", 5000),
        (b"Max-Age=5, max-stale=60", 5000),
        (b'max-age="7"', 7000),
        (b"max-age=9, max-age=3", 3000),
        (b"max-age=0", 0),
        (b"no-cache", 0),
        (b"max-age=9,no-cache", 0),
        (b"max-age=soon", 0),
        (b"max-age=-1", 0),
        (b"max-age", 0),
        (b"no-transform, private", None),
    ],
)
def test_cache_control_sets_the_bound(header: bytes | None, bound_ms: int | None) -> None:
    """The strictest counts, and what cannot be read asks for something fresh."""
    assert freshness(header).age_ms_max == bound_ms


async def test_the_bound_and_the_position_reach_the_upstream(tmp_path: Path) -> None:
    """What a request demands is what is asked of the node; an age is shown in whole seconds."""
    asked: list[Read] = []

    class Stale:
        """Hands on to central and remembers; its answers are 1.2 seconds old."""

        def __init__(self, central: Upstream) -> None:
            self.write = central.write
            self.list = central.list
            self.follow = central.follow
            self.read_many = central.read_many
            self._central = central

        async def read(self, request: Read) -> Reading:
            """See `Upstream`."""
            asked.append(request)
            reading = await self._central.read(request)
            return Reading(entry=reading.entry, position=reading.position, age_ms=1200)

    site = await Site.make(tmp_path, upstream=Stale)
    position = (await site.put("k", b"v")).headers["atoll-position"]

    got = await site.ask(
        "GET",
        f"{site.v1}/values/k",
        headers={"cache-control": "max-age=5", "atoll-at-least": position},
    )

    assert got.headers["age"] == "2"
    assert asked[0].age_ms_max == 5000
    assert str(asked[0].at_least) == position


# Many keys.


async def test_many_keys_are_read_at_once(site: Site) -> None:
    """In the order asked for, each once, with everything that a listing with values shows."""
    await put(site, "bytes", b"\xff\x00")
    etag = await put(site, "meta", b"v", "?expiration_ttl=60", **{"atoll-metadata": "[1]"})
    asked = {"keys": ["meta", "none", "bytes", "meta"]}

    reply = await site.ask("POST", f"{site.v1}/get", body=json.dumps(asked).encode())

    answer = reply.json()
    assert [row["name"] for row in answer["keys"]] == ["meta", "bytes"]
    assert answer["keys"][0] == {
        "name": "meta",
        "version": etag.strip('"'),
        "size": 1,
        "expiration": int(site.clock.now_s) + 60,
        "metadata": [1],
        "value": "v",
        "position": reply.headers["atoll-position"],
    }
    assert (answer["keys"][1]["value"], answer["keys"][1]["base64"]) == ("/wA=", True)
    assert answer["missing"] == ["none"]
    assert reply.headers["age"] == "0"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[]", "body_invalid"),
        (b"{}", "body_invalid"),
        (b'{"keys": "a"}', "body_invalid"),
        (b'{"keys": ["a", 1]}', "body_invalid"),
        (b'{"keys": []}', "bulk_read_invalid"),
        (json.dumps({"keys": [str(n) for n in range(101)]}).encode(), "bulk_read_invalid"),
        (b'{"keys": ["a", ""]}', "key_empty"),
        (b'{"keys": [".."]}', "key_illegal"),
    ],
)
async def test_a_bulk_read_that_cannot_be_is_refused(site: Site, body: bytes, code: str) -> None:
    """And says which rule it breaks."""
    reply = await site.ask("POST", f"{site.v1}/get", body=body)

    assert reply.code == (400, code)


async def test_a_bulk_read_is_bounded_in_bytes(tmp_path: Path) -> None:
    """What two values add up to is too much, and either of them is not."""
    site = await Site.make(tmp_path, limits=Limits(bulk_read_bytes_max=100))
    for key in ("a", "b"):
        await put(site, key, b"x" * 60)

    both = await site.ask("POST", f"{site.v1}/get", body=b'{"keys": ["a", "b"]}')
    one = await site.ask("POST", f"{site.v1}/get", body=b'{"keys": ["a"]}')

    assert both.code == (413, "bulk_read_too_large")
    assert one.status == 200


async def test_a_list_has_versions_sizes_and_values(site: Site) -> None:
    """Text as it is, bytes in base64, and what is too large is left out by name."""
    await put(site, "bytes", b"\xff\x00")
    etag = await put(site, "meta", b"v", "?expiration_ttl=60", **{"atoll-metadata": "[1]"})
    now = int(site.clock.now_s)
    await put(site, "text", "é".encode())
    await put(site, "vast", b"x" * (2**20 + 1))

    plain = (await site.ask("GET", f"{site.v1}/keys")).json()
    reply = await site.ask("GET", f"{site.v1}/keys?include=values")

    rows = {row["name"]: row for row in reply.json()["keys"]}
    assert list(rows) == ["bytes", "meta", "text", "vast"]
    assert (rows["bytes"]["value"], rows["bytes"]["base64"]) == ("/wA=", True)
    assert rows["meta"] == {
        "name": "meta",
        "version": etag.strip('"'),
        "size": 1,
        "expiration": now + 60,
        "metadata": [1],
        "value": "v",
    }
    assert (rows["text"]["value"], rows["text"]["size"]) == ("é", 2)
    assert "base64" not in rows["text"]
    assert (rows["vast"]["size"], rows["vast"]["value_omitted"]) == (2**20 + 1, True)
    assert all("value" not in row and "value_omitted" not in row for row in plain["keys"])
    assert plain["list_complete"] is True
    assert "cursor" not in plain
    assert plain["position"] == reply.headers["atoll-position"]


async def test_a_list_with_values_is_bounded_in_bytes(tmp_path: Path) -> None:
    """A page ends before its values exceed the bound, and the next goes on."""
    site = await Site.make(tmp_path, limits=Limits(list_values_bytes_max=100))
    for i in range(5):
        await put(site, f"k{i}", b"x" * 40)

    first = (await site.ask("GET", f"{site.v1}/keys?include=values")).json()
    second = (
        await site.ask("GET", f"{site.v1}/keys?include=values&cursor={first['cursor']}")
    ).json()

    assert [row["name"] for row in first["keys"]] == ["k0", "k1"]
    assert [row["name"] for row in second["keys"]] == ["k2", "k3"]
    assert first["list_complete"] is False


async def test_a_list_starts_where_it_is_told(site: Site) -> None:
    """Behind a cursor, or behind any name, there or not; not both."""
    for key in ("a1", "a2", "a3", "b"):
        await put(site, key, b"")
    page = (await site.ask("GET", f"{site.v1}/keys?limit=1&prefix=a")).json()

    rest = (await site.ask("GET", f"{site.v1}/keys?prefix=a&cursor={page['cursor']}")).json()
    named = (await site.ask("GET", f"{site.v1}/keys?prefix=a&start_after=a1x")).json()
    both = await site.ask("GET", f"{site.v1}/keys?prefix=a&start_after=a&cursor={page['cursor']}")

    assert [row["name"] for row in rest["keys"]] == ["a2", "a3"]
    assert [row["name"] for row in named["keys"]] == ["a2", "a3"]
    assert both.code == (400, "parameter_invalid")


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "include=keys", "cursor=x", "start_after=%ff"]
)
async def test_a_list_that_cannot_be_is_refused(site: Site, query: str) -> None:
    """Each parameter has its range."""
    assert (await site.ask("GET", f"{site.v1}/keys?{query}")).status == 400


async def test_counting_goes_in_pages(tmp_path: Path) -> None:
    """By prefix; what one call does not finish goes on at its cursor."""
    site = await Site.make(tmp_path, limits=Limits(count_keys_max=3))
    pairs = [{"key": f"{p}{i:03}", "value": ""} for p in "ab" for i in range(400)]
    await site.ask_json("PUT", f"{site.home}/bulk", pairs)

    few = (await site.ask("GET", f"{site.v1}/count?prefix=a00")).json()
    first = (await site.ask("GET", f"{site.v1}/count")).json()
    second = (await site.ask("GET", f"{site.v1}/count?cursor={first['cursor']}")).json()
    behind = (await site.ask("GET", f"{site.v1}/count?start_after=b")).json()

    assert (few["count"], few["list_complete"]) == (10, True)
    assert (first["count"], first["list_complete"]) == (300, False)
    assert second["count"] == 300
    assert "position" in second
    assert behind["count"] == 300


async def test_a_prefix_is_deleted_and_nothing_else(site: Site) -> None:
    """Keys that begin with it, however many pages, up to the bound of one call."""
    pairs = [{"key": f"{p}{i:04}", "value": ""} for p in "ab" for i in range(1500)]
    await site.ask_json("PUT", f"{site.home}/bulk", pairs)

    reply = await site.ask_json("POST", f"{site.v1}/delete", {"prefix": "a"})

    body = reply.json()
    assert (body["deleted"], body["list_complete"]) == (1500, True)
    assert body["position"] == reply.headers["atoll-position"]
    assert (await site.ask("GET", f"{site.v1}/count")).json()["count"] == 1500
    again = (await site.ask_json("POST", f"{site.v1}/delete", {"prefix": "a"})).json()
    assert (again["deleted"], again["list_complete"]) == (0, True)


async def test_a_call_deletes_up_to_a_bound(tmp_path: Path) -> None:
    """And says that there is more."""
    site = await Site.make(tmp_path, limits=Limits(delete_prefix_keys_max=15, list_keys_max=10))
    pairs = [{"key": f"k{i:02}", "value": ""} for i in range(20)]
    await site.ask_json("PUT", f"{site.home}/bulk", pairs)
    counts: list[tuple[int, bool]] = []
    for _ in range(2):
        body = (await site.ask_json("POST", f"{site.v1}/delete", {"prefix": ""})).json()
        counts.append((body["deleted"], body["list_complete"]))

    assert counts == [(15, False), (5, True)]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"prefix":5}', b'{"prefix":null}'])
async def test_deleting_everything_must_be_said(site: Site, body: bytes) -> None:
    """A missing prefix is a mistake, an empty one is not."""
    await put(site, "k", b"v")

    refused = await site.ask("POST", f"{site.v1}/delete", body=body)

    assert refused.code == (400, "body_invalid")
    assert await site.keys() == ["k"]


class Busy:
    """An upstream on which somebody rewrites keys just before they are deleted."""

    def __init__(self, central: Upstream) -> None:
        """Hand on to `central`."""
        self.read = central.read
        self.read_many = central.read_many
        self.list = central.list
        self.follow = central.follow
        self._central = central
        self.rewrite: list[str] = []

    async def write(self, batch: Batch) -> Written:
        """Rewrite one of the keys first, if it is about to be deleted."""
        deletes = [m.key for m in batch.mutations if m.value is None]
        for key in self.rewrite:
            if key in deletes:
                self.rewrite.remove(key)
                mutation = Mutation(key=key, value=b"rewritten")
                await self._central.write(Batch(namespace=batch.namespace, mutations=(mutation,)))
                break
        return await self._central.write(batch)


@pytest.mark.parametrize("rewrites", [1, 5, 40])
async def test_what_is_rewritten_meanwhile_stays(tmp_path: Path, rewrites: int) -> None:
    """A delete by prefix deletes what it listed, not what came since, however often that is."""
    upstreams: list[Busy] = []

    def busy(central: Upstream) -> Upstream:
        """Come between the faces and central."""
        upstreams.append(Busy(central))
        return upstreams[0]

    site = await Site.make(tmp_path, upstream=busy)
    keys = [f"k{i:02}" for i in range(50)]
    await site.ask_json("PUT", f"{site.home}/bulk", [{"key": k, "value": ""} for k in keys])
    upstreams[0].rewrite = keys[:rewrites]

    body = (await site.ask_json("POST", f"{site.v1}/delete", {"prefix": "k"})).json()

    assert body["deleted"] == 50 - rewrites
    assert await site.keys() == keys[:rewrites]
    assert await site.get(keys[0]) == b"rewritten"


@pytest.mark.parametrize(
    "path", ["/v1/", "/v1/nope", "{v1}", "{v1}/", "{v1}/values", "{v1}/keys/", "{v1}/nope"]
)
async def test_a_path_that_leads_nowhere_is_refused(site: Site, path: str) -> None:
    """In the form of this face."""
    reply = await site.ask("GET", path.format(v1=site.v1))

    assert reply.code == (404, "route_not_found")


async def test_a_wrong_method_is_refused(site: Site) -> None:
    """With what is allowed."""
    reply = await site.ask("POST", f"{site.v1}/values/k")
    other = await site.ask("GET", f"{site.v1}/delete")

    assert reply.code == (405, "method_not_allowed")
    assert reply.headers["allow"] == "GET, PUT, DELETE, HEAD"
    assert other.headers["allow"] == "POST"


async def test_reads_of_lists_ask_for_a_position(site: Site) -> None:
    """503 where it has not arrived."""
    ahead = {"atoll-at-least": "0000000000000007-999999"}
    for path in ("keys", "count", "values/k"):
        reply = await site.ask("GET", f"{site.v1}/{path}", headers=ahead)
        assert reply.code == (503, "not_arrived")
        assert reply.headers["retry-after"] == "1"
