"""Commands for many runs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedray.cli.common import FAILED, ConfigArgument, Quiet, train
from fedray.cli.slurm import SlurmOptions, with_slurm_options
from fedray.core.collector import collector_off
from fedray.core.errors import ConfigError, RunFailed, counted
from fedray.run.interrupt import NOT_BEGUN, STOPPED, exit_at_once, held, starting

if TYPE_CHECKING:
    from fedray.sweep import Cell, Row, Sweep

Axes = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE,VALUE...", help="Values to combine, as in seed=1,2,3.", show_default=False),
]


@with_slurm_options
def sweep(
    config: ConfigArgument,
    options: SlurmOptions,
    axes: Axes = None,
    folder: Annotated[
        Path | None, typer.Option("--dir", help="The folder of all runs; default: sweeps/<config name>.")
    ] = None,
    cell: Annotated[int | None, typer.Option("--cell", min=0, help="Run only this one, counted from 0.")] = None,
    on_slurm: Annotated[bool, typer.Option("--slurm", help="Submit the runs as one Slurm job array.")] = False,
    only_table: Annotated[bool, typer.Option("--table", help="Only show what is finished; run nothing.")] = False,
    quiet: Quiet = False,
) -> None:
    """Run a config once for each combination of values, one after the other, and compare.

    Finished runs are not run again, stopped ones go on.  The table has the mean over seeds with its 95 % confidence
    interval, and says how many runs failed or are missing; each run that ends writes it to table.md, table.csv and
    table.json in the folder.  The options from --nodes to --print are for --slurm, and mean what they do in
    `fedray slurm`.
    """
    with held(), collector_off():
        from fedray.sweep import Sweep

    wanted = Sweep.of(config, axes or (), folder)
    given = options.section()
    if on_slurm:
        _submit(replace(wanted, slurm=given), options.show)
        return
    if given or options.show:
        raise ConfigError(f"--{next(iter(given), 'print').replace('_', '-')}: only with --slurm")
    with starting(NOT_BEGUN, again=exit_at_once):
        if cell is not None:
            _run_one(wanted, cell, quiet)
            return
        failed = [] if only_table else _run_all(wanted, quiet)
    _report(wanted, quiet)
    for one, error in failed:
        typer.echo(f"fedray: {one.name}: {error}", err=True)
    if failed:
        typer.echo(f"fedray: {len(failed)} of {len(wanted.cells)} runs failed; sweep again once mended", err=True)
        raise typer.Exit(FAILED)


def _run_one(wanted: Sweep, number: int, quiet: bool) -> None:
    if number >= len(wanted.cells):
        raise ConfigError(f"--cell {number}: the sweep has {len(wanted.cells)} runs, 0 to {len(wanted.cells) - 1}")
    cell = wanted.cells[number]
    wanted.check(cell)
    wanted.begin()
    if not wanted.done(cell):
        train(wanted.experiment(cell), quiet)


def _run_all(wanted: Sweep, quiet: bool) -> list[tuple[Cell, Exception]]:
    """Run what is not finished; a run that fails does not keep the others from running."""
    for cell in wanted.cells:
        wanted.check(cell)
    wanted.begin()
    failed: list[tuple[Cell, Exception]] = []
    begun = 0
    for cell in wanted.cells:
        if wanted.done(cell):
            begun += 1
            continue
        if not quiet:
            typer.echo(f"run {cell.number + 1} of {len(wanted.cells)}: {cell.name}")
        try:
            train(wanted.experiment(cell), quiet)
        except (ConfigError, RunFailed) as error:
            failed.append((cell, error))
        except KeyboardInterrupt:
            # Between two runs, or before this one has begun.
            if not begun:
                raise
            typer.echo(f"stopped after {begun} of {len(wanted.cells)} runs; the same command goes on", err=True)
            raise typer.Exit(STOPPED) from None
        begun += 1
    return failed


def _submit(wanted: Sweep, show: bool) -> None:
    """Submit every run that is not finished, as one job array: its tasks are the run folders."""
    with held():
        from fedray.config.sections import SlurmSection
        from fedray.experiment.capacity import check_gpus_used
        from fedray.slurm.batch import BatchJob, render, submit
        from fedray.sweep import TABLE

    for cell in wanted.cells:
        wanted.check(cell)
    cells = [cell for cell in wanted.cells if not wanted.done(cell)]
    if not cells:
        _report(wanted, quiet=False)
        return
    for cell in cells:
        config = wanted.config_of(cell)
        check_gpus_used(config.place, config.data)
    section = wanted.place(cells[0])
    assert isinstance(section, SlurmSection)
    if any(wanted.place(cell) != section for cell in cells):
        raise ConfigError("cluster: one job array has one cluster section; sweep over its keys without --slurm")
    folder = wanted.folder.resolve()
    runs = tuple(folder / cell.name for cell in cells)
    job = BatchJob(section, f"fedray-{wanted.config.stem}", sys.executable, folder, runs)
    text = render(job)
    if show:
        typer.echo(text, nl=False)
        return
    wanted.begin()
    new = [cell for cell in cells if wanted.status(cell) == "new"]
    for cell in cells:
        wanted.claim(cell)
    try:
        number = submit(job, folder)
    except ConfigError:
        for cell in new:
            shutil.rmtree(wanted.run_folder(cell).path, ignore_errors=True)
        raise
    size = f"{counted(section.nodes, 'node')} each"
    typer.echo(f"submitted job {number}: {len(cells)} of {counted(len(wanted.cells), 'run')}, {size}")
    typer.echo(f"  logs    {wanted.folder}/slurm-{number}*.log")
    typer.echo(f"  cancel  scancel {number}")
    typer.echo(f"  table   {wanted.folder / TABLE}.md   (by each run that ends; --table in place of --slurm shows it)")
    wanted.write_table()


def _report(wanted: Sweep, quiet: bool) -> None:
    rows = wanted.rows()
    if wanted.folder.exists():
        wanted.begin()
        rows = wanted.write_table()
    if not quiet:
        _show(rows)
        typer.echo(f"sweep folder: {wanted.folder}")


def _show(rows: Sequence[Row]) -> None:
    with held():
        from fedray.core.terminal import Grid, show
        from fedray.sweep import in_words

    show(Grid(*in_words(rows)))
