"""What stands on each page: the facts, which templates put into words."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final
from urllib.parse import urlencode

from markupsafe import Markup

from atoll.core import rules
from atoll.core.errors import ForbiddenError, KeyNotFoundError, RouteNotFoundError
from atoll.core.model import LargeValue, Read
from atoll.core.session import Status
from atoll.http.dashboard import showing
from atoll.http.dashboard.atlas import LAND, dot_of, is_on_map, state_of
from atoll.http.dashboard.browsing import DELIMITER, browse
from atoll.http.dashboard.sessions import Console
from atoll.http.dashboard.shipped import PAGES
from atoll.http.dashboard.usage import SPANS, activity, last_day, spark
from atoll.http.dashboard.visit import Visit
from atoll.http.node import Node
from atoll.oversight import Located, Oversight
from atoll.principal import EVERY_ACCOUNT, Permission
from atoll.usage.prices import DEFAULT_BOOK
from atoll.usage.statement import month_of

US_PER_S: Final = 1_000_000
VERSION_TIME_SHIFT: Final = 10
"""What stands below the microseconds in a version."""
PERCENT: Final = 100
TOP_MAX: Final = 10
"""How many namespaces a page about usage names."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A template, and what it says."""

    template: str
    facts: Mapping[str, object]
    status: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """A value as it is."""

    type: str
    body: bytes | LargeValue
    download_as: str | None = None


Make = Callable[[Visit], Awaitable[Page | Raw]]


class Pages:
    """Makes pages of one central."""

    def __init__(self, node: Node, console: Console) -> None:
        """Show `node`."""
        self._node = node
        self._console = console
        self._top: Mapping[str, Make] = {
            "": self._namespaces,
            "tokens": self._tokens,
            "usage": self._usage,
            "locations": self._locations,
        }
        self._inside: Mapping[str, Make] = {
            "": self._keys,
            "new": self._new,
            "key": self._key,
            "raw": self._raw,
            "where": self._where,
            "live": self._live,
        }

    async def page(self, visit: Visit, parts: Sequence[str]) -> Page | Raw:
        """Make the page that a path names, in pieces.

        Raises:
            RouteNotFoundError: There is none.
        """
        match parts:
            case [name] if name in self._top:
                return await self._top[name](visit)
            case ["namespaces", namespace]:
                name = ""
            case ["namespaces", namespace, name] if name:
                pass
            case _:
                namespace, name = "", "none"
        make = self._inside.get(name)
        if make is None:
            raise RouteNotFoundError(path=visit.request.path.decode("latin-1"))
        visit.enter(await self._node.accounts.namespace(namespace))
        return await make(visit)

    async def _namespaces(self, visit: Visit) -> Page:
        if visit.account is None:
            return Page(template="namespaces.html", facts={"rows": [], "wanted": "", "total": 0})
        wanted = visit.request.query.get("q", "")
        found = [
            one
            for one in await self._node.accounts.namespaces(visit.account.id)
            if visit.principal.may_see(one.id)
        ]
        metering = self._node.metering
        lately: Mapping[str, Sequence[int]] = {}
        if metering is not None:
            lately = await last_day(metering, visit.account.id)
        rows = [
            {
                "namespace": one,
                "usage": await self._console.stored(one.id),
                "operations": sum(lately.get(one.id, ())),
                "bars": spark(lately.get(one.id, ())),
            }
            for one in sorted(found, key=lambda one: (one.title.casefold(), one.id))
            if wanted.casefold() in one.title.casefold() or wanted == one.id
        ]
        facts = {"rows": rows, "wanted": wanted, "total": len(found)}
        return Page(template="namespaces.html", facts=facts)

    async def _keys(self, visit: Visit) -> Page:
        assert visit.namespace is not None
        query = visit.request.query
        prefix, after = query.get("prefix", ""), query.get("after")
        folded = query.get("view", "folders") != "flat"
        rules.check_prefix(self._node.limits, prefix)
        shelf = await browse(
            self._node.upstream, visit.namespace.id, prefix=prefix, after=after, folded=folded
        )
        facts = {
            "shelf": shelf,
            "rows": [
                {"item": item, "written": at(_written_us(item.version))} for item in shelf.keys
            ],
            "prefix": prefix,
            "after": after,
            "folded": folded,
            "steps": _steps(prefix),
            "usage": await self._console.stored(visit.namespace.id),
            "found_nothing": query.get("missing"),
        }
        return Page(template="keys.html", facts=facts)

    async def _new(self, visit: Visit) -> Page:
        visit.principal.require(Permission.WRITE, account=visit.own().id, namespace=_id(visit))
        name = visit.request.query.get("key", visit.request.query.get("prefix", ""))
        return Page(template="new.html", facts={"key": name})

    async def _key(self, visit: Visit) -> Page:
        key = self._asked(visit)
        reading = await self._node.upstream.read(
            Read(namespace=_id(visit), keys=(key,), age_ms_max=0)
        )
        entry = reading.entry
        steps = _steps(key)
        if entry is None or entry.value is None:
            return Page(template="missing.html", facts={"key": key, "steps": steps}, status=404)
        metadata = None
        if entry.metadata is not None:
            metadata = json.dumps(json.loads(entry.metadata), indent=2, ensure_ascii=False)
        facts = {
            "key": key,
            "steps": steps[:-1] if steps and steps[-1][1] == key else steps,
            "entry": entry,
            "shown": await showing.shown(entry),
            "metadata": metadata,
            "written": at(_written_us(entry.version)),
            "expires": None if entry.expiration is None else at(entry.expiration * US_PER_S),
            "editing": "edit" in visit.request.query,
        }
        return Page(template="key.html", facts=facts)

    async def _raw(self, visit: Visit) -> Raw:
        key = self._asked(visit)
        reading = await self._node.upstream.read(
            Read(namespace=_id(visit), keys=(key,), age_ms_max=0)
        )
        entry = reading.entry
        if entry is None or entry.value is None:
            raise KeyNotFoundError
        kind = (await showing.shown(entry)).picture_type
        if kind is None or "download" in visit.request.query:
            name = key.rstrip("/").rpartition("/")[2] or "value"
            return Raw(type="application/octet-stream", body=entry.value, download_as=name)
        return Raw(type=kind, body=entry.value)

    async def _where(self, visit: Visit) -> Page:
        key = self._asked(visit)
        located = [one for one in self._oversight().known() if not one.registered.forgotten]
        facts = {
            "key": key,
            "steps": _steps(key),
            "located": located,
            "dots": [dot_of(one, "asking") for one in located if is_on_map(one)],
            "land": LAND,
        }
        return Page(template="where.html", facts=facts)

    async def _live(self, visit: Visit) -> Page:
        return Page(template="live.html", facts={"prefix": visit.request.query.get("prefix", "")})

    async def _tokens(self, visit: Visit) -> Page:
        account = visit.own().id
        visit.principal.require(Permission.ADMIN, account=account)
        namespaces = sorted(
            await self._node.accounts.namespaces(account), key=lambda one: one.title.casefold()
        )
        titles = {one.id: one.title for one in namespaces}
        own = visit.principal.id.partition(":")[2]
        now_s = self._node.clock.now_us() // US_PER_S
        rows = [
            {
                "token": token,
                "created": at(token.created_us),
                "expires": None if token.expires_s is None else at(token.expires_s * US_PER_S),
                "over": token.expires_s is not None and token.expires_s <= now_s,
                "reach": None
                if token.namespaces is None
                else [titles.get(one, f"deleted ({one[:8]}…)") for one in token.namespaces],
                "own": token.id == own,
            }
            for token in await self._node.accounts.tokens(account)
        ]
        return Page(template="tokens.html", facts={"rows": rows, "choices": namespaces})

    async def _usage(self, visit: Visit) -> Page:
        account, query = visit.own().id, visit.request.query
        visit.principal.require(Permission.READ, account=account)
        metering = self._node.metering
        if metering is None or visit.principal.namespaces is not None:
            raise ForbiddenError
        span = visit.request.choice("span", default="day", options=tuple(SPANS))
        prices, month = query.get("prices", DEFAULT_BOOK), query.get("month")
        statement = await metering.statement(
            account, prices=prices, month=month_of(month) if month else None
        )
        done = await activity(metering, account, span, top_max=TOP_MAX)
        titles = {one.id: one.title for one in await self._node.accounts.namespaces(account)}
        facts = {
            "span": span,
            "prices": prices,
            "books": tuple(dict.fromkeys(book.name for book in metering.books)),
            "statement": statement,
            "activity": done,
            "top": [
                {
                    "id": name,
                    "title": titles.get(name),
                    "counts": counts,
                    "stored": (await self._console.stored(name)).bytes if name in titles else None,
                }
                for name, counts in done.top
            ],
            "used_up": [
                state for state in metering.states if state.account == account and state.is_used_up
            ],
            "amount": _amount,
        }
        return Page(template="usage.html", facts=facts)

    async def _locations(self, visit: Visit) -> Page:
        visit.principal.require(Permission.ADMIN, account=EVERY_ACCOUNT)
        located = await self._oversight().locations()
        shown = [one for one in located if not one.registered.forgotten]
        facts = {
            "rows": [self._row(one) for one in shown],
            "forgotten": [one.registered.name for one in located if one.registered.forgotten],
            "dots": [dot_of(one, state_of(one)[0]) for one in shown if is_on_map(one)],
            "land": LAND,
            "now": at(self._node.clock.now_us()),
        }
        return Page(template="locations.html", facts=facts)

    def _row(self, one: Located) -> dict[str, object]:
        status = None if one.said is None else one.said.status
        state, words = state_of(one)
        oldest_us = None if status is None else status.journal_oldest_us
        return {
            "name": one.registered.name,
            "state": state,
            "words": words,
            "status": status,
            "behind": None if one.said is None else one.said.behind,
            "hit_rate": None if status is None else _hit_rate(status),
            "silent": showing.duration(one.silent_ms),
            "feed_age": None if status is None else showing.duration(status.feed_age_ms),
            "round_trip": None if status is None else showing.duration(status.round_trip_ms),
            "uptime": None if status is None else showing.duration(status.uptime_ms),
            "oldest": None if oldest_us is None else at(oldest_us),
            "holds_up": one.holds_up_sweeping,
            "on_map": is_on_map(one),
        }

    def _asked(self, visit: Visit) -> str:
        key = visit.request.query.get("key", "")
        rules.check_key(self._node.limits, key)
        return key

    def _oversight(self) -> Oversight:
        assert self._node.oversight is not None
        return self._node.oversight


def at(us: int) -> Markup:
    """Return an instant as pages write it; the browser turns it into its own zone's time."""
    when = _EPOCH + timedelta(microseconds=us)
    exact = when.strftime("%Y-%m-%dT%H:%M:%SZ")
    return Markup('<time datetime="{}">{}</time>').format(
        exact, when.strftime("%Y-%m-%d %H:%M UTC")
    )


def _written_us(version: int) -> int:
    return version >> VERSION_TIME_SHIFT


def _id(visit: Visit) -> str:
    assert visit.namespace is not None
    return visit.namespace.id


def _steps(path: str) -> list[tuple[str, str]]:
    """Return the folders that lead to a prefix or key, and what is left: names and prefixes."""
    steps: list[tuple[str, str]] = []
    begin = 0
    while (end := path.find(DELIMITER, begin)) >= 0:
        steps.append((path[begin : end + 1], path[: end + 1]))
        begin = end + 1
    if begin < len(path):
        steps.append((path[begin:], path))
    return steps


def _hit_rate(status: Status) -> str | None:
    """Return how many reads were answered from the cache, fresh; `None` where none were asked."""
    hits = status.hits + status.negative
    asked = hits + status.misses + status.stale
    return f"{PERCENT * hits / asked:.1f} %" if asked else None


def _amount(number: Decimal) -> str:
    """Return a number without the zeros at its end."""
    text = f"{number:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _query(**parameters: object) -> str:
    """Return a query; what is `None` is left out."""
    given = {name: value for name, value in parameters.items() if value is not None}
    return "?" + urlencode(given) if given else ""


PAGES.filters["size"] = showing.size
PAGES.globals["q"] = _query  # pyright: ignore[reportArgumentType]
