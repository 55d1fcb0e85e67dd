"""The command line: commands over REST like anybody else's, and the ones that run a server."""

import sys


def main() -> None:
    """Run the command that the process was started with, and exit with its code."""
    # Imported late, so that completion and `--version` need not load what they do not use.
    from atoll.cli.app import run  # noqa: PLC0415

    sys.exit(run(sys.argv[1:]))
