"""Analytics in GraphQL: grouped, filtered and ordered as Workers KV's clients ask."""

import json
from typing import Any

import pytest

from atoll.principal import EVERY_ACCOUNT, Permission
from atoll.usage.counts import Kind
from atoll.usage.groups import holds
from tests.http.site import Json, Site

pytestmark = pytest.mark.anyio

PATH = "/client/v4/graphql"

# As Cloudflare's documentation writes it, so that its clients' queries work.
OPERATIONS = """
query KvOperations($accountTag: string!, $namespaceId: string, $start: Date, $end: Date) {
  viewer {
    accounts(filter: { accountTag: $accountTag }) {
      kvOperationsAdaptiveGroups(
        filter: { namespaceId: $namespaceId, date_geq: $start, date_leq: $end }
        limit: 10000
        orderBy: [actionType_ASC]
      ) {
        sum { requests objectBytes }
        dimensions { actionType }
      }
    }
  }
}
"""


async def asked(site: Site, query: str, **variables: object) -> Json:
    """Ask, and return the whole response."""
    reply = await site.ask_json("POST", PATH, {"query": query, "variables": variables})
    assert reply.status == 200, reply.body
    return reply.json()


async def groups(site: Site, what: str) -> list[Json]:
    """Return one grouping of the only account."""
    told = await asked(site, f"{{ viewer {{ accounts {{ groups: {what} }} }} }}")
    assert told["errors"] is None, told
    (account,) = told["data"]["viewer"]["accounts"]
    return list(account["groups"])


async def some(site: Site) -> str:
    """Do some operations in two namespaces in two hours; return the second namespace."""
    other = (await site.accounts.create_namespace(site.account.id, "other")).id
    await site.put("a", b"x" * 10)
    await site.put("b", b"x" * 20)
    await site.get("a")
    site.clock.advance(3600)
    await site.get("a")
    await site.get("none")
    await site.ask("PUT", f"/v1/namespaces/{other}/values/a", body=b"x" * 40)
    return other


async def test_the_documented_query_is_answered(site: Site) -> None:
    """With types of variables as Cloudflare names them."""
    await some(site)

    told = await asked(
        site,
        OPERATIONS,
        accountTag=site.account.id,
        namespaceId=site.namespace.id,
        start="2027-01-15",
        end="2027-01-16",
    )

    assert told == {
        "errors": None,
        "data": {
            "viewer": {
                "accounts": [
                    {
                        "kvOperationsAdaptiveGroups": [
                            {
                                "sum": {"requests": 3, "objectBytes": 20},
                                "dimensions": {"actionType": "read"},
                            },
                            {
                                "sum": {"requests": 2, "objectBytes": 30},
                                "dimensions": {"actionType": "write"},
                            },
                        ]
                    }
                ]
            }
        },
    }


@pytest.mark.parametrize(
    ("condition", "requests"),
    [
        ("", 6),
        ('date: "2027-01-15"', 6),
        ('date_lt: "2027-01-15"', 0),
        ('date_gt: "2027-01-14", date_lt: "2027-01-16"', 6),
        ('datetimeHour: "2027-01-15T08:00:00Z"', 3),
        ('datetime_geq: "2027-01-15T10:00:00+01:00"', 3),
        ('actionType_in: ["write", "list"]', 3),
        ('actionType_notin: ["write"]', 3),
        ('actionType_neq: "read"', 3),
        ('face: "v1"', 1),
        ('location: "central"', 6),
        ('OR: [{face: "v1"}, {actionType: "read"}]', 4),
        ('AND: [{face: "rest"}, {actionType: "read", date_geq: "2027-01-15"}]', 3),
    ],
)
async def test_filters(site: Site, condition: str, requests: int) -> None:
    """Each with the operations that it leaves."""
    await some(site)
    condition = condition and f"filter: {{{condition}}}, "

    found = await groups(
        site, f"kvOperationsAdaptiveGroups({condition} limit: 10) {{ sum {{ requests }} }}"
    )

    assert [row["sum"]["requests"] for row in found] == [requests] * bool(requests)


async def test_groups_are_by_what_is_selected(site: Site) -> None:
    """Also in fragments and under other names; in the order asked for, and no more than that."""
    other = await some(site)
    query = """
    query($all: Boolean!) { viewer { accounts {
      kvOperationsAdaptiveGroups(orderBy: [sum_requests_DESC, datetimeHour_ASC], limit: 2) {
        dimensions { ...which ... on AccountKvOperationsAdaptiveGroupsDimensions {
          hour: datetimeHour
        } actionType @include(if: $all) location @skip(if: true) }
        sum { requests }
      }
    } } }
    fragment which on AccountKvOperationsAdaptiveGroupsDimensions { namespaceId }
    """

    told = await asked(site, query, all=False)

    first, second = told["data"]["viewer"]["accounts"][0]["kvOperationsAdaptiveGroups"]
    hour = {"namespaceId": site.namespace.id, "hour": "2027-01-15T08:00:00Z"}
    assert first == {"dimensions": hour, "sum": {"requests": 3}}
    assert second["dimensions"] == {**hour, "hour": "2027-01-15T09:00:00Z"}
    assert second["sum"] == {"requests": 2}
    assert other not in json.dumps(told)


async def test_quantiles_are_of_all_requests_together(site: Site) -> None:
    """Of an hour with 98 fast ones and another with two slow ones; the mean of two is not it."""
    meter = site.node.meter
    assert meter is not None
    for hour, elapsed_us in (0, 1000), (1, 100_000):
        now_us = site.clock.now_us() + hour * 3_600_000_000
        await _prepared(site)
        row = meter.row(site.namespace.id, "rest", site.account.id, now_us)
        for _ in range(98 if not hour else 2):
            row.count_read(Kind.HIT, sent=1, elapsed_us=elapsed_us, age_ms=0)

    (row_of_all,) = await groups(
        site, "kvOperationsAdaptiveGroups { quantiles { latencyMsP50 latencyMsP90 latencyMsP99 } }"
    )

    found = row_of_all["quantiles"]
    assert found["latencyMsP50"] == pytest.approx(1, rel=0.125)
    assert found["latencyMsP90"] == pytest.approx(1, rel=0.125)
    assert found["latencyMsP99"] == pytest.approx(100, rel=0.125)


async def _prepared(site: Site) -> None:
    """Have room for another hour."""
    await site.ask("GET", "/healthz")


async def test_storage_is_the_most_of_all_hours(site: Site) -> None:
    """Namespaces of one group are added up, hours are not."""
    other = await some(site)
    metering = site.node.metering
    assert metering is not None
    await metering.ledger.sample()
    site.clock.advance(3600)
    await site.ask("DELETE", site.value("b"))
    dimensions = "dimensions { namespaceId } max { keyCount byteCount }"

    both = await groups(
        site, f"kvStorageAdaptiveGroups(orderBy: [max_byteCount_ASC]) {{{dimensions}}}"
    )
    (total,) = await groups(site, "kvStorageAdaptiveGroups { max { keyCount byteCount } }")
    last = await groups(
        site,
        'kvStorageAdaptiveGroups(filter: {datetimeHour_geq: "2027-01-15T10:00:00Z"},'
        " orderBy: [max_keyCount_DESC, datetime_ASC], limit: 5)"
        " { dimensions { datetime } max { byteCount } }",
    )

    assert both == [
        {"dimensions": {"namespaceId": site.namespace.id}, "max": {"keyCount": 2, "byteCount": 32}},
        {"dimensions": {"namespaceId": other}, "max": {"keyCount": 1, "byteCount": 41}},
    ]
    assert total == {"max": {"keyCount": 3, "byteCount": 73}}
    assert last == [{"dimensions": {"datetime": "2027-01-15T10:00:00Z"}, "max": {"byteCount": 52}}]


async def test_a_caller_sees_their_own(site: Site) -> None:
    """Their account, and the namespaces that they are limited to."""
    other = await some(site)
    another = await site.accounts.create_account("second")
    narrow = (
        await site.accounts.create_token(
            site.account.id, name="t", permission=Permission.READ, namespaces=[other]
        )
    )[1]
    wide = (await site.accounts.create_token(EVERY_ACCOUNT, name="t", permission=Permission.READ))[
        1
    ]
    query = "{ viewer { accounts { accountTag kvOperationsAdaptiveGroups { sum { requests } } } } }"

    mine = await asked(site, OPERATIONS, accountTag=another.id)
    site.headers["authorization"] = f"Bearer {narrow}"
    few = await asked(site, query)
    site.headers["authorization"] = f"Bearer {wide}"
    many = await asked(site, query)
    site.headers["authorization"] = "Bearer none"
    refused = await site.ask_json("POST", PATH, {"query": query})

    assert mine["data"]["viewer"]["accounts"] == []
    (account,) = few["data"]["viewer"]["accounts"]
    assert account["kvOperationsAdaptiveGroups"] == [{"sum": {"requests": 1}}]
    tags = {one["accountTag"] for one in many["data"]["viewer"]["accounts"]}
    assert tags == {site.account.id, another.id}
    assert refused.status == 401


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("{", "Syntax Error"),
        ("{ nobody }", "Cannot query field"),
        ("{ viewer { accounts { kvStorageAdaptiveGroups { sum { requests } } } } }", "sum"),
        ("{ viewer " * 500, "nested too deeply"),
        ("{ viewer { x } }" * 500, "tokens"),
        ('filter: {date: "yesterday"}', "no date"),
        ('filter: {datetime: "noon"}', "no time"),
        ("filter: {face: 1}", "no text"),
        ("limit: 10001", "at most 10000"),
        ("limit: -1", "not negative"),
        ("orderBy: [date_ASC]", "select it"),
    ],
)
async def test_what_is_wrong_with_a_query_is_said(site: Site, query: str, why: str) -> None:
    """In the response, which is a success of HTTP, as GraphQL has it."""
    await some(site)
    if not query.startswith("{"):
        row = f"kvOperationsAdaptiveGroups({query}) {{ sum {{ requests }} }}"
        query = f"{{ viewer {{ accounts {{ {row} }} }} }}"

    told = await asked(site, query)

    assert told["data"] is None
    assert why in told["errors"][0]["message"]


async def test_a_request_asks_for_so_much_at_most(site: Site) -> None:
    """However it names what it asks for."""
    many = " ".join(f"a{n}: kvOperationsAdaptiveGroups {{ sum {{ requests }} }}" for n in range(21))

    told = await asked(site, f"{{ viewer {{ accounts {{ {many} }} }} }}")

    assert "at most 20 groupings" in told["errors"][0]["message"]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"query": 1}', b"[" * 5000])
async def test_what_is_no_request_is_refused(site: Site, body: bytes) -> None:
    """In the envelope, as everything on this face."""
    assert (await site.ask("POST", PATH, body=body)).refused == (400, 20400)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [({"a_in": ["x"]}, True), ({"a_gt": "x"}, False), ({"OR": []}, False), ({"AND": []}, True)],
)
def test_conditions(condition: dict[str, Any], expected: bool) -> None:  # noqa: FBT001 - a table
    """Of nothing, all hold and none does."""
    assert holds(condition, {"a": "x"}) is expected
