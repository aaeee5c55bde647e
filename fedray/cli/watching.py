"""Commands that watch: how a run stands, and whether machines are fit for one."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedray.cli.common import FAILED, AsJson, Every, duration, looks
from fedray.cli.runs import show_runs
from fedray.core.errors import counted
from fedray.run.interrupt import held
from fedray.rundir.names import SENT, limit_in, to_go_on

if TYPE_CHECKING:
    import rich.panel

    from fedray.experiment.status import Status, WorkerUse
    from fedray.run.budget import Totals

_WORKERS = 8
"""The workers that are told one by one."""


def status(
    run_dir: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_DIR",
            help="A run folder, or a folder that holds run folders, such as a sweep's.",
            show_default=False,
        ),
    ],
    as_json: AsJson = False,
    follow: Annotated[
        bool, typer.Option("--watch", "-w", "--follow", "-f", help="Refresh until the run ends.")
    ] = False,
    every: Every = 2.0,
) -> None:
    """Say how a run stands: round, pace, time left, failures, last checkpoint.  Reads only the run folder's files.

    Of a folder that holds run folders it has the table of `fedray runs`.
    """
    with held():
        from fedray.core.terminal import live, pairs, show, standard_output
        from fedray.experiment.status import read_status
        from fedray.rundir.names import configs
        from fedray.rundir.tree import find_runs

    if not configs(run_dir) and next(find_runs(run_dir), None):
        show_runs([run_dir], None, follow, every, as_json)
        return

    def look() -> Status:
        return read_status(run_dir, time.time())

    out = standard_output()
    if out.is_interactive and not as_json:
        with live(_panel(look()), out) as shown:
            for seen in looks(look, lambda seen: follow and not seen.over, every):
                shown.update(_panel(seen), refresh=True)
        return
    before = None
    for seen in looks(look, lambda seen: follow and not seen.over, every):
        news = (seen.round, seen.state, seen.slurm)
        if news == before:
            continue
        before = news
        if as_json:
            typer.echo(json.dumps(seen.to_json()))
        elif follow:
            typer.echo(one_line(seen))
        else:
            show(pairs(rows(seen), width=10))


def doctor(
    cluster: Annotated[bool, typer.Option("--cluster", help="Every node of the cluster in RAY_ADDRESS.")] = False,
    run_dir: Annotated[Path | None, typer.Option("--run-dir", help="A folder of runs, to be checked too.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check this machine, or a cluster: versions, GPUs, limits, folders, ports, clocks, token.

    Each line says ok, warning or error, and what to do.  Exit status: 1 if there is an error.
    """
    with held():
        from fedray.core.terminal import show
        from fedray.doctor import Report, visit_cluster, visit_here

    report: Report = visit_cluster(run_dir) if cluster else visit_here(run_dir)
    if as_json:
        typer.echo(json.dumps(report.to_json()))
    else:
        show(report.table())
    if report.errors:
        raise typer.Exit(FAILED)


def one_line(seen: Status) -> str:
    """Return in one line what changes from round to round."""
    told = dict(rows(seen))
    parts = [f"{seen.state}  {told['rounds']}", *(told[name] for name in ("pace", "test", "failures") if name in told)]
    return "  ".join([*parts, f"{told['left']} left"] if "left" in told else parts)


def rows(seen: Status) -> Iterator[tuple[str, str]]:
    """Yield names and values of what is known, in words."""
    yield "run", str(seen.folder) if Path(seen.folder).name == seen.name else f"{seen.name} ({seen.folder})"
    yield "state", seen.state
    if seen.limit:
        yield "limit", seen.limit
    if seen.error:
        yield "error", seen.error
    if seen.driver:
        sight = {True: "", None: " (on another machine: whether it lives cannot be seen from here)", False: ": dead"}
        yield "driver", f"{seen.driver.words}{sight[seen.driver.alive]}"
    yield "rounds", f"{seen.round:,} of {'?' if seen.rounds is None else format(seen.rounds, ',')}"
    if seen.pace is not None:
        yield "pace", pace(seen.pace)
    if seen.state == "running" and seen.left is not None:
        yield "left", duration(seen.left)
    if seen.state == "running" and seen.silent is not None:
        yield "last round", f"{duration(seen.silent)} ago"
    if seen.workers:
        yield "workers", f"{seen.workers}" if seen.nodes is None else f"{seen.workers} on {counted(seen.nodes, 'node')}"
    for one in seen.by_worker[:_WORKERS]:
        yield one.worker, ", ".join(used_by(one))
    if len(seen.by_worker) > _WORKERS:
        yield "", f"and {len(seen.by_worker) - _WORKERS:,} more workers, in --json"
    for name, metrics in (("train", seen.train), ("test", seen.test)):
        if metrics:
            yield name, "  ".join(f"{metric} {_number(value)}" for metric, value in metrics.items())
    if seen.best:
        yield "best", f"{seen.best['metric']} {_number(seen.best['value'])}, in round {seen.best['round']:,}"
    if seen.failures:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in seen.failures.items())
        yield "failures", f"{sum(seen.failures.values()):,} times a client gave no update: {kinds}"
    if seen.checkpoint is not None:
        age = "" if seen.checkpoint_age is None else f", {duration(seen.checkpoint_age)} old"
        yield "checkpoint", f"round {seen.checkpoint:,}{age}"
    if seen.slurm:
        reason = f" ({seen.slurm.reason})" if seen.slurm.reason else ""
        yield "slurm", f"job {seen.slurm.job} {seen.slurm.state or 'not known to Slurm here'}{reason}"
    if seen.totals.wall_seconds:
        yield "used", ", ".join(used(seen.totals))
    if seen.sent.get("bytes"):
        from rich.filesize import decimal

        times = f"{counted(seen.sent['clients'], 'client')}, {seen.sent['rounds']:,} updates"
        yield "sent", f"{decimal(seen.sent['bytes'])} by {times} ({SENT})"
    if seen.over and seen.state != "finished":
        limit = limit_in(seen.limit)
        go_on = f"{shlex.quote(seen.folder)}{f' {limit}=MORE' if limit else ''}"
        yield "go on with", f"fedray slurm {go_on}" if seen.slurm else to_go_on(Path(seen.folder), limit)


def _hours(seconds: float, of: str) -> str:
    """Return an amount of work in words.

    >>> _hours(0.26, "CPU"), _hours(5400.0, "GPU")
    ('0.26 CPU seconds', '1.5 GPU hours')
    """
    return f"{seconds:.3g} {of} seconds" if seconds < 60 else f"{seconds / 3600:.3g} {of} hours"


def used_by(worker: WorkerUse) -> Iterator[str]:
    """Yield what a worker used in the last round, each in words."""
    from rich.filesize import decimal

    yield f"up to {decimal(worker.rss)}"
    if worker.gpu_memory:
        yield f"{decimal(worker.gpu_memory)} of GPU memory"
    if worker.gpu_use is not None:
        yield f"GPU {worker.gpu_use:.0%} busy"
    yield f"{duration(worker.idle)} idle" if worker.idle >= 1 else f"{worker.idle:.2g} s idle"


def used(totals: Totals) -> Iterator[str]:
    """Yield the resources that a run has used, each in words; those that it did not use are left out."""
    from rich.filesize import decimal

    yield f"{duration(totals.wall_seconds)} of time"
    if totals.cpu_seconds:
        yield _hours(totals.cpu_seconds, "CPU")
    if totals.gpu_seconds:
        yield _hours(totals.gpu_seconds, "GPU")
    if totals.joules:
        yield f"{totals.joules / 3.6e6:.3g} kWh on GPUs"
    if totals.network:
        yield f"{decimal(totals.network)} between nodes"
    if totals.retries:
        yield f"{totals.retries:,} blocks done again"
    if totals.rss:
        yield f"workers of up to {decimal(totals.rss)}"
    if totals.gpu_memory:
        yield f"{decimal(totals.gpu_memory)} of GPU memory"


def pace(seconds: float) -> str:
    """Return a rate from seconds per round.

    >>> pace(0.5), pace(7.0), pace(90.0)
    ('120 rounds/min', '8.57 rounds/min', '40 rounds/h')
    """
    rate, unit = (60 / seconds, "rounds/min") if seconds <= 60 else (3600 / seconds, "rounds/h")
    return f"{rate:,.0f} {unit}" if rate >= 100 else f"{rate:.3g} {unit}"


def _number(value: float | None) -> str:
    return "nan" if value is None else f"{value:.4g}" if isinstance(value, float) else f"{value:,}"


def _panel(seen: Status) -> rich.panel.Panel:
    from rich.panel import Panel
    from rich.text import Text

    with held():
        from fedray.core.terminal import pairs

    return Panel.fit(pairs(rows(seen)), title=Text(seen.state))
