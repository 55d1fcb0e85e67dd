"""`atoll export` and `atoll import`: a whole namespace as a file, one pair a line."""

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
