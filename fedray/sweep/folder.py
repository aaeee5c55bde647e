"""A sweep on disk: a run folder for each cell below one folder, and how far each has come."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fedray.config.layers import ConfigFile, on_slurm, overlay
from fedray.config.sections import ClusterSection
from fedray.core.errors import ConfigError, one_line
from fedray.experiment.build import Config
from fedray.experiment.experiment import Experiment
from fedray.run.budget import LAST_ROUND
from fedray.rundir import durable
from fedray.rundir.folder import RunFolder
from fedray.rundir.names import COMPLETE, CONFIG, SWEEP
from fedray.rundir.tree import SWEEPS, folder_of
from fedray.sweep.finished import CIRCUMSTANCES, check_same, differing, warn_of_changes
from fedray.sweep.grid import SEED, Cell, axes_of, digested
from fedray.sweep.names import Names, identity, named, names_of
from fedray.sweep.search import Search, Setting
from fedray.sweep.table import Outcome, Row, numbers_of, tabulate, write_table


@dataclass(frozen=True)
class Sweep:
    """The runs of a config over a grid.

    Args:
        config: the YAML file.
        axes: ``key=value,value...``.
        cells: the grid of the axes.
        folder: of all runs; a cell's run folder is named after it.
        slurm: options laid over the ``cluster`` section of every run to send it to Slurm; None: it runs as it says.
        search: the options of drawing settings, and of letting the better ones go on.
        batches: the settings that were drawn one batch after the other, where later ones depend on earlier ones.
        until: the round after which runs are to pause with a checkpoint; None: they run to their end.
        workers: workers of each run whose config leaves that open; None: as many as there is room for.
    """

    config: Path
    axes: tuple[str, ...]
    cells: tuple[Cell, ...]
    folder: Path
    slurm: dict[str, Any] | None = None
    search: Search = field(default_factory=Search)
    batches: tuple[tuple[Setting, ...], ...] = ()
    until: int | None = None
    workers: int | None = None

    @classmethod
    def of(
        cls,
        config: Path,
        axes: Sequence[str],
        folder: Path | None,
        search: Search | None = None,
        batches: Sequence[Sequence[Setting]] = (),
    ) -> Sweep:
        """Make the sweep of some axes.

        Args:
            config: the YAML file.
            axes: ``key=value,value...``, see :func:`fedray.sweep.grid.grid`.
            folder: default ``sweeps/<config name>``.
            search: default: every combination is run to its end.
            batches: the settings that were drawn before.

        Raises:
            ConfigError: a mistake in an axis.
        """
        drawn = tuple(map(tuple, batches))
        place = folder or folder_of(config.stem, SWEEPS)
        sweep = cls(config, tuple(axes), (), place, search=search or Search(), batches=drawn)
        return replace(sweep, cells=sweep.cells_of(drawn))

    @classmethod
    def at(cls, folder: Path) -> Sweep | None:
        """Return the sweep whose runs are in a folder; None: it holds no sweep.

        Raises:
            ConfigError: the file that says so cannot be read.
        """
        found = _read(folder)
        return None if found is None else cls.of(found.config, found.axes, folder, found.search, found.batches)

    def cells_of(self, batches: Sequence[Sequence[Setting]]) -> tuple[Cell, ...]:
        """Return the cells with what was drawn, each by the name that it has in the folder, or gets there.

        Raises:
            ConfigError: a mistake in an axis, or the file that says what was in the folder before cannot be read.
        """
        cells = self.search.cells(self.axes, batches)
        return named(cells, axes_of(self.axes), self._found().names, self.folder, CIRCUMSTANCES)

    def _found(self) -> _Kept:
        """Return what the folder says of what was run in it."""
        return _read(self.folder) or _Kept(self.config, [], Search(), [], {}, [])

    def continued(self) -> Sweep:
        """Return the sweep with the settings that were drawn for it before, where later ones depend on them.

        Raises:
            ConfigError: its folder holds a search of another kind.
        """
        if self.search.sampler != "tpe" or (before := Sweep.at(self.folder)) is None:
            return self
        for name in ("sampler", "by", "mode", "rungs", "factor", "seed"):
            then, now = getattr(before.search, name), getattr(self.search, name)
            if then != now:
                raise ConfigError(f"{self.folder} holds a search with {name} {then}, not {now}; take another --dir")
        if before.axes != self.axes:
            raise ConfigError(
                f"{self.folder} holds a search over other values ({' '.join(before.axes)}); take another --dir"
            )
        cells = self.cells_of(before.batches)
        return self.but(batches=before.batches, cells=cells)

    def but(self, **changes: Any) -> Sweep:
        """Return the sweep with some fields changed, and the config file as it was read."""
        other = replace(self, **changes)
        vars(other)["file"] = self.file
        return other

    @cached_property
    def file(self) -> ConfigFile:
        """The config file, read once: all runs of a sweep are of one text, whatever becomes of the file meanwhile."""
        return ConfigFile.read(self.config)

    def begin(self) -> None:
        """Make the folder, and write down whose it is: each run that ends there then brings the table up to date.

        Raises:
            ConfigError: it cannot be written.
        """
        # What was here before is read again: another sweep may have begun in the folder meanwhile.
        names = {**self._found().names, **names_of(self.cells)}
        content: dict[str, Any] = {"config": str(self.config.absolute()), "axes": self.axes, "names": names}
        content["earlier"] = [cell.name for cell in self.before()[0]]
        if self.search != Search():
            content |= {"search": self.search.to_json(), "batches": self.batches}
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            durable.replace(self.folder / SWEEP, json.dumps(content, indent=1).encode())

    def check(self, cells: Sequence[Cell]) -> None:
        """Read and bind the configs of cells, so that a mistake is found before anything starts.

        Warns of finished runs that are of other code or other data; where the sweep goes to Slurm, data lie elsewhere.

        Raises:
            ConfigError: a mistake in a config, or a cell's folder holds a run of another one.
        """
        runs = [(self.run_folder(cell), self.config_of(cell)) for cell in cells]
        for folder, config in runs:
            check_same(folder, config, "the sweep")
        warn_of_changes(runs, data=self.slurm is None)

    def run_folder(self, cell: Cell) -> RunFolder:
        """Return the folder of a cell's run, there or not."""
        return RunFolder(self.folder / cell.name)

    def status(self, cell: Cell) -> str:
        """Return ``new``, ``begun``, or the status in the run's summary."""
        folder = self.run_folder(cell)
        if not (folder.path / CONFIG).exists():
            return "new"
        return str(folder.summary().get("status", "begun"))

    def done(self, cell: Cell) -> bool:
        """Return True if nothing is left to do for a cell, up to the round after which it is to pause."""
        summary = self.run_folder(cell).summary()
        if (paused := paused_after(summary)) is None:
            return summary.get("status") in COMPLETE
        own = (self.file.content.get("budget") or {}).get("last_round")
        last = self.until or dict(cell.settings).get(LAST_ROUND, own)
        return last is not None and paused >= int(last)

    def place(self, cell: Cell) -> ClusterSection:
        """Return the ``cluster`` section of a cell."""
        return self.config_of(cell).place.cluster

    def claim(self, cell: Cell) -> None:
        """Make a cell's run folder for a run that is to begin, or to go on, in another process.

        Raises:
            ConfigError: the config is wrong, or the folder cannot be written.
        """
        folder, config = self.run_folder(cell), self.config_of(cell)
        if self.status(cell) == "new":
            folder.claim(config.to_yaml(), config.code())
        else:
            folder.keep_config(config.to_yaml())

    def experiment(self, cell: Cell) -> Experiment:
        """Build a cell's run, fresh or to be resumed.

        Raises:
            ConfigError: it cannot be built.
        """
        folder = self.run_folder(cell)
        begun = (folder.path / CONFIG).exists()
        experiment = self.config_of(cell).experiment(folder, resume=begun)
        if begun:
            folder.keep_config(experiment.run.config)
        return experiment

    def before(self) -> tuple[list[Cell], list[Cell]]:
        """Return the cells of sweeps before in the folder: those whose runs stand in its table, and those left out.

        The table is of one config: left out is what was run with another text of it.  A run that is one of this sweep's
        under another name is in neither.
        """
        found = self._found()
        others = found.others(self.cells)
        if not others or not self.config.exists():  # without it, what stood there stays
            return [cell for cell in others if cell.name in found.earlier], []
        kept, left = list[Cell](), list[Cell]()
        seed = str(self.file.content.get(SEED, ""))
        known = {identity(cell, seed) for cell in self.cells}
        for cell in others:
            if identity(cell, seed) not in known:
                known.add(identity(cell, seed))
                (kept if self._of_this_config(cell) else left).append(cell)
        return kept, left

    def _of_this_config(self, cell: Cell) -> bool:
        folder = self.run_folder(cell)
        try:
            return not (folder.path / CONFIG).exists() or not any(differing(folder, self.config_of(cell)))
        except ConfigError:  # as the config does not know its keys any more
            return False

    def everything(self) -> list[tuple[Cell, bool]]:
        """Return the cells of the folder's table, the sweep's own first: each, and True for one of a sweep before."""
        found = self._found()
        before = [
            cell for cell in found.others(self.cells) if cell.name in found.earlier and self.status(cell) != "new"
        ]
        return [*((cell, False) for cell in self.cells), *((cell, True) for cell in before)]

    def rows(self) -> list[Row]:
        """Make the table of the runs' summaries as they are now: of the sweep, and of those before in its folder."""
        every = [(_outcome(cell, self.run_folder(cell)), earlier) for cell, earlier in self.everything()]
        return tabulate([replace(outcome, earlier=earlier) for outcome, earlier in every])

    def write_table(self) -> list[Row]:
        """Write the table as the runs' summaries are now, and give it.

        Raises:
            ConfigError: it cannot be written.
        """
        rows = self.rows()
        with self._writing():
            while True:
                write_table(self.folder, rows)
                # Another run may have ended, and written its table, between our reading and our writing: looking again
                # makes sure that whoever writes last has seen them all.
                before, rows = rows, self.rows()
                if rows == before:
                    return rows

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigError(f"{self.folder}: cannot be written: {error.strerror or error}") from None

    def config_of(self, cell: Cell) -> Config:
        """Return a cell's config, bound.

        Raises:
            ConfigError: a mistake in it.
        """
        raw, resolved = self.file.layers(cell.overrides)
        if self.until is not None:
            pause: dict[str, Any] = {"budget": {"last_round": self.until}}
            raw, resolved = overlay(raw, pause), overlay(resolved, pause)
        if self.workers is not None and (resolved.get("cluster") or {}).get("workers", "auto") == "auto":
            room: dict[str, Any] = {"cluster": {"workers": self.workers}}
            raw, resolved = overlay(raw, room), overlay(resolved, room)
        if self.slurm is not None:
            raw, resolved = on_slurm(raw, self.slurm), on_slurm(resolved, self.slurm)
        return Config.bind(cell.name, raw, resolved)


@dataclass(frozen=True)
class _Kept:
    """The file of a sweep, which says what is run in its folder, and what was."""

    config: Path
    axes: list[str]
    search: Search
    batches: list[list[Setting]]
    names: Names
    earlier: list[str]

    def others(self, own: Iterable[Cell]) -> list[Cell]:
        """Return the cells that the folder has had beside those of a sweep."""
        names = {cell.name for cell in own}
        every = enumerate(self.names.items())
        return [Cell(number, tuple(said.items()), name) for number, (name, said) in every if name not in names]


def _read(folder: Path) -> _Kept | None:
    """Read the file of a sweep; None: there is none.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        content = json.loads((folder / SWEEP).read_text())
        config, axes = Path(content["config"]), content["axes"]
        batches = [[tuple((key, value) for key, value in one) for one in batch] for batch in content.get("batches", ())]
        search = Search.from_json(content.get("search", {}))
        # Earlier versions did not write the names down, and had all settings in each.
        names = content.get("names") or {digested(c.settings): dict(c.settings) for c in search.cells(axes, batches)}
        return _Kept(config, axes, search, batches, names, content.get("earlier", []))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder / SWEEP}: cannot be read: {one_line(error)}") from None


def paused_after(summary: Mapping[str, Any]) -> int | None:
    """Return the round after which a run paused; None: it did not pause."""
    paused = summary.get("status") == "budget" and str(summary.get("budget")).startswith(LAST_ROUND)
    return int(summary["rounds"]) if paused else None


def _outcome(cell: Cell, folder: RunFolder) -> Outcome:
    """Make an outcome from one reading of the run's summary."""
    summary = folder.summary()
    status = summary.get("status")
    if status not in COMPLETE:
        return Outcome(cell, failed=status == "failed")
    final: dict[str, Any] = summary.get("final") or {}
    missing = final.get("evaluated", {}).get("missing")
    metrics = numbers_of(final) | ({"clients_test.missing": missing} if missing else {})
    return Outcome(cell, metrics, paused=paused_after(summary))
