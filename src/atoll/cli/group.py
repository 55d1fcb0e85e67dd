"""Commands that stand alone and have others behind them: `atoll dev`, and `atoll dev cut SIN`."""

from typing import Final

import typer
from typer.core import TyperGroup

START: Final = "start"


class StartingGroup(TyperGroup):
    """A group whose command `start` is meant when no other one is named."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override] # as typer has it
        """Put the command's name in front of what is none."""
        if not args or args[0] not in self.commands:
            args = [START, *args]
        return super().parse_args(ctx, args)


def starting(app: typer.Typer, name: str, *, text: str) -> typer.Typer:
    """Add such a group to `app`; register its commands, `START` among them, on what is returned."""
    group = typer.Typer(cls=StartingGroup)
    app.add_typer(group, name=name, help=text)
    return group
