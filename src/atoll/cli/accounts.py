"""`atoll account` and `atoll token`."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer

from atoll.cli.api import key_path
from atoll.cli.command import Session, remote
from atoll.clock import SystemClock
from atoll.principal import Permission

accounts_app: Final = typer.Typer()
tokens_app: Final = typer.Typer()

US_PER_S: Final = 1_000_000
SECONDS_IN: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN: Final = re.compile(r"([1-9][0-9]{0,8})([smhd])")


@remote(accounts_app, "create")
async def create_account(
    session: Session,
    name: Annotated[str, typer.Argument(help="A name, for people.", metavar="NAME")],
) -> None:
    """Create an account and print its id. Needs an admin token of the whole deployment."""
    answer = await session.api.rest("POST", "/accounts", json={"name": name})
    session.out.result(answer.result, answer.result["id"])


@remote(accounts_app, "list")
async def list_accounts(session: Session) -> None:
    """List the accounts that the token reaches."""
    found = [one async for one in session.api.items("/accounts")]
    rows = ((one["id"], one["name"], one["created_on"]) for one in found)
    session.out.table(found, ("ID", "NAME", "CREATED"), rows, empty="no accounts")


@remote(tokens_app, "create")
async def create_token(
    session: Session,
    name: Annotated[str, typer.Argument(help="What it is for.", metavar="NAME")],
    *,
    permission: Annotated[
        Permission,
        typer.Option(
            help="read: look. write: also change keys and namespaces. admin: also tokens.",
        ),
    ] = Permission.READ,
    namespace: Annotated[
        list[str] | None,
        typer.Option(help="Only this namespace, by id or title. Repeatable.", show_default="all"),
    ] = None,
    expires_in: Annotated[
        str | None,
        typer.Option(help="How long it lasts, such as 90d, 12h, 30m.", show_default="for ever"),
    ] = None,
) -> None:
    """Create a token and print its secret, which is shown this once."""
    expires_on = None if expires_in is None else _expiry(expires_in)
    namespaces = [await session.api.namespace_id(one) for one in namespace or ()]
    account = await session.api.account_id()
    answer = await session.api.rest(
        "POST",
        f"/accounts/{account}/tokens",
        json={
            "name": name,
            "permission": permission.value,
            "namespaces": namespaces or None,
            "expires_on": expires_on,
        },
    )
    session.out.result(answer.result, answer.result["value"])
    session.out.note("Keep it: it is not shown again. `atoll token list` shows all but the secret.")


@remote(tokens_app, "list")
async def list_tokens(session: Session) -> None:
    """List the account's tokens, without their secrets."""
    account = await session.api.account_id()
    found = [one async for one in session.api.items(f"/accounts/{account}/tokens")]
    rows = (
        (
            one["id"],
            one["name"],
            one["permission"],
            "all" if one["namespaces"] is None else " ".join(one["namespaces"]),
            one["expires_on"] or "never",
        )
        for one in found
    )
    session.out.table(
        found,
        ("ID", "NAME", "PERMISSION", "NAMESPACES", "EXPIRES"),
        rows,
        empty="no tokens of this account; those of the whole deployment are in no account's list",
    )


@remote(tokens_app, "revoke")
async def revoke_token(
    session: Session,
    token_id: Annotated[str, typer.Argument(help="From `atoll token list`.", metavar="TOKEN_ID")],
) -> None:
    """Revoke a token: from then on it is refused."""
    account = await session.api.account_id()
    await session.api.rest("DELETE", f"/accounts/{account}/tokens/{key_path(token_id)}")
    session.out.result({"id": token_id}, f"revoked {token_id}")


def _expiry(span: str) -> str:
    """Return the instant that lies `span` ahead, as RFC 3339 writes it."""
    match = _SPAN.fullmatch(span)
    if match is None:
        raise typer.BadParameter(
            f"{span!r} is no time span: give a number and s, m, h or d, such as 90d",
            param_hint="--expires-in",
        )
    seconds = int(match[1]) * SECONDS_IN[match[2]]
    try:
        now = datetime.fromtimestamp(SystemClock().now_us() / US_PER_S, UTC)
        return (now + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    except OverflowError:
        raise typer.BadParameter(f"{span!r} ends too late", param_hint="--expires-in") from None
