"""The command that compares a config with its baselines."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedray.cli.common import AsJson, ConfigArgument, Overrides, Quiet, check_joined, split_list
from fedray.cli.several import several_runs
from fedray.config.layers import load_layers
from fedray.core.collector import collector_off
from fedray.core.errors import ConfigError, listed
from fedray.core.record import OWN, by_weight, finite
from fedray.run.interrupt import NOT_BEGUN, STOPPED, exit_at_once, held, starting
from fedray.rundir.tree import folder_of

if TYPE_CHECKING:
    from fedray.core.terminal import Grid
    from fedray.sweep.compare import Contender, Line

_MOST_LINES = 40
"""Lines of a table of single clients; where all metrics have no room, the first ones are shown."""

_WORST, _FREQUENT = "worst tenth", "most frequent"

_ONE_SEED = (
    "one seed, which says nothing of other seeds: `fedray sweep` with seed=1,2,3 tells how far differences go by chance"
)


def compare(
    config: ConfigArgument,
    overrides: Overrides = None,
    algorithms: Annotated[
        list[str] | None,
        typer.Option("--algorithms", metavar="NAME,NAME...", help="Further algorithms, as in fedprox,scaffold."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--dir", help="The folder of all runs; default: runs/<config name>/compare.")
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train a config, each client alone, and all rows in one place, and show what each gives.

    On the test set, where there is one, and on the rows that clients hold out, with the worst tenth of them, and up to
    twenty clients one by one.  Finished runs are not run again, stopped ones go on.

    Accuracy and the like of all rows together have 95 % intervals: of one model each, they say nothing of other seeds.
    """
    with held(), collector_off():
        from fedray.sweep.compare import check, contenders, lines
        from fedray.tracking.base import hints_of_all

    with starting(NOT_BEGUN, again=exit_at_once):
        place = folder or folder_of(config.stem) / "compare"
        names = split_list(*(algorithms or ()))
        check_joined("--algorithms", names, overrides or ())
        wanted = contenders(config.stem, load_layers(config, overrides or ()), names, place)
        check(wanted)
        notes, stopped = _train(wanted, place, quiet or as_json)
    found = [line for one in wanted for line in lines(one, notes.get(one.algorithm, ""))]
    if as_json:
        typer.echo(json.dumps([finite(line.to_json()) for line in found]))
    else:
        _show(found, [f"run folders: {place}", *hints_of_all(wanted[0].config.tracking, place)])
    if stopped:
        raise typer.Exit(STOPPED)


def _train(wanted: Sequence[Contender], place: Path, quiet: bool) -> tuple[dict[str, str], bool]:
    """Train what is not finished.

    Returns:
        By the names of algorithms, why there is nothing to compare of a run, and True if one was stopped.
    """
    with held():
        from fedray.sweep.compare import POOLED

    notes, stopped = dict[str, str](), False
    todo = [(number, one) for number, one in enumerate(wanted, start=1) if not one.done]
    if not todo:
        return notes, stopped
    with several_runs(place, quiet, lambda: (sum(one.done for one in wanted), len(wanted))) as runs:
        for number, one in todo:
            runs.go_on()
            if not quiet:
                typer.echo(f"run {number} of {len(wanted)}: {one.words}")
            try:
                ended = runs.do(one.experiment)
            except ConfigError as error:
                if one.algorithm != POOLED:
                    raise
                notes[one.algorithm] = str(error).splitlines()[0]  # rows that cannot leave their silos
                continue
            if not ended:
                notes[one.algorithm], stopped = "stopped; the same command goes on", True
    return notes, stopped


def _show(found: Sequence[Line], last: Sequence[str]) -> None:
    """Show a comparison.

    Args:
        found: the lines of it.
        last: the words at the end.
    """
    from fedray.core.terminal import show, standard_output
    from fedray.metrics.intervals import ABOUT

    whole, left = table(found, standard_output().width)
    show(whole)
    for line in found:
        if line.note:
            typer.echo(f"{line.words}: {line.note}")
    for words in _said(found, left):
        typer.echo(words)
    if (every := together(found, standard_output().width)) is not None:
        grid, left = every
        typer.echo("all rows together, with 95 % intervals:")
        show(grid)
        typer.echo(ABOUT)
        if left:
            typer.echo(f"left out for want of room: {listed(left)}; --json has all")
    typer.echo(_ONE_SEED)
    if (each := by_client(found)) is not None:
        show(each)
    for words in last:
        typer.echo(words)


def table(found: Sequence[Line], width: int) -> tuple[Grid, list[str]]:
    """Lay out a comparison, as many columns as there is room for, and return the names of the others with it.

    First come the metrics that stand for all, then the exact AUC if there is one, and the loss.

    Args:
        found: its lines.
        width: in characters.
    """
    from fedray.core.terminal import Grid, fitted

    tested, owned = _names(line.test for line in found), _names(line.own for line in found)
    if "auc" in tested and "auroc" in tested:
        tested.remove("auroc")  # the same of scores that are rounded
    columns: dict[str, list[float | str | None]] = {}
    for name in tested:
        columns[f"test.{name}"] = [line.test.get(name, "") for line in found]
    for name in owned:
        columns[f"{OWN}.{name}"] = [_spread(line, name, "client_mean") for line in found]
        if name == owned[0]:
            columns[_WORST] = [_spread(line, name, "worst") for line in found]
    rows = ["" if line.rows is None else f"{line.rows:,}" for line in found]
    cells = [
        [line.words, count, *map(_number, numbers)]
        for line, count, *numbers in zip(found, rows, *columns.values(), strict=True)
    ]
    first = [f"test.{tested[0]}"] if tested else []
    first += [f"{OWN}.{owned[0]}", _WORST] if owned else []
    first += [name for name in ("test.auc", "test.loss") if name in columns]
    order = [*dict.fromkeys([*first, *(f"{OWN}.{name}" for name in owned), *columns])]
    return fitted(Grid(["trained on", "rows", *columns], cells), order, width)


def together(found: Sequence[Line], width: int) -> tuple[Grid, list[str]] | None:
    """Lay out what all examples together give, with intervals, and what always saying the most frequent class would.

    Args:
        found: the lines of a comparison.
        width: in characters.

    Returns:
        The table and the names of columns that there is no room for; None where no interval is known.
    """
    from fedray.core.terminal import Grid, fitted
    from fedray.metrics.intervals import shown

    there = [line for line in found if line.intervals]
    if not there:
        return None
    columns = list(
        dict.fromkeys((part, name) for line in there for part, own in line.intervals.items() for name in own)
    )
    cells = [
        [
            line.words,
            *(
                shown(line.intervals[part][name]) if name in line.intervals.get(part, {}) else ""
                for part, name in columns
            ),
        ]
        for line in there
    ]
    always = {part: found for line in there for part, found in line.frequent.items()}
    if any(name == "accuracy" for _, name in columns):
        for word in dict.fromkeys(word for word, _ in always.values()):
            shares = {part: f"{share:.3f}" for part, (said, share) in always.items() if said == word}
            row = [shares.get(part, "") if name == "accuracy" else "" for part, name in columns]
            cells.append([f"always the answer {word}", *row])
    # Not own.accuracy, which is a mean over clients.
    heads = [name if part == OWN else f"{part}.{name}" for part, name in columns]
    return fitted(Grid(["trained on", *heads], cells), heads, width)


def by_client(found: Sequence[Line]) -> Grid | None:
    """Lay out what each client got on its own rows, metric by metric; None where that is not known, or they are many.

    Args:
        found: the lines of a comparison.
    """
    from fedray.core.terminal import Grid

    lines = [line for line in found if line.clients]
    if not lines:
        return None
    clients = list(dict.fromkeys(client for line in lines for client in line.clients))
    rows = {client: _rows(one) for line in lines for client, one in line.clients.items()}
    often = {client: _frequent(one) for line in lines for client, one in line.clients.items()}
    known = any(often.values())
    cells = [
        [
            name,
            client,
            rows[client],
            *([often[client]] if known else []),
            *(_number(line.clients.get(client, {}).get(name, "")) for line in lines),
        ]
        for name in _shown(lines)
        for client in clients
    ]
    return Grid(["own", "client", "own rows", *([_FREQUENT] if known else []), *(line.name for line in lines)], cells)


def _rows(one: Mapping[str, Any]) -> str:
    from fedray.rundir.each_client import SUPPORT, of_each_class

    classes = of_each_class(one.get(SUPPORT))
    return f"{int(one['examples']):,}" + (f" ({classes})" if classes else "")


def _frequent(one: Mapping[str, Any]) -> str:
    from fedray.rundir.each_client import SUPPORT, frequent_among

    found = frequent_among(one.get(SUPPORT))
    return f"{found[0]} {found[1]:.4f}" if found else ""


def _shown(lines: Sequence[Line]) -> list[str]:
    """Return the metrics of single clients that there is room for; the loss only where there is no other."""
    names = _names(line.own for line in lines)
    most = max(1, _MOST_LINES // max(len(line.clients) for line in lines))
    return ([name for name in names if name != "loss"] or names)[:most]


def _said(found: Sequence[Line], left: Sequence[str]) -> Iterator[str]:
    """Yield the words below a comparison: what its columns are, and what had no room."""
    if owned := _names(line.own for line in found):
        yield (
            "own: on each client's held-out rows, or own test set; a mean in which every client counts once, where the "
            "clients' numbers at the end of a run count every row once"
        )
        yield f"{_WORST}: the mean {owned[0]} of the tenth of the clients that fares worst"
    if left:
        yield f"left out for want of room: {listed(left)}; --json has all"
    if lines := [line for line in found if line.clients]:
        if any(_frequent(one) for line in lines for one in line.clients.values()):
            yield f"{_FREQUENT}: the class that most rows have, and its share: the accuracy of always saying it"
        apart = [name for name in _names(line.own for line in lines) if name not in (*_shown(lines), "loss")]
        if apart:
            yield f"of single clients --json has {listed(apart)}, too"


def _names(metrics: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of metrics, the one that stands for all first, the loss last."""
    names = list(dict.fromkeys(name for one in metrics for name in one))
    first = by_weight(names)[:1]
    return sorted(names, key=lambda name: (name not in first, name == "loss"))


def _spread(line: Line, metric: str, which: str) -> float | str | None:
    """Return a number of a spread; empty: it was not measured."""
    return line.own[metric].get(which) if metric in line.own else ""


def _number(value: float | str | None) -> str:
    if isinstance(value, str):
        return value
    return "nan" if value is None or not math.isfinite(value) else f"{value:.4f}"
