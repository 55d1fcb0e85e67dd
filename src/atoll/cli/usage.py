"""`atoll usage` and `atoll quota`: what was used and what it costs, and what may be used."""

import sys
from typing import Annotated, Any, Final

import msgspec
import typer

from atoll.cli.api import Json
from atoll.cli.command import Session, remote
from atoll.cli.output import at_time
from atoll.usage.prices import DEFAULT_BOOK, Meter, Period
from atoll.usage.quotas import PRESETS
from atoll.usage.statement import Statement, as_csv

app: Final = typer.Typer()

Metered = Annotated[
    Meter, typer.Argument(help="storage (in bytes), read, write, delete or list.", metavar="METER")
]
Per = Annotated[Period, typer.Option(help="The period.")]
One = Annotated[
    str | None, typer.Option(help="This namespace alone, by id or title.", metavar="NAMESPACE")
]


def register(root: typer.Typer) -> None:
    """Add `atoll usage` to `root`."""
    remote(root, "usage")(usage)


async def usage(
    session: Session,
    *,
    month: Annotated[
        str | None, typer.Option(help="Such as 2026-11; by default this month.", metavar="MONTH")
    ] = None,
    namespace: One = None,
    prices: Annotated[
        str, typer.Option(help="A price list: 2019, today, free, or your own.", metavar="NAME")
    ] = DEFAULT_BOOK,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Print the statement of a month, line by line."""
    params = {"account": await session.api.account_id(), "prices": prices}
    if month is not None:
        params["month"] = month
    if namespace is not None:
        params["namespace"] = await session.api.namespace_id(namespace)
    answer = await session.api.deployment("GET", "/usage", params=params)
    statement = msgspec.convert(answer.result, Statement, strict=False)
    if csv and not session.out.as_json:
        sys.stdout.write(as_csv(statement))
        return
    rows = [
        (
            line.name,
            f"{line.quantity:,}",
            line.unit,
            f"{line.included:,}",
            f"{line.billable:,}",
            f"{line.price} per {line.per:,}",
            f"{line.amount:,}",
        )
        for line in statement.lines
    ]
    rows.append(("total", "", "", "", "", statement.currency, f"{statement.total:,}"))
    columns = ("LINE", "USED", "UNIT", "INCLUDED", "BILLABLE", "PRICE", "AMOUNT")
    session.out.table(answer.result, columns, rows)
    so_far = "" if statement.complete else ", so far"
    session.out.note(f"{statement.month}{so_far}: {statement.title}")


@remote(app, "list")
async def list_quotas(session: Session) -> None:
    """List the account's quotas, and how much of each is used."""
    _tell(session, (await _quotas(session))["quotas"])


@remote(app, "set")
async def set_quota(
    session: Session,
    meter: Metered,
    limit: Annotated[int, typer.Argument(help="How much.", min=0, metavar="LIMIT")],
    *,
    per: Per = Period.DAY,
    namespace: One = None,
    hard: Annotated[
        bool, typer.Option("--hard", help="Refuse what exceeds it, instead of only saying so.")
    ] = False,
) -> None:
    """Limit what may be used in a period; an earlier quota of the same kind is replaced."""
    about = await _about(session, meter, per, namespace)
    quota = {**about, "limit": limit, "hard": hard}
    await _change(session, {"quotas": [*await _others(session, about), quota]})


@remote(app, "remove")
async def remove(
    session: Session, meter: Metered, *, per: Per = Period.DAY, namespace: One = None
) -> None:
    """Remove quotas, the hard and the soft; what they had stopped goes on."""
    about = await _about(session, meter, per, namespace)
    await _change(session, {"quotas": await _others(session, about)})


@remote(app, "preset")
async def preset(
    session: Session,
    name: Annotated[str, typer.Argument(help=" or ".join(PRESETS) + ".", metavar="NAME")],
) -> None:
    """Replace all quotas of the account by a set: those of the free plan, or none."""
    await _change(session, {"preset": name})


async def _about(session: Session, meter: Meter, per: Period, namespace: str | None) -> Json:
    found = None if namespace is None else await session.api.namespace_id(namespace)
    return {"meter": meter.value, "period": per.value, "namespace": found}


async def _others(session: Session, about: Json) -> list[Json]:
    """Return the quotas that are not about the same, as they are given."""
    names = ("meter", "limit", "period", "namespace", "hard")
    return [
        {name: quota[name] for name in names}
        for quota in (await _quotas(session))["quotas"]
        if any(quota[name] != value for name, value in about.items())
    ]


async def _quotas(session: Session) -> Any:  # noqa: ANN401 - a document
    params = {"account": await session.api.account_id()}
    return (await session.api.deployment("GET", "/quotas", params=params)).result


async def _change(session: Session, body: Json) -> None:
    params = {"account": await session.api.account_id()}
    answer = await session.api.deployment("PUT", "/quotas", params=params, json=body)
    _tell(session, answer.result["quotas"])


def _tell(session: Session, quotas: list[Json]) -> None:
    rows = (
        (
            quota["meter"],
            f"{quota['used']:,} of {quota['limit']:,}",
            quota["period"],
            quota["namespace"] or "all",
            "hard" if quota["hard"] else "soft",
            "used up" if quota["used_up"] else "",
            at_time(quota["ends_s"]),
        )
        for quota in quotas
    )
    columns = ("METER", "USED", "PER", "NAMESPACE", "KIND", "STATE", "ENDS")
    session.out.table(quotas, columns, rows, empty="no quotas: `atoll quota set` makes one")
