"""`atoll namespace`: create, list, rename, delete."""

import sys
from typing import Annotated, Final

import typer

from atoll.cli.command import Session, remote

app: Final = typer.Typer()

Named = Annotated[str, typer.Argument(help="The namespace's id or title.", metavar="NAMESPACE")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@remote(app, "create")
async def create(
    session: Session,
    title: Annotated[str, typer.Argument(help="A title new to the account.", metavar="TITLE")],
) -> None:
    """Create a namespace and print its id."""
    answer = await session.api.kv("POST", "", json={"title": title})
    session.out.result(answer.result, answer.result["id"])


@remote(app, "list")
async def list_all(session: Session) -> None:
    """List the account's namespaces by title."""
    found = [one async for one in session.api.namespaces()]
    session.out.table(
        found,
        ("ID", "TITLE"),
        ((one["id"], one["title"]) for one in found),
        empty="no namespaces yet: `atoll namespace create TITLE` makes one",
    )


@remote(app, "rename")
async def rename(
    session: Session,
    namespace: Named,
    title: Annotated[str, typer.Argument(help="The new title.", metavar="TITLE")],
) -> None:
    """Give a namespace another title. Its id, which programs use, stays."""
    namespace_id = await session.api.namespace_id(namespace)
    answer = await session.api.kv("PUT", f"/{namespace_id}", json={"title": title})
    session.out.result(answer.result, answer.result["id"])


@remote(app, "settings")
async def settings(
    session: Session,
    namespace: Named,
    *,
    stale: Annotated[
        str | None, typer.Option(help="Stale answers: allow or refuse.", metavar="CHOICE")
    ] = None,
    journal: Annotated[
        str | None, typer.Option(help="Journaled writes: allow or refuse.", metavar="CHOICE")
    ] = None,
    bound: Annotated[
        int | None, typer.Option(help="How old an answer may be by default.", metavar="SECONDS")
    ] = None,
) -> None:
    """Show what locations may do while cut off, after changing what is given."""
    path = f"{await session.api.namespace_id(namespace)}/settings"
    options = {"stale": stale, "journal": journal, "bound_s": bound}
    given = {name: value for name, value in options.items() if value is not None}
    if given:
        answer = await session.api.v1("PUT", path, json=given)
    else:
        answer = await session.api.v1("GET", path)
    shown = "\n".join(f"{name}: {value}" for name, value in answer.result.items())
    session.out.result(answer.result, shown)


@remote(app, "delete")
async def delete(session: Session, namespace: Named, *, yes: Yes = False) -> None:
    """Delete a namespace and every key in it."""
    namespace_id = await session.api.namespace_id(namespace)
    confirm(f"Delete namespace {namespace} ({namespace_id}) and every key in it?", yes=yes)
    await session.api.kv("DELETE", f"/{namespace_id}")
    session.out.result({"id": namespace_id}, f"deleted {namespace_id}")


def confirm(question: str, *, yes: bool) -> None:
    """Ask before what cannot be undone, if there is somebody to ask; scripts are not stopped."""
    if not yes and sys.stdin.isatty():
        typer.confirm(question, abort=True, err=True)
