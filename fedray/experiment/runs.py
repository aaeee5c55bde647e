"""The runs below a folder, each in a line: how it stands, and the best that it has reached."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedray.core.errors import ConfigError
from fedray.core.monitor import Monitor, Unknown
from fedray.core.record import VIEWS, RoundRecord, headline
from fedray.experiment.status import known_sections, read_run
from fedray.rundir.names import CONFIG, LOG, METRICS, SUMMARY
from fedray.rundir.tree import find_runs

_UNDER_WAY = frozenset({"waiting", "running"})


@dataclass(frozen=True)
class Listed:
    """A run in a list.

    Args:
        folder: the run folder.
        name: the experiment's name.
        state: as in :class:`fedray.experiment.status.Status`, or ``damaged``: it cannot be read.
        round: last finished round.
        rounds: wanted; None if the config does not say.
        metric: the metric that ``best`` and ``last`` are of, by section and name; None: it has none yet.
        best: its best value.
        best_round: the first round with that value.
        last: its last value.
        seconds: time of all rounds.
        changed: time of the last change of its files, in seconds since the epoch.
        left: estimated seconds to the end of a run that is under way.
        error: the reason why it failed, or cannot be read.
    """

    folder: str
    name: str
    state: str
    round: int = 0
    rounds: int | None = None
    metric: str | None = None
    best: float | None = None
    best_round: int | None = None
    last: float | None = None
    seconds: float = 0.0
    changed: float = 0.0
    left: float | None = None
    error: str | None = None

    @property
    def under_way(self) -> bool:
        """True where rounds are being run, or are to begin."""
        return self.state in _UNDER_WAY

    def to_json(self) -> dict[str, Any]:
        """Return the line ready for JSON."""
        return asdict(self)


def list_runs(folders: Sequence[Path], now: float, metric: str | None = None) -> list[Listed]:
    """Return the runs below some folders, the one that changed last first; by a metric, the best first.

    Args:
        folders: folders of runs, or run folders.
        now: seconds since the epoch, for ages.
        metric: section and name, such as ``test.accuracy``; default: what :func:`told_by` says of each run.

    Raises:
        ConfigError: a folder is not there, or no record can have such a metric.
    """
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder; name one that holds run folders, such as runs")
    try:
        monitor = None if metric is None else Monitor(metric)
    except ValueError as error:
        raise ConfigError(f"--by: {error}") from None
    found = [_listed(run, now, monitor) for folder in folders for run in find_runs(folder)]
    if monitor is None:
        return sorted(found, key=lambda one: -one.changed)
    sign = 1.0 if monitor.direction == "min" else -1.0
    return sorted(found, key=lambda one: (one.best is None, 0.0 if one.best is None else sign * one.best))


def told_by(records: Sequence[Mapping[str, Any]]) -> Monitor | None:
    """Return the metric that stands for a run: of its test set, or of its clients' own rows, or its training loss.

    >>> told_by([{"round": 1, "train": {"loss": 0.5}, "test": {"loss": 0.4, "accuracy": 0.9}}]).metric
    'test.accuracy'
    """
    for section in ("test", *reversed(VIEWS.values()), "train"):
        for record in reversed(records):
            if names := [name for name in record.get(section, ()) if name != "lr"]:
                return Monitor(f"{section}.{headline(names)}{'.mean' if section in VIEWS.values() else ''}")
    return None


def _listed(folder: Path, now: float, monitor: Monitor | None) -> Listed:
    changed = max((_changed(folder / name) for name in (CONFIG, METRICS, SUMMARY, LOG)), default=0.0)
    try:
        status, records = read_run(folder, now, ask_slurm=False)
    except ConfigError as error:
        return Listed(str(folder), folder.resolve().name, "damaged", changed=changed, error=str(error).splitlines()[0])
    if monitor is None:
        monitor = Monitor(status.best["metric"]) if status.best else told_by(records)
    best, at, last = _values(records, monitor) if monitor else (None, None, None)
    return Listed(
        folder=str(folder),
        name=status.name,
        state=status.state,
        round=status.round,
        rounds=status.rounds,
        metric=None if last is None or monitor is None else monitor.metric,
        best=best,
        best_round=at,
        last=last if last is not None and math.isfinite(last) else None,
        seconds=status.totals.wall_seconds,
        changed=changed,
        left=status.left if status.state == "running" else None,
        error=status.error,
    )


def _values(records: Sequence[Mapping[str, Any]], monitor: Monitor) -> tuple[float | None, int | None, float | None]:
    """Return the best value of a metric, the round that had it, and the last value."""
    best, at, last = None, None, None
    for record in records:
        try:
            value = monitor.value(RoundRecord.from_json(known_sections(record)))
        except Unknown:
            continue
        if value is None:
            continue
        last = value
        if monitor.better(value, best):
            best, at = value, int(record["round"])
    return best, at, last


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
