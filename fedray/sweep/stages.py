"""The stages of a sweep: what is to be run next, as its folder says, whoever asks and however often.

Settings are compared when all of a batch have come to the same rung, by the records of their runs up to there: it does
not matter which ends first, how many run at once, or how often the sweep was stopped.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedray.core.errors import ConfigError
from fedray.core.monitor import Monitor, Unknown
from fedray.core.record import RoundRecord
from fedray.experiment.status import known_sections
from fedray.rundir.names import METRICS
from fedray.sweep.folder import Sweep
from fedray.sweep.grid import Cell
from fedray.sweep.search import Setting
from fedray.tracking.jsonl import read_records


@dataclass(frozen=True)
class Stage:
    """Some runs that do not depend on each other.

    Args:
        sweep: the sweep, with the round after which they are to pause.
        cells: those to be run.
    """

    sweep: Sweep
    cells: tuple[Cell, ...]


def next_stage(sweep: Sweep, failed: Collection[str] = ()) -> Stage | None:
    """Return what is to be run next; None: nothing, of the settings that are drawn.

    Args:
        sweep: the sweep.
        failed: names of cells that have failed just now, and are not tried again.

    Raises:
        ConfigError: no run has the metric that settings are compared by.
    """
    for level in levels(sweep):
        there = sweep.but(until=level.rung)
        cells = (cell for cells in level.settings.values() for cell in cells)
        todo = tuple(cell for cell in cells if cell.name not in failed and not there.done(cell))
        if todo:
            return Stage(there, todo)
    return None


@dataclass(frozen=True)
class Level:
    """The settings of a batch that go on to a rung.

    Args:
        rung: the round after which their runs pause; None: they run to their end.
        settings: each with its cells.
    """

    rung: int | None
    settings: dict[Setting, list[Cell]]


def levels(sweep: Sweep) -> Iterator[Level]:
    """Yield the rungs of each batch, one after the other; a rung's runs must have ended before the next is asked for.

    Raises:
        ConfigError: as :func:`next_stage`.
    """
    seen: dict[int, list[float | None]] = {rung: [] for rung in sweep.search.rungs}
    for settings in _batches(sweep):
        for rung in sweep.search.rungs:
            yield Level(rung, settings)
            values = {one: value_of(sweep.but(until=rung), cells) for one, cells in settings.items()}
            on = sweep.search.better(values, seen[rung])
            seen[rung] += values.values()
            settings = {one: settings[one] for one in on}
        yield Level(None, settings)


def _batches(sweep: Sweep) -> Iterator[dict[Setting, list[Cell]]]:
    """Yield the settings that are compared with each other and with those before, each with its cells."""
    settings: dict[Setting, list[Cell]] = {}
    for cell in sweep.cells:
        settings.setdefault(cell.setting, []).append(cell)
    if sweep.search.sampler != "tpe":
        yield settings
        return
    told: set[Setting] = set()
    for batch in sweep.batches:
        fresh = [one for one in dict.fromkeys(batch) if one not in told]
        told.update(fresh)
        yield {one: settings[one] for one in fresh}


def value_of(sweep: Sweep, cells: Sequence[Cell]) -> float | None:
    """Return the mean over seeds of the metric, as it was last known at the round where runs pause, or at their end.

    None: one of the runs has failed, or its metric is no finite number.
    """
    values = [_value(sweep, cell) for cell in cells]
    known = [value for value in values if value is not None and math.isfinite(value)]
    return math.fsum(known) / len(values) if len(known) == len(values) else None


def _value(sweep: Sweep, cell: Cell) -> float | None:
    folder = sweep.run_folder(cell)
    if not sweep.done(cell) or not (folder.path / METRICS).exists():
        return None
    return last_value(sweep.search.monitor, folder.path / METRICS, sweep.until)


def last_value(monitor: Monitor, path: Path, until: int | None) -> float | None:
    """Return the last value of a metric in the records of a run, up to a round.

    Raises:
        ConfigError: no record has it.
    """
    value, unknown = None, ""
    for record in read_records(path):
        if until is not None and record["round"] > until:
            break
        try:
            found = monitor.value(RoundRecord.from_json(known_sections(record)))
        except Unknown as error:
            unknown = str(error)
            continue
        value = value if found is None else found
    if value is None:
        raise ConfigError(f"--by {monitor.metric}: {unknown or 'no record up to the rung has it'} ({path})")
    return value
