"""The command that lists runs."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedray.cli.common import AsJson, Every, looks
from fedray.core.errors import ConfigError
from fedray.run.interrupt import held
from fedray.rundir.tree import RUNS, SWEEPS

if TYPE_CHECKING:
    from fedray.experiment.runs import Listed

USUAL = (RUNS, SWEEPS)


def runs(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FOLDER", help="Where to look; default: runs and sweeps.", show_default=False),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="METRIC", help="Show this metric, such as test.loss, and the best run first."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh until no run is under way.")] = False,
    every: Every = 2.0,
    as_json: AsJson = False,
) -> None:
    """List the runs in a folder: how each stands, its best metric and the round that had it, its time.

    The run that changed last comes first.  Reads only the run folders' files.
    """
    wanted = folders or [folder for folder in USUAL if folder.is_dir()]
    if not wanted:
        raise ConfigError("there is neither a folder runs nor a folder sweeps here; name one: fedray runs FOLDER")
    show_runs(wanted, by, watch, every, as_json)


def show_runs(wanted: Sequence[Path], by: str | None, watch: bool, every: float, as_json: bool) -> None:
    """Show the runs in some folders, once, or until none is under way.

    Args:
        wanted: the folders.
        by: the metric that is shown; None: that which stands for each run.
        watch: look again.
        every: seconds between two looks.
        as_json: for programs.

    Raises:
        ConfigError: a folder is not there, or no record can have such a metric.
    """
    with held():
        from fedray.cli.run_table import RunTable
        from fedray.core.terminal import live, show, standard_output
        from fedray.experiment.runs import list_runs

    def look() -> list[Listed]:
        return list_runs(wanted, time.time(), by)

    def again(seen: list[Listed]) -> bool:
        return watch and any(one.under_way for one in seen)

    out = standard_output()
    if out.is_interactive and watch and not as_json:
        with live(RunTable(look(), time.time()), out) as shown:
            for seen in looks(look, again, every):
                shown.update(RunTable(seen, time.time()), refresh=True)
        return
    before = None
    for seen in looks(look, again, every):
        if seen == before:
            continue
        before = seen
        if as_json:
            typer.echo(json.dumps([one.to_json() for one in seen]))
        elif seen:
            show(RunTable(seen, time.time()))
        else:
            typer.echo(f"no runs in {' and '.join(map(str, wanted))}")
