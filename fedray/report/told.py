"""Runs as their folders tell of them, and settings: the runs that differ in their seed alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from fedray.core.errors import ConfigError
from fedray.core.record import OWN, VIEWS, own
from fedray.experiment.status import Status, read_run
from fedray.report.labels import labels_of
from fedray.rundir.folder import RunFolder
from fedray.rundir.names import PYTHON
from fedray.rundir.tree import find_runs, is_run
from fedray.sweep import GIVEN, Sweep, numbers_of
from fedray.tracking.services import flat

SEED = "seed"

# Where a run ran and what is kept of it, not what it computed.
_CIRCUMSTANCES = re.compile(
    r"(cluster|driver|worker|run|run_dir|tracking|trackers|checkpoint\w*|budget|name|workers?_\w+)(\.|$)"
)


@dataclass(frozen=True)
class Told:
    """A run, as its folder tells.

    Args:
        folder: the run folder.
        status: its status.
        records: of its rounds, in order.
        summary: the summary of the last driver that came to an end; empty before.
        text: its config.
    """

    folder: Path
    status: Status
    records: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    text: str

    @classmethod
    def of(cls, folder: Path, now: float) -> Told:
        """Read a run folder.

        Args:
            folder: the run folder.
            now: seconds since the epoch.

        Raises:
            ConfigError: it is none, or it is damaged.
        """
        status, records = read_run(folder, now, ask_slurm=False)
        place = RunFolder(folder)
        return cls(folder, status, records, place.summary(), place.config())

    @cached_property
    def options(self) -> dict[str, str]:
        """Its config by dotted keys; those of a run from Python without their heading."""
        config = yaml.safe_load(self.text) or {}
        return {key.removeprefix(f"{PYTHON}."): value for key, value in flat(config).items()}

    @property
    def seed(self) -> str:
        """Its seed."""
        return self.options.get(SEED, "")

    def last(self, section: str) -> Mapping[str, Any]:
        """Return a section of the newest record that has it; ``own``: that of the model that clients would use."""
        section = own(self._newest) if section == OWN else section
        found: Mapping[str, Any] = self._newest.get(section, {})
        return found

    def table(self, section: str, name: str) -> Mapping[str, Any]:
        """Return a table of the newest record that has it."""
        found = (record.get("tables", {}).get(section, {}).get(name) for record in reversed(self.records))
        return next((one for one in found if one), {})

    def series(self, section: str, metric: str, spread: str | None = None) -> dict[int, float]:
        """Return a metric by round, where it was measured; None and what is not finite is left out.

        Args:
            section: of the record.
            metric: its name there.
            spread: the number of its spread over clients, where it has one.
        """
        section = own(self._newest) if section == OWN else section
        values = ((int(record["round"]), record.get(section, {}).get(metric)) for record in self.records)
        found = ((round, value.get(spread) if isinstance(value, dict) else value) for round, value in values)
        return {round: float(value) for round, value in found if value is not None}

    @property
    def final(self) -> dict[str, float | None]:
        """The numbers of the last evaluation, as a sweep's table has them."""
        return {name: value for name, value in numbers_of(self._newest).items() if name not in GIVEN}

    @property
    def personal(self) -> bool | None:
        """True if its clients have models of their own; None: no client was evaluated."""
        found = {*self._newest} & {*VIEWS.values()}
        return own(self._newest) == VIEWS["personal"] if found else None

    @cached_property
    def _newest(self) -> dict[str, Any]:
        """Each section of the newest record that has it."""
        return {name: section for record in self.records for name, section in record.items() if section}


@dataclass(frozen=True)
class Setting:
    """Runs that differ in their seed alone.

    Args:
        label: the words that tell it from the other settings; of the only one, the run's name.
        runs: its runs, by seed.
        differs: the keys that differ between settings, with its values.
    """

    label: str
    runs: Sequence[Told]
    differs: Mapping[str, str] = field(default_factory=dict)


def read_runs(folders: Sequence[Path], now: float) -> list[Told]:
    """Read the runs in some folders: run folders, sweeps, or folders that hold run folders.

    Raises:
        ConfigError: there is none, or one cannot be read.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder; name run folders, a sweep, or a folder that holds them")
        sweep = Sweep.at(folder)
        if sweep is not None:
            places = [sweep.run_folder(cell).path for cell, _ in sweep.everything()]
        else:
            places = [folder] if is_run(folder) else [*find_runs(folder)]
        there = [path for path in places if path.is_dir()]
        if not there:
            raise ConfigError(f"{folder}: there is no run in it")
        found |= {path.resolve(): path for path in there}
    return [Told.of(path, now) for path in found.values()]


def settings_of(runs: Sequence[Told]) -> list[Setting]:
    """Group runs by what they compute apart from their seed, in the order in which they are given."""
    kept = [{key: value for key, value in run.options.items() if _counts(key)} for run in runs]
    keys = list(dict.fromkeys(key for one in kept for key in one))
    differing = [key for key in keys if len({one.get(key) for one in kept}) > 1]
    groups: dict[tuple[str | None, ...], list[Told]] = {}
    for run, one in zip(runs, kept, strict=True):
        groups.setdefault(tuple(one.get(key) for key in differing), []).append(run)
    values = [dict(zip(differing, group, strict=True)) for group in groups]
    members = [sorted(group, key=lambda run: _natural(run.seed)) for group in groups.values()]
    folders = [[run.folder for run in own] for own in members]
    labels = labels_of(differing, values, folders) if len(groups) > 1 else [runs[0].status.name if runs else ""]
    return [
        Setting(label, own, {key: value for key, value in one.items() if value is not None})
        for label, own, one in zip(labels, members, values, strict=True)
    ]


def _counts(key: str) -> bool:
    return key != SEED and not _CIRCUMSTANCES.match(key)


def _natural(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdigit() else (1 << 62, text)
