"""Commands for many runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fedray.cli.arrays import options_of, submit_stage
from fedray.cli.common import FAILED, Quiet, check_joined, shown, split_list, train
from fedray.cli.several import AllStopped, Runs, several_runs
from fedray.cli.slurm import SlurmOptions, with_slurm_options
from fedray.core.collector import collector_off
from fedray.core.errors import ConfigError, RunFailed, counted, listed
from fedray.run.interrupt import NOT_BEGUN, STOPPED, exit_at_once, held, starting

if TYPE_CHECKING:
    from fedray.sweep import Cell, Row, Search, Sweep
    from fedray.sweep.stages import Stage
    from fedray.sweep.together import Left

Axes = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE,VALUE...", help="Values to combine, as in seed=1,2,3.", show_default=False),
]


@with_slurm_options
def sweep(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.yaml|SWEEP_DIR", help="The experiment, or a sweep to go on with.")
    ],
    options: SlurmOptions,
    axes: Axes = None,
    folder: Annotated[
        Path | None, typer.Option("--dir", help="The folder of all runs; default: sweeps/<config name>.")
    ] = None,
    cell: Annotated[int | None, typer.Option("--cell", min=0, help="Run only this one, counted from 0.")] = None,
    on_slurm: Annotated[bool, typer.Option("--slurm", help="Submit the runs as one Slurm job array.")] = False,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Draw so many settings from the values and ranges, each run with every seed."),
    ] = None,
    sampler: Annotated[
        Literal["random", "tpe"],
        typer.Option(help="How they are drawn; tpe: by Optuna, from what others reached."),
    ] = "random",
    by: Annotated[
        str | None, typer.Option(metavar="METRIC", help="What settings are compared by, as in test.accuracy.")
    ] = None,
    mode: Annotated[
        Literal["auto", "min", "max"],
        typer.Option(help="The better of two values; auto: less, of losses and errors."),
    ] = "auto",
    rungs: Annotated[
        str, typer.Option(metavar="ROUND,ROUND...", help="Rounds after which only the better settings go on.")
    ] = "",
    factor: Annotated[int, typer.Option(min=2, help="One of so many settings goes on from a rung.")] = 3,
    draw_seed: Annotated[int, typer.Option("--draw-seed", help="Names the draws of --trials.")] = 0,
    at_once: Annotated[
        int | None, typer.Option("--at-once", min=1, help="Runs at once; here on one Ray, on Slurm tasks of the array.")
    ] = None,
    only_table: Annotated[bool, typer.Option("--table", help="Only show what is finished; run nothing.")] = False,
    quiet: Quiet = False,
) -> None:
    """Run a config once for each combination of values, or for settings drawn from them, and compare.

    Finished runs are not run again, stopped ones go on.  The table has the mean over seeds with its 95 % confidence
    interval, and says how many runs failed or are missing; each run that ends writes it to table.md, table.csv and
    table.json in the folder.  The options from --nodes to --print are for --slurm, and mean what they do in
    `fedray slurm`.  The stages of a search are submitted one after the other, by a small job that waits for each.

    --rungs is synchronous successive halving (arXiv:1502.07943), not ASHA (arXiv:1810.05934): settings are compared
    when all have come to a rung, so that who goes on never depends on which run ends first.
    """
    check_joined("--rungs", split_list(rungs), axes or ())
    with held(), collector_off():
        from fedray.sweep import Search, Sweep
        from fedray.sweep.together import Left

    batch = at_once or 1 if sampler == "tpe" else 1
    search = Search(trials, sampler, by, mode, _rounds(rungs), factor, draw_seed, batch)
    wanted = _begun_before(config, axes, folder, search, at_once) if config.is_dir() else None
    given = {**(options_of(config) if wanted and on_slurm else {}), **options.section()}
    wanted = wanted or Sweep.of(config, axes or (), folder, search).continued()
    if on_slurm:
        if at_once is not None:
            given["sbatch"] = {**given.get("sbatch", {}), "array": f"%{at_once}", **options.section().get("sbatch", {})}
        submit_stage(wanted.but(slurm=given), options.show, _begun, _report)
        return
    if given or options.show:
        raise ConfigError(f"--{next(iter(given), 'print').replace('_', '-')}: only with --slurm")
    with starting(NOT_BEGUN, again=exit_at_once):
        if cell is not None:
            _run_one(wanted, cell, quiet)
            return
        wanted, left = (wanted, Left({}, [])) if only_table else _run_all(wanted, quiet, at_once or 1)
    _report(wanted, quiet)
    if not (quiet or only_table):
        _hint(wanted)
    for name, error in left.failed.items():
        typer.echo(f"fedray: {name}: {error}", err=True)
    if left.stopped:
        typer.echo(f"stopped: {listed(left.stopped)}; the same command goes on", err=True)
        if wanted.search.rungs or wanted.search.sampler == "tpe":
            typer.echo("what goes on, or is drawn next, is chosen once all have come as far", err=True)
    if left.failed:
        typer.echo(f"fedray: {len(left.failed)} of {len(wanted.cells)} runs failed; sweep again once mended", err=True)
        raise typer.Exit(FAILED)
    if left.stopped:
        raise typer.Exit(STOPPED)


def _begun_before(
    folder: Path, axes: list[str] | None, other: Path | None, search: Search, at_once: int | None
) -> Sweep:
    """Return the sweep of a folder, which says itself what is run."""
    with held():
        from fedray.sweep import Search, Sweep

    wanted = Sweep.at(folder)
    if wanted is None:
        raise ConfigError(f"{folder}: this folder holds no sweep; give the config, or the folder of a sweep")
    if axes or other is not None or replace(search, batch=1) != Search():
        raise ConfigError(
            f"{folder}: a sweep's folder says itself what is run; leave out values, --dir and the options of the search"
        )
    if wanted.search.sampler == "tpe" and at_once is not None:
        wanted = wanted.but(search=replace(wanted.search, batch=at_once))
    return wanted


def _run_one(wanted: Sweep, number: int, quiet: bool) -> None:
    if number >= len(wanted.cells):
        raise ConfigError(f"--cell {number}: the sweep has {len(wanted.cells)} runs, 0 to {len(wanted.cells) - 1}")
    cell = wanted.cells[number]
    wanted.check([cell])
    wanted.begin()
    if not wanted.done(cell):
        with shown(quiet):
            experiment = wanted.experiment(cell)
        train(experiment, quiet)


def _rounds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(one) for one in split_list(text))
    except ValueError:
        raise ConfigError(f"--rungs {text}: rounds are needed, as in --rungs 5,15") from None


def _run_all(wanted: Sweep, quiet: bool, at_once: int) -> tuple[Sweep, Left]:
    """Run what is not finished, stage by stage; a run that fails, or is stopped, keeps no other of its stage back.

    Returns:
        The sweep with all settings that were drawn, and the runs that did not come to their end.
    """
    with held():
        from fedray.sweep.stages import next_stage
        from fedray.sweep.together import Left

    with shown(quiet):
        wanted.check(wanted.cells)
    wanted = _begun(wanted)
    failed: dict[str, str] = {}

    there = wanted

    def count() -> tuple[int, int]:
        return sum(map(there.done, there.cells)), len(there.cells)

    with several_runs(wanted.folder, quiet, count) as runs:
        while True:
            stage = next_stage(wanted, failed)
            if stage is None:
                more = _begun(wanted)
                if more is wanted:
                    return wanted, Left(failed, [])
                wanted = more
                continue
            there = stage.sweep
            left = _together(stage, at_once, quiet, runs) if at_once > 1 else _one_after_the_other(stage, quiet, runs)
            failed |= left.failed
            if left.stopped:
                # What comes next depends on how far these come: who goes on with them gets what an unstopped one gets.
                return wanted, Left(failed, left.stopped)


def _begun(wanted: Sweep) -> Sweep:
    """Make the folder, and draw the next settings where that depends on what earlier ones reached."""
    if wanted.search.sampler == "tpe":
        with held():
            from fedray.sweep.parzen import check_installed, with_next_batch
            from fedray.sweep.stages import next_stage

        check_installed()
        wanted.begin()
        if next_stage(wanted, {cell.name for cell in wanted.cells if wanted.status(cell) == "failed"}) is not None:
            return wanted
        more = with_next_batch(wanted)
        if more is wanted:
            return wanted
        more.check([cell for cell in more.cells if cell not in wanted.cells])
        wanted = more
    wanted.begin()
    return wanted


def _one_after_the_other(stage: Stage, quiet: bool, runs: Runs) -> Left:
    with held():
        from fedray.sweep.together import Left

    wanted, left = stage.sweep, Left({}, [])
    for cell in stage.cells:
        runs.go_on()
        if not quiet:
            typer.echo(f"run {cell.number + 1} of {len(wanted.cells)}: {cell.name}{_to_rung(wanted)}")
        try:
            if not runs.do(partial(wanted.experiment, cell)):
                left.stopped.append(cell.name)
        except (ConfigError, RunFailed) as error:
            left.failed[cell.name] = str(error)
    return left


def _together(stage: Stage, at_once: int, quiet: bool, runs: Runs) -> Left:
    with held():
        from fedray.sweep.together import Stopped, run_together

    wanted = stage.sweep

    def tell(cell: Cell, word: str) -> None:
        if not quiet:
            typer.echo(f"run {cell.number + 1} of {len(wanted.cells)}: {cell.name}{_to_rung(wanted)}: {word}")

    try:
        return run_together(wanted, stage.cells, at_once, tell, lambda: runs.asked)
    except Stopped:
        raise AllStopped from None


def _to_rung(wanted: Sweep) -> str:
    return "" if wanted.until is None else f" to round {wanted.until}"


def _report(wanted: Sweep, quiet: bool) -> None:
    rows = wanted.rows()
    if wanted.folder.exists():
        wanted.begin()
        rows = wanted.write_table()
    if quiet:
        return
    own = [row for row in rows if row.earlier < row.wanted]
    _show(own)
    typer.echo(f"sweep folder: {wanted.folder}")
    if len(own) < len(rows):
        typer.echo(
            f"  its table has {counted(len(rows) - len(own), 'further setting')} of sweeps before: table.md there"
        )
    if left := [cell.name for cell in wanted.before()[1]]:
        typer.echo(f"  of another config, and in no table: {listed(left)}")


def _hint(wanted: Sweep) -> None:
    with held():
        from fedray.tracking.base import hints_of_all

    if any(wanted.done(cell) for cell in wanted.cells):
        for hint in hints_of_all(wanted.config_of(wanted.cells[0]).tracking, wanted.folder):
            typer.echo(hint)


def _show(rows: Sequence[Row]) -> None:
    if not rows:
        return
    with held():
        from fedray.core.terminal import show, standard_output
        from fedray.sweep import fitting, notes

    table, left = fitting(rows, standard_output().width)
    show(table)
    for words in notes(table.head, table.lines):
        typer.echo(words)
    if left:
        typer.echo(f"left out for want of room: {listed(left)}; table.csv in the folder has all")
