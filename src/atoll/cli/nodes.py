"""`atoll node`: the credentials that locations show central."""

from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from atoll.cli.api import key_path
from atoll.cli.command import Session, remote

US_PER_S: Final = 1_000_000

app: Final = typer.Typer()

NAME: Final = typer.Argument(help="The location's name, such as LHR.", metavar="NAME")


@remote(app, "create")
async def create(session: Session, name: Annotated[str, NAME]) -> None:
    """Make a location's credential, and print it: it is shown this once.

    The location keeps it in the setting node_credential, or in the file node.credential in its
    folder. An earlier credential of the same name ends.
    """
    answer = await session.api.deployment("POST", "/nodes", json={"name": name})
    session.out.result(answer.result, answer.result["credential"])
    session.out.note("Keep it: it is not shown again.")


@remote(app, "list")
async def list_nodes(session: Session) -> None:
    """List who has a credential."""
    answer = await session.api.deployment("GET", "/nodes")
    found = answer.result["nodes"]
    rows = (
        (one["name"], datetime.fromtimestamp(one["created_us"] / US_PER_S, UTC).isoformat())
        for one in found
    )
    session.out.table(found, ("NAME", "CREATED"), rows, empty="no node has a credential")


@remote(app, "revoke")
async def revoke(session: Session, name: Annotated[str, NAME]) -> None:
    """Revoke a location's credential: its calls are refused, and its session ends in seconds."""
    await session.api.deployment("DELETE", f"/nodes/{key_path(name)}")
    session.out.result({"name": name, "revoked": True}, f"revoked {name}")
