"""The command that compares a config with its baselines."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedray.cli.common import AsJson, ConfigArgument, Overrides, Quiet, shown, train
from fedray.config.layers import load_layers
from fedray.core.collector import collector_off
from fedray.core.errors import ConfigError
from fedray.core.record import headline
from fedray.run.interrupt import NOT_BEGUN, exit_at_once, held, starting

if TYPE_CHECKING:
    from fedray.core.terminal import Grid
    from fedray.sweep.compare import Line


def compare(
    config: ConfigArgument,
    overrides: Overrides = None,
    algorithms: Annotated[
        str, typer.Option("--algorithms", metavar="NAME,NAME...", help="Further algorithms, as in fedprox,scaffold.")
    ] = "",
    folder: Annotated[
        Path | None, typer.Option("--dir", help="The folder of all runs; default: runs/<config name>/compare.")
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train a config, each client alone, and all rows in one place, and show what each gives.

    On the test set, where there is one, and on the rows that clients hold out, with the worst tenth of them.  Finished
    runs are not run again, stopped ones go on.
    """
    with held(), collector_off():
        from fedray.core.terminal import show
        from fedray.sweep.compare import POOLED, contenders, lines

    with starting(NOT_BEGUN, again=exit_at_once):
        place = folder or Path("runs") / config.stem / "compare"
        names = [name.strip() for name in algorithms.split(",") if name.strip()]
        wanted = contenders(config.stem, load_layers(config, overrides or ()), names, place)
        for one in wanted:
            one.check()
        notes: dict[str, str] = {}
        for number, one in enumerate(wanted):
            if one.done:
                continue
            if not (quiet or as_json):
                typer.echo(f"run {number + 1} of {len(wanted)}: {one.words}")
            try:
                with shown(quiet or as_json):
                    experiment = one.experiment()
            except ConfigError as error:
                if one.algorithm != POOLED:
                    raise
                notes[one.algorithm] = str(error).splitlines()[0]  # rows that cannot leave their silos
                continue
            train(experiment, quiet or as_json)
    found = [line for one in wanted for line in lines(one, notes.get(one.algorithm, ""))]
    if as_json:
        typer.echo(json.dumps([line.to_json() for line in found]))
        return
    show(table(found))
    for line in found:
        if line.note:
            typer.echo(f"{line.words}: {line.note}")
    typer.echo(f"run folders: {place}")


def table(found: Sequence[Line]) -> Grid:
    """Lay out a comparison: the metric that stands for all, the exact AUC if there is one, and the loss."""
    from fedray.core.terminal import Grid

    tested = list(dict.fromkeys(name for line in found for name in line.test))
    shown = [name for name in dict.fromkeys([headline(tested), "auc", "loss"]) if name in tested]
    owned = list(dict.fromkeys(name for line in found for name in line.own))
    own = headline(owned) if owned else None
    head = ["trained on", "rows", *(f"test {name}" for name in shown)]
    head += [f"own {own}", "worst tenth"] if own else []
    cells = []
    for line in found:
        spread = line.own.get(own or "", {})
        numbers = [line.test.get(name) for name in shown]
        numbers += [spread.get("client_mean"), spread.get("worst")] if own else []
        rows = "" if line.rows is None else f"{line.rows:,}"
        cells.append([line.words, rows, *map(_number, numbers)])
    return Grid(head, cells)


def _number(value: float | None) -> str:
    return "" if value is None else "nan" if not math.isfinite(value) else f"{value:.4f}"
