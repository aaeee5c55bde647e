"""The command that measures how a config runs fastest here, and what `fedray run --tuned` takes of it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedray.cli.common import AsJson, ConfigArgument, Overrides, shown
from fedray.core.collector import collector_off
from fedray.run.interrupt import held

if TYPE_CHECKING:
    from fedray.core.terminal import Grid
    from fedray.tune.kept import Tuned
    from fedray.tune.search import Row

_OTHER_RESULTS = "local.precision changes results; the rest of a choice no more than their last bits"


def tune(
    config: ConfigArgument,
    overrides: Overrides = None,
    again: Annotated[bool, typer.Option("--again", help="Measure anew, whatever was measured before.")] = False,
    rounds: Annotated[
        int, typer.Option("--rounds", min=6, max=1000, help="Rounds of each candidate that are measured at least.")
    ] = 9,
    as_json: AsJson = False,
) -> None:
    """Measure how a config runs fastest on these machines, by short real runs, and say it as overrides to paste.

    For example: fedray tune config.yaml, then fedray run config.yaml local.stack=64, or fedray run config.yaml --tuned.

    Clients that step at once (local.stack) come first, then local.precision, then how workers share GPUs or CPUs.
    What the config or the command line gives stays, and so does what is as fast within the noise of the rounds.

    The choice is kept by model, data and machine ($FEDRAY_CACHE): the second time nothing is measured.
    """
    found = choice(config, overrides or (), quiet=as_json, again=again, least=rounds)
    if as_json:
        typer.echo(json.dumps({**found.to_json(), "command": command(config, overrides or (), found)}))
        return
    with held():
        from fedray.core.terminal import show
        from fedray.experiment.build import Config
        from fedray.tune.candidates import kept_as_given

    show(table(found))
    for row in found.rows:
        if row.note:
            typer.echo(f"{_words(row)}: {row.note}")
    if given := kept_as_given(Config.load(config, overrides or ()), overrides or ()):
        typer.echo(f"left as given: {' '.join(f'{key}={value}' for key, value in given.items())}")
    if found.kept:
        typer.echo(f"measured before, {found.when}; --again measures anew")
    if not found.changes:
        typer.echo("the config as it is: nothing is faster beyond the noise of the rounds")
        return
    if any(change.startswith("local.precision=") for change in found.changes):
        typer.echo(_OTHER_RESULTS)
    typer.echo(command(config, overrides or (), found))


def choice(config: Path, overrides: Sequence[str], *, quiet: bool, again: bool = False, least: int = 9) -> Tuned:
    """Return the choice for a config, measured in sight of the user where it was not before."""
    with held(), collector_off(), shown(quiet):
        from fedray.core.stages import stage

        stage("loading PyTorch")
        from fedray.tune.kept import tuned
    with shown(quiet):
        return tuned(config, overrides, again=again, least=least)


def command(config: Path, overrides: Sequence[str], found: Tuned) -> str:
    """Return the command line of a run with a choice."""
    return shlex.join(["fedray", "run", str(config), *overrides, *found.changes])


def told(found: Tuned) -> str:
    """Say in one line what a run takes of a choice, and from when it is."""
    what = " ".join(found.changes) or "the config as it is"
    more = f"; {_OTHER_RESULTS}" if any(one.startswith("local.precision=") for one in found.changes) else ""
    return f"tuned: {what} (measured {found.when}, `fedray tune`){more}"


def _words(row: Row) -> str:
    return f"{' '.join(row.changes) or 'as it is'}{', again' if row.again else ''}"


def table(found: Tuned) -> Grid:
    """Lay out the candidates of a choice, which is marked."""
    from fedray.core.terminal import Grid

    owns = {row.again: row.seconds for row in found.rows if not row.changes}
    on_gpu = any(row.gpu_memory for row in found.rows)
    head = ["", "candidate", "clients a second", "times as fast", "memory of a worker"]
    lines = []
    for row in found.rows:
        line, own = ["*" if row.changes == found.changes else "", _words(row)], owns[row.again]
        if row.seconds is None:
            lines.append([*line, "failed", "", "", *([""] if on_gpu else [])])
            continue
        times = "" if own is None else f"{own / row.seconds:.2f}"
        numbers = [f"{1.0 / row.seconds:,.4g}" if row.seconds else "", times, f"{row.rss / 1e9:.2f} GB"]
        lines.append([*line, *numbers, *([f"{row.gpu_memory / 1e9:.2f} GB"] if on_gpu else [])])
    return Grid([*head, *(["of its GPU"] if on_gpu else [])], lines)
