"""A sweep on Slurm: its runs as a job array, those of a search as one array after the other."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fedray.cli.common import FAILED
from fedray.core.errors import ConfigError, counted, listed
from fedray.run.interrupt import held

if TYPE_CHECKING:
    from fedray.config.sections import SlurmSection
    from fedray.slurm.stages import Waiting
    from fedray.sweep import Cell, Sweep
    from fedray.sweep.stages import Stage


def options_of(folder: Path) -> dict[str, Any]:
    """Return the options that a search was submitted with, as keys of the ``cluster`` section."""
    with held():
        from fedray.slurm.stages import Waiting

    waiting = Waiting.read(folder)
    return {} if waiting is None else dict(waiting.options)


def submit_stage(
    wanted: Sweep, show: bool, begun: Callable[[Sweep], Sweep], report: Callable[[Sweep, bool], None]
) -> None:
    """Submit every run that can be run now and is not finished, as one job array: its tasks are the run folders.

    Where further runs depend on what these reach, a small job waits for the array, and calls this again.

    Args:
        wanted: the sweep.
        show: only show the batch script.
        begun: makes the sweep's folder, and draws further settings.
        report: shows the table.

    Raises:
        ConfigError: a mistake in a config, a stage whose runs have not ended, or Slurm refuses.
    """
    with held():
        from fedray.slurm.stages import Waiting
        from fedray.sweep.stages import next_stage

    wanted.check(wanted.cells)
    waiting = Waiting.read(wanted.folder) if wanted.search.staged else None
    by_itself = waiting is not None and waiting.drives(os.environ)
    if waiting is not None and by_itself:
        _check_ended(wanted, waiting)
    elif waiting is not None and waiting.state().goes_on:
        raise ConfigError(
            f"{wanted.folder}: job {waiting.job} submits what comes next when the runs of this stage have ended; "
            f"`fedray stop {wanted.folder}` stops it all"
        )
    whole = wanted if show else begun(wanted)
    # Of its own accord nothing is tried again: the one that failed would fail for ever.
    failed = {cell.name for cell in whole.cells if by_itself and whole.status(cell) == "failed"}
    stage = next_stage(whole, failed)
    if stage is None:
        report(whole, False)
        return
    _submit(stage, whole, show)


def _submit(stage: Stage, whole: Sweep, show: bool) -> None:
    with held():
        from fedray.slurm.batch import BatchJob, render, submit
        from fedray.sweep import TABLE

    wanted, cells = stage.sweep, list(stage.cells)
    _check_not_queued(wanted, cells)
    section = _section(wanted, cells)
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
    if whole.search.sampler == "tpe" or wanted.until is not None:
        waits = _wait_for([number], wanted, section, [cell.name for cell in cells])
        typer.echo(f"  next    job {waits} submits those that go on, when these have ended: slurm-next-{waits}.log")
        typer.echo(f"  stop    fedray stop {wanted.folder}   (all of it, with checkpoints)")
    else:
        typer.echo(f"  cancel  scancel {number}")
    typer.echo(f"  table   {wanted.folder / TABLE}.md   (by each run that ends; --table in place of --slurm shows it)")
    wanted.write_table()


def _section(wanted: Sweep, cells: Sequence[Cell]) -> SlurmSection:
    """Return the ``cluster`` section of some runs."""
    with held():
        from fedray.config.sections import SlurmSection
        from fedray.experiment.capacity import check_gpus_used

    for cell in cells:
        config = wanted.config_of(cell)
        check_gpus_used(config.place, config.data)
    section = wanted.place(cells[0])
    assert isinstance(section, SlurmSection)
    if any(wanted.place(cell) != section for cell in cells):
        raise ConfigError("cluster: one job array has one cluster section; sweep over its keys without --slurm")
    return section


def _wait_for(jobs: Sequence[int | str], wanted: Sweep, section: SlurmSection, cells: Sequence[str]) -> int:
    """Submit the job that waits for others, and return its id."""
    with held():
        from fedray.slurm.stages import Waiting, render_next, submit_next

    folder = wanted.folder.resolve()
    number = submit_next(render_next(section, f"fedray-{wanted.config.stem}", sys.executable, folder, jobs), folder)
    Waiting(number, tuple(cells), wanted.until, wanted.slurm or {}).write(folder)
    return number


def _check_ended(wanted: Sweep, waiting: Waiting) -> None:
    """Leave where runs that this job has waited for have not ended: one that was stopped, or cancelled, ends it all."""
    with held():
        from fedray.experiment.status import slurm_job

    there = wanted.but(until=waiting.until)
    named = [cell for cell in there.cells if cell.name in waiting.cells]
    left = [cell for cell in named if not there.done(cell) and there.status(cell) != "failed"]
    jobs = [slurm_job(there.run_folder(cell).path) for cell in left]
    going = [job.job for job in jobs if job is not None and job.goes_on]
    if going:
        number = _wait_for(going, there, _section(there, named), waiting.cells)
        typer.echo(
            f"{counted(len(going), 'run')} of this stage {'go' if len(going) > 1 else 'goes'} on: job {number} waits"
        )
        raise typer.Exit(0)
    if left:
        typer.echo(
            f"fedray: {counted(len(left), 'run')} did not come to the end of this stage "
            f"({listed(cell.name for cell in left)}), and nothing was submitted; "
            f"go on with: fedray sweep {wanted.folder} --slurm",
            err=True,
        )
        raise typer.Exit(FAILED)


def _check_not_queued(wanted: Sweep, cells: Sequence[Cell]) -> None:
    """Raise ConfigError where runs of a stage wait or run: what comes next depends on them."""
    with held():
        from fedray.experiment.status import slurm_job

    for cell in cells if wanted.search.staged else ():
        folder = wanted.run_folder(cell).path
        job = slurm_job(folder) if folder.exists() else None
        if job is not None and job.goes_on:
            raise ConfigError(f"{folder}: its job {job.job} is {job.state}; the next stage begins when it has ended")
