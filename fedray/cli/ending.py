"""Commands for a run that is under way: stop it, and read what it says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedray.cli.common import FAILED
from fedray.core.errors import ConfigError
from fedray.run.interrupt import held
from fedray.rundir.names import CONFIG

if TYPE_CHECKING:
    from fedray.cluster.jobs.client import Jobs

INTERRUPTED = 130

RunOrJob = Annotated[
    str, typer.Argument(metavar="RUN_DIR|JOB", help="A run folder, or a job of `fedray submit`.", show_default=False)
]
Address = Annotated[
    str,
    typer.Option(
        "--address", envvar="RAY_API_SERVER_ADDRESS", help="For a job: the head's job server, http://HEAD:8265."
    ),
]


def stop(run: RunOrJob, address: Address = "") -> None:
    """Stop a run with a checkpoint, and wait until it is saved; here, in a Slurm job, or as a Ray job.

    A Slurm job that has not begun is cancelled.  Of the folder of a sweep or a comparison all runs are stopped, and no
    further one begins; of a run in it, this one, and the others go on.
    Exit status: 0 all is saved, 1 it ended otherwise, 2 nothing runs.  Ctrl-C ends the waiting, not the stopping.
    """
    if jobs := _jobs(run, address):
        with held():
            from fedray.cluster.jobs.beside import stop_job

        raise typer.Exit(stop_job(jobs, run, lambda text: typer.echo(text, nl=False)))
    with held():
        from fedray.experiment.stop import stop as stop_run
        from fedray.sweep.stop import stop_several

    try:
        ended = (stop_run if _is_run(Path(run)) else stop_several)(Path(run), typer.echo)
    except KeyboardInterrupt:
        typer.echo(f"{run} goes on stopping", err=True)
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(ended.text)
    if not ended.saved:
        raise typer.Exit(FAILED)


def _is_run(folder: Path) -> bool:
    """Return whether a folder is to be taken for that of one run: it is, or is none of several."""
    with held():
        from fedray.sweep.stop import holds_several

    return (folder / CONFIG).exists() or not holds_several(folder)


def logs(
    run: RunOrJob,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    workers: Annotated[bool, typer.Option("--workers", help="What clients print, log and warn.")] = False,
    address: Address = "",
) -> None:
    """Show the log of a run; of a Slurm job that has not begun its run, the job's."""
    try:
        if jobs := _jobs(run, address):
            if workers:
                raise ConfigError("--workers: the logs of a Ray job's workers lie in its run folder, on the cluster")
            for piece in jobs.follow(run) if follow else [jobs.logs(run)]:
                typer.echo(piece, nl=False)
            return
        with held():
            from fedray.experiment.logs import lines

        for line in lines(Path(run), workers, follow):
            typer.echo(line)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _jobs(run: str, address: str) -> Jobs | None:
    """Return the job server, where what is meant is no folder here."""
    if Path(run).is_dir():
        return None
    if not address:
        raise ConfigError(f"{run} is no run folder; a job of `fedray submit` needs --address http://HEAD:8265")
    with held():
        from fedray.cluster.jobs.client import Jobs

    return Jobs(address)
