"""The command that runs the simulator: whole deployments under virtual time and faults."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from atoll.cli.command import Here, local
from atoll.cli.exits import Exit
from atoll.cli.progress import progress

if TYPE_CHECKING:
    from atoll.simulator.campaign import Campaign

SAID_EVERY: Final = 100
"""After so many seeds a run that is recorded says in a line how far it is, where no bar can."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    local(app, "simulate")(simulate)


def simulate(
    here: Here,
    *,
    seeds: Annotated[int, typer.Option(help="How many seeds.", min=0)] = 100,
    first_seed: Annotated[int, typer.Option(help="The first one.", min=0)] = 0,
    processes: Annotated[int, typer.Option(help="How many run at a time.", min=1)] = 1,
    stop: Annotated[bool, typer.Option("--stop", help="Stop at the first violation.")] = False,
    trace: Annotated[
        bool, typer.Option("--trace", help="Run the first seed alone; print all that happened.")
    ] = False,
    record: Annotated[
        Path | None,
        typer.Option(help="Keep what was found in a file, and go on from it.", metavar="FILE"),
    ] = None,
    add: Annotated[
        list[Path] | None,
        typer.Option(help="Add what another run has recorded. Repeatable.", metavar="FILE"),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(help="Run a world of many locations instead, and draw it.", metavar="FOLDER"),
    ] = None,
    world: Annotated[bool, typer.Option("--world", help="Draw a map as well.")] = False,
    locations: Annotated[
        int, typer.Option(help="How many locations that world has.", min=2, max=300)
    ] = 175,
) -> None:
    """Run whole deployments under faults, and hold every answer to the promises.

    A seed decides everything that happens. A violation names its seed and ends the command
    with 1; `--trace --first-seed SEED` replays it.
    """
    from atoll.simulator.campaign import load, run_campaign  # noqa: PLC0415 - it is large

    if pictures is not None:
        raise typer.Exit(
            _draw(here, pictures, seed=first_seed, locations=locations, with_world=world)
        )
    if trace:
        raise typer.Exit(_trace(first_seed))
    shown = sys.stderr.isatty() and not here.out.as_json
    with progress("seeds", total=seeds, in_bytes=False, shown=shown) as bar:

        def show(so_far: "Campaign") -> None:
            found = f"{so_far.counts['reads']} reads, {so_far.violations} violations"
            bar(so_far.seeds, found)
            if record is not None and not shown and so_far.seeds % SAID_EVERY == 0:
                here.out.note(f"{so_far.seeds} of {seeds} seeds, {found}")

        campaign = run_campaign(
            first_seed,
            seeds,
            processes=processes,
            violations_max=1 if stop else None,
            record=record,
            progress=show,
        )
    for path in add or ():
        campaign.merge(load(path))
    here.out.result(campaign.document(), _text(campaign))
    if campaign.failed or campaign.shortfalls():
        raise typer.Exit(Exit.REFUSED)


def _trace(seed: int) -> int:
    """Run one seed and print what everybody was told."""
    from atoll.simulator.plan import draw  # noqa: PLC0415
    from atoll.simulator.world import simulate as run_plan  # noqa: PLC0415

    report = run_plan(draw(seed), trace=True)
    lines = [*report.trace, *map(str, report.violations)]
    sys.stdout.write("\n".join(lines) + "\n")
    return Exit.REFUSED if report.violations else Exit.DONE


def _draw(here: Here, folder: Path, *, seed: int, locations: int, with_world: bool) -> int:
    """Run a world over real distances, draw it, and say how fast changes were seen."""
    from atoll.simulator.globe import simulate_globe  # noqa: PLC0415
    from atoll.simulator.pictures import draw_all  # noqa: PLC0415

    seen = simulate_globe(seed, locations)
    command = f"atoll simulate --pictures {folder} --first-seed {seed} --locations {locations}"
    paths = draw_all(seen, folder, command=command + " --world" * with_world, with_world=with_world)
    numbers = seen.numbers()
    lines = [f"{name:32} {value}" for name, value in numbers.items()]
    lines += [f"drawn: {path}" for path in paths]
    lines += map(str, seen.violations)
    lines.append(f"{seen.checked} reads checked, {len(seen.violations)} violations")
    violations = list(map(str, seen.violations))
    document = {**numbers, "violations": violations, "pictures": list(map(str, paths))}
    here.out.result(document, "\n".join(lines))
    return Exit.REFUSED if seen.violations else Exit.DONE


def _text(campaign: "Campaign") -> str:
    lines = [f"{name:48} {count}" for name, count in sorted(campaign.counts.items())]
    for seed, violations in campaign.failed.items():
        lines += [f"seed {seed}: {violation}" for violation in violations]
        lines.append(f"seed {seed}: replay with atoll simulate --trace --first-seed {seed}")
    lines += [f"too seldom: {text}" for text in campaign.shortfalls()]
    lines.append(
        f"{campaign.seeds} seeds, {campaign.counts['reads']} reads checked,"
        f" {campaign.violations} violations"
    )
    return "\n".join(lines)
