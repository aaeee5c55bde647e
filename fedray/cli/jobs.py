"""The command that submits to a standing Ray cluster."""

from __future__ import annotations

import re
import secrets
import shlex
import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedray.cli.common import FAILED, ConfigArgument, Overrides
from fedray.core.errors import ConfigError, counted
from fedray.run.interrupt import STOPPED, held
from fedray.rundir.names import COMPLETE

if TYPE_CHECKING:
    from fedray.cluster.jobs.client import Ended, Jobs

DETACHED = 130


def submit(
    config: ConfigArgument,
    overrides: Overrides = None,
    address: Annotated[
        str, typer.Option("--address", envvar="RAY_API_SERVER_ADDRESS", help="The head's job server: http://HEAD:8265.")
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show the log; end as the run ends.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in run.dir.")] = False,
    python: Annotated[str, typer.Option("--python", help="The interpreter on the cluster that has fedray.")] = "python",
) -> None:
    """Run on a standing Ray cluster: uploads what the config needs from this folder; the cluster owns the run.

    With --follow the exit status is the run's; Ctrl-C then ends the following, not the run.  A run.dir that is not
    absolute lies below the home folder of the account that runs the cluster.
    """
    from rich.filesize import decimal

    with held():
        from fedray.cluster.jobs.beside import PYTHON, RUN_DIR
        from fedray.cluster.jobs.client import Jobs
        from fedray.cluster.jobs.submission import Package, command, on_the_cluster
        from fedray.config.layers import ConfigFile
        from fedray.experiment.build import Config

    if not address:
        raise ConfigError("--address (or RAY_API_SERVER_ADDRESS): needed, as in http://HEAD:8265")
    given = overrides or []
    file = ConfigFile.read(config)
    loaded = Config.bind(config.stem, *file.layers(given))
    package = Package.of(file, given, Path.cwd())
    archive = package.archive()
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    run_dir = Path(loaded.run.dir or f"runs/{loaded.name}/{stamp}")
    others = [text for text in given if not text.startswith("run.dir=")]
    if resume:
        if not loaded.run.dir:
            raise ConfigError("--resume: say with run.dir=PATH which run on the cluster is to go on")
        line = command("resume", others, run_dir, python)
    else:
        line = command("run", [package.named(config), *others], run_dir, python)
    jobs = Jobs(address)
    name = f"fedray_{re.sub(r'[^A-Za-z0-9.-]', '-', loaded.name)}_{stamp}_{secrets.token_hex(2)}"
    with tempfile.TemporaryDirectory(prefix="fedray-submit-") as folder:
        path = Path(folder) / "files.zip"
        path.write_bytes(archive)
        about = {RUN_DIR: on_the_cluster(run_dir), PYTHON: shlex.quote(python)}
        jobs.submit(line, path, name, about)
    where = f"results  {run_dir if run_dir.is_absolute() else Path('~') / run_dir} (on the cluster)"
    typer.echo(f"submitted {name}: {counted(len(package.files), 'file')}, {decimal(len(archive))}")
    typer.echo(f"  log      fedray logs --address {address} --follow {name}")
    typer.echo(f"  stop     fedray stop --address {address} {name}   (with a checkpoint)")
    typer.echo(f"  {where}")
    if follow:
        status = _follow(jobs, name)
        typer.echo(where)
        raise typer.Exit(status)


def _follow(jobs: Jobs, name: str) -> int:
    """Show the log to its end, and return the run's exit status."""
    with held():
        from fedray.cluster.jobs.beside import state_of_run

    try:
        for piece in jobs.follow(name):
            typer.echo(piece, nl=False)
        ended = jobs.end_of(name)
    except KeyboardInterrupt:
        typer.echo(f"\n{name} goes on", err=True)
        return DETACHED
    # Ray keeps no exit status of a job that was stopped: what became of the run stands in its folder, there.
    state = state_of_run(jobs, name) if ended.state == "STOPPED" else None
    return status_of(ended, state)


def status_of(ended: Ended, state: str | None) -> int:
    """Return the run's exit status.

    Args:
        ended: the end of its job.
        state: of the run, if the job was stopped.
    """
    if ended.status is not None:
        return ended.status
    if ended.state == "STOPPED" and state in COMPLETE:
        return 0
    if ended.state == "STOPPED" and state == "stopped":
        return STOPPED
    if ended.state == "STOPPED":
        reason = "it was stopped before it could save; its last checkpoint counts"
    else:
        reason = f"it could not be run: {' '.join(ended.message.split())[-300:]}"
    typer.echo(f"fedray: {reason}", err=True)
    return FAILED
