"""What every face counts, what it costs, and what quotas stop."""

import json
from collections import Counter
from pathlib import Path

import pytest

from atoll.central import Central
from atoll.core.model import Batch, Identity, Mutation
from atoll.http.metered import TALLY
from atoll.principal import EVERY_ACCOUNT, Permission
from atoll.usage.counts import KINDS, RECEIVED_AT, SENT_AT, Kind, latency_in, merged
from atoll.usage.counts import Operation as Op
from tests.http.site import Json, Site

pytestmark = pytest.mark.anyio


async def counted(site: Site) -> Counter[tuple[str, str]]:
    """What was counted so far, by face and kind."""
    found: Counter[tuple[str, str]] = Counter()
    for one in await rows(site):
        assert one.namespace == site.namespace.id
        assert one.node == "central"
        found += Counter({(one.face, kind.name.lower()): one.counts.get(kind, 0) for kind in KINDS})
    return found


async def rows(site: Site) -> list[Json]:
    """All rows of today."""
    metering = site.node.metering
    assert metering is not None
    await metering.refresh()
    today = metering.ledger.now_hour() // 24
    return list(await metering.ledger.by_day(site.account.id, [today]))


async def enforce(site: Site) -> None:
    """Hold quotas against what was used by now."""
    assert site.node.metering is not None
    await site.node.metering.enforce()


async def usage(site: Site, query: str = "") -> Json:
    """Return the statement."""
    reply = await site.ask("GET", f"/v1/usage{query}")
    assert reply.status == 200, reply.body
    return reply.json()


async def test_rest_counts_each_key(site: Site) -> None:
    """One read, write, delete or list each; of a bulk, each of its keys."""
    await site.put("a", b"1")
    await site.ask("GET", site.value("a"))
    await site.ask("GET", site.value("none"))
    await site.ask("GET", site.metadata("a"))
    pairs = [{"key": f"k{n}", "value": "v"} for n in range(5)]
    await site.ask_json("PUT", f"{site.home}/bulk", pairs)
    await site.ask_json("POST", f"{site.home}/bulk/get", {"keys": ["k1", "k2", "none"]})
    await site.ask_json("POST", f"{site.home}/bulk/delete", ["k1", "k2", "never"])
    await site.ask("DELETE", site.value("a"))
    await site.keys()

    assert await counted(site) == {
        ("rest", "write"): 6,
        ("rest", "miss_found"): 4,
        ("rest", "miss_missing"): 2,
        ("rest", "delete"): 4,
        ("rest", "list"): 1,
    }


async def test_v1_counts_each_key(site: Site) -> None:
    """A count is a list, and deleting by prefix deletes each key."""
    for key in ("a1", "a2", "b"):
        await site.ask("PUT", f"{site.v1}/values/{key}", body=b"v")
    await site.ask_json("POST", f"{site.v1}/get", {"keys": ["a1", "none"]})
    await site.ask("GET", f"{site.v1}/values/a1")
    await site.ask("GET", f"{site.v1}/keys")
    await site.ask("GET", f"{site.v1}/count")
    await site.ask_json("POST", f"{site.v1}/delete", {"prefix": "a"})

    assert await counted(site) == {
        ("v1", "write"): 3,
        ("v1", "miss_found"): 2,
        ("v1", "miss_missing"): 1,
        ("v1", "list"): 2,
        ("v1", "delete"): 2,
    }


async def test_what_was_refused_is_not_counted(site: Site) -> None:
    """Neither for its form, nor its credentials, nor its condition; a namespace is no key."""
    await site.ask("PUT", f"{site.v1}/values/a", body=b"v", headers={"if-match": '"1"'})
    await site.ask("GET", f"{site.v1}/values/a", as_nobody=True)
    await site.ask("GET", f"{site.v1}/values/%zz")
    await site.ask("GET", site.namespaces)
    await site.ask("GET", f"{site.v1}/settings")

    assert await counted(site) == {}


async def test_an_expiration_counts_as_nothing(site: Site) -> None:
    """Neither when its time comes, nor when it is swept; a read that meets it finds nothing."""
    await site.put("a", b"1", "?expiration_ttl=60")
    site.clock.advance(61)
    await site.get("a")
    central = site.node.upstream
    assert isinstance(central, Central)
    await central.sweep()
    await site.get("a")

    assert await counted(site) == {("rest", "write"): 1, ("rest", "miss_missing"): 2}


async def test_bytes_and_latency_are_of_requests(site: Site) -> None:
    """A bulk is one request; what was not sent is not counted."""
    await site.ask("PUT", f"{site.v1}/values/a", body=b"x" * 100)
    await site.ask("GET", f"{site.v1}/values/a")
    await site.ask("HEAD", f"{site.v1}/values/a")
    etag = (await site.ask("GET", f"{site.v1}/values/a")).headers["etag"]
    await site.ask("GET", f"{site.v1}/values/a", headers={"if-none-match": etag})
    await site.ask("GET", f"{site.v1}/values/none")
    body = json.dumps({"keys": ["a", "b", "c"]}).encode()
    bulk = await site.ask("POST", f"{site.v1}/get", body=body)

    found = merged(one.counts for one in await rows(site))
    assert found[RECEIVED_AT] == len(body)
    assert found[RECEIVED_AT + 1] == 100
    assert found[SENT_AT] == 200 + len(bulk.body)
    assert sum(latency_in(found, Op.READ).values()) == 6
    assert found[Kind.MISS_FOUND] == 5


async def test_a_read_that_cannot_be_as_wanted_is_answered_once(site: Site) -> None:
    """What was tried first is no answer."""
    await site.put("a", b"1")
    await site.ask(
        "GET",
        f"{site.v1}/values/a",
        headers={"atoll-at-least": "0" * 16 + "-1", "cache-control": "max-stale"},
    )

    assert (await counted(site))["v1", "miss_found"] == 1


async def test_nothing_is_tallied_outside_of_requests(site: Site) -> None:
    """What nodes do by themselves is nobody's."""
    assert TALLY.get() is None
    await site.accounts.namespaces(site.account.id)
    assert await counted(site) == {}


# Statements.


async def test_the_statement_is_the_same_on_all_faces(site: Site) -> None:
    """As JSON, as CSV, and in REST's envelope."""
    for n in range(3):
        await site.put(f"k{n}", b"x" * 998)
    await site.ask("GET", site.value("k1"))

    told = await usage(site, "?prices=2019")

    lines = {line["name"]: line for line in told["lines"]}
    assert lines["reads"]["quantity"] == "1"
    assert lines["writes, lists and deletes"]["quantity"] == "3"
    assert (told["total"], told["currency"], told["complete"]) == ("0.00", "USD", False)
    rest = f"/client/v4/accounts/{site.account.id}/storage/kv/usage?prices=2019"
    assert (await site.ask("GET", rest)).result == told
    csv = (await site.ask("GET", "/v1/usage?prices=2019&format=csv")).body.decode()
    assert csv.splitlines()[2].startswith("2027-01,reads,operations,1,1,0,")


async def test_stored_bytes_are_gb_months(tmp_path: Path) -> None:
    """3 GB for an hour of a month of 744 hours; sampled without being asked twice."""
    site = await Site.make(tmp_path)
    metering = site.node.metering
    assert metering is not None
    await site.put("k", b"x" * 999_999)
    await metering.ledger.sample()
    site.clock.advance(3600)
    await usage(site)

    storage: dict[str, str] = (await usage(site))["lines"][0]

    assert (storage["name"], storage["unit"]) == ("storage", "GB-month")
    assert storage["quantity"] == f"{2 * 10**6 / 10**9 / 744:.6f}"


async def test_a_month_and_a_namespace_are_chosen(site: Site) -> None:
    """And what was not is left out."""
    other = await site.accounts.create_namespace(site.account.id, "other")
    await site.put("a", b"1")
    await site.ask("PUT", f"/v1/namespaces/{other.id}/values/a", body=b"1")

    assert [await writes(site, query) for query in ("", f"?namespace={other.id}")] == ["2", "1"]
    assert await writes(site, "?month=2026-12") == "0"
    site.clock.advance(31 * 86_400)
    assert await writes(site, "?month=2027-01") == "2"
    assert (await usage(site, "?month=2027-01"))["complete"] is True
    await site.accounts.delete_namespace(site.account.id, other.id)
    assert await writes(site, f"?month=2027-01&namespace={other.id}") == "1"


async def writes(site: Site, query: str) -> str:
    """Return how many writes a statement has."""
    lines = (await usage(site, query))["lines"]
    return str(next(line["quantity"] for line in lines if line["name"] == "writes"))


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/usage?month=2026", (400, "parameter_invalid")),
        ("/v1/usage?prices=none", (400, "parameter_invalid")),
        ("/v1/usage?format=xml", (400, "parameter_invalid")),
        ("/v1/usage?namespace=1", (400, "namespace_id_invalid")),
        (f"/v1/usage?account={'f' * 32}", (403, "forbidden")),
        (f"/v1/quotas?account={'f' * 32}", (403, "forbidden")),
    ],
)
async def test_what_cannot_be_told_is_refused(site: Site, path: str, code: object) -> None:
    """With the code of what is wrong."""
    assert (await site.ask("GET", path)).code == code


async def test_credentials_reach_as_far_as_they_say(site: Site) -> None:
    """Those of one namespace see its share; those of all accounts must name one."""
    other = await site.accounts.create_namespace(site.account.id, "other")
    _, narrow = await site.accounts.create_token(
        site.account.id, name="t", permission=Permission.READ, namespaces=[other.id]
    )
    _, wide = await site.accounts.create_token(EVERY_ACCOUNT, name="t", permission=Permission.ADMIN)
    another = await site.accounts.create_account("second")
    theirs = await site.accounts.create_namespace(another.id, "theirs")

    site.headers["authorization"] = f"Bearer {narrow}"
    assert (await site.ask("GET", "/v1/usage")).status == 403
    assert (await site.ask("GET", f"/v1/usage?namespace={other.id}")).status == 200
    assert (await site.ask_json("PUT", "/v1/quotas", {"quotas": []})).status == 403
    site.headers["authorization"] = f"Bearer {wide}"
    assert (await site.ask("GET", "/v1/usage")).status == 400
    assert (await site.ask("GET", f"/v1/usage?account={site.account.id}")).status == 200
    mixed = f"/v1/usage?account={site.account.id}&namespace={theirs.id}"
    assert (await site.ask("GET", mixed)).status == 404


async def test_metrics_show_the_same_numbers(site: Site) -> None:
    """By location, namespace and operation; with the quotas."""
    await site.put("a", b"x" * 100)
    await site.get("a")
    await site.get("none")
    quota = {"meter": "read", "limit": 5, "period": "month", "namespace": site.namespace.id}
    await site.ask_json("PUT", "/v1/quotas", {"quotas": [quota]})

    told = (await site.ask("GET", "/metrics")).body.decode()

    of = f'location="central",namespace="{site.namespace.id}"'
    for line in (
        f'atoll_operations_total{{face="rest",{of},operation="read",outcome="miss_found"}} 1.0',
        f'atoll_operations_total{{face="rest",{of},operation="read",outcome="miss_missing"}} 1.0',
        f'atoll_operation_seconds_count{{{of},operation="read"}} 2.0',
        f'atoll_operation_seconds_bucket{{le="+Inf",{of},operation="write"}} 1.0',
        f'atoll_operation_received_bytes_total{{{of},operation="write"}} 100.0',
        f'atoll_operation_sent_bytes_total{{{of},operation="read"}} 100.0',
        f"atoll_answer_age_seconds_count{{{of}}} 2.0",
        f'hard="false",meter="read",namespace="{site.namespace.id}",period="month"}} 2.0',
    ):
        assert line in told, line


# Quotas.


async def test_a_hard_quota_stops_until_its_period_ends(site: Site) -> None:
    """That operation alone, on every face; and it says when it ends."""
    quota = {"meter": "write", "limit": 2, "period": "day", "hard": True}
    assert (await site.ask_json("PUT", "/v1/quotas", {"quotas": [quota]})).status == 200
    for n in range(2):
        await site.put(f"k{n}", b"1")
    await enforce(site)

    refused = await site.ask("PUT", f"{site.v1}/values/k3", body=b"1")
    assert refused.code == (429, "quota_reached")
    ends_s = refused.json()["error"]["ends_s"]
    assert ends_s == int(site.clock.now_s) + int(refused.headers["retry-after"])
    assert ends_s % 86_400 == 0
    assert (await site.ask("PUT", site.value("k3"), body=b"1")).refused == (429, 20429)
    bulk = [{"key": "k", "value": "v"}]
    assert (await site.ask_json("PUT", f"{site.home}/bulk", bulk)).refused == (429, 20429)
    assert await site.get("k1") == b"1"
    assert (await site.ask("DELETE", site.value("k1"))).status == 200
    told = (await site.ask("GET", "/v1/quotas")).json()["quotas"]
    assert [(one["used"], one["used_up"], one["ends_s"]) for one in told] == [(2, True, ends_s)]

    site.clock.advance(ends_s - site.clock.now_s)
    await site.put("k3", b"1")


async def test_a_stop_is_lifted_with_its_quota(site: Site) -> None:
    """At once; and one of a namespace is about that alone."""
    other = await site.accounts.create_namespace(site.account.id, "other")
    quota = {
        "meter": "list",
        "limit": 1,
        "period": "month",
        "hard": True,
        "namespace": site.namespace.id,
    }
    await site.keys()
    await site.ask_json("PUT", "/v1/quotas", {"quotas": [quota]})

    assert (await site.ask("GET", f"{site.home}/keys")).refused == (429, 20429)
    assert (await site.ask("GET", f"/v1/namespaces/{other.id}/keys")).status == 200
    await site.ask_json("PUT", "/v1/quotas", {"preset": "none"})
    assert await site.keys() == []


async def test_stored_bytes_stop_writes_and_deletions_help(site: Site) -> None:
    """What frees room is never stopped by it."""
    quota = {"meter": "storage", "limit": 100, "period": "day", "hard": True}
    await site.ask_json("PUT", "/v1/quotas", {"quotas": [quota]})
    await site.put("k", b"x" * 100)
    await enforce(site)

    assert (await site.ask("PUT", site.value("l"), body=b"1")).refused == (429, 20429)
    assert (await site.ask("DELETE", site.value("k"))).status == 200
    await enforce(site)
    await site.put("l", b"1")


async def test_a_soft_quota_is_said_once_and_stops_nothing(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the log; the metrics have it for as long as it lasts."""
    quota = {"meter": "read", "limit": 1, "period": "day"}
    await site.ask_json("PUT", "/v1/quotas", {"quotas": [quota]})
    for _ in range(3):
        await site.get("k")
        await enforce(site)

    assert capsys.readouterr().out.count("quota_used_up") == 1
    metering = site.node.metering
    assert metering is not None
    assert [(state.used, state.is_used_up) for state in metering.states] == [(3, True)]


async def test_a_write_that_was_accepted_is_delivered(site: Site) -> None:
    """A quota is for who asks, not for the journal of a location that took a write."""
    quota = {"meter": "write", "limit": 0, "period": "day", "hard": True}
    await site.ask_json("PUT", "/v1/quotas", {"quotas": [quota]})
    assert (await site.ask("PUT", site.value("k"), body=b"1")).status == 429

    written = await site.node.upstream.write(
        Batch(
            namespace=site.namespace.id,
            mutations=(Mutation(key="k", value=b"1"),),
            identity=Identity(origin="LHR~1", name=b"\0" * 8, lowest_unresolved=b"\0" * 8),
        )
    )

    assert written.outcomes[0].current is None
    assert await site.get("k") == b"1"


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"preset": "gold"},
        {"preset": "free", "quotas": []},
        {"quotas": [{"meter": "write"}]},
        {"quotas": [{"meter": "write", "limit": -1, "period": "day"}]},
        {"quotas": [{"meter": "write", "limit": 1, "period": "week"}]},
        {"quotas": [{"meter": "write", "limit": 1, "period": "day"}] * 2},
    ],
)
async def test_what_is_no_quota_is_refused(site: Site, wrong: object) -> None:
    """And the quotas that there are stay."""
    assert (await site.ask_json("PUT", "/v1/quotas", wrong)).code == (400, "body_invalid")
    assert (await site.ask("GET", "/v1/quotas")).json()["quotas"] == []


async def test_the_free_plan_is_a_preset(site: Site) -> None:
    """With its numbers, in the order of a statement."""
    told = (await site.ask_json("PUT", "/v1/quotas", {"preset": "free"})).json()["quotas"]

    assert {one["meter"]: one["limit"] for one in told} == {
        "read": 100_000,
        "write": 1000,
        "delete": 1000,
        "list": 1000,
        "storage": 10**9,
    }
    assert all(one["hard"] and one["period"] == "day" for one in told)
