"""The tree that run folders lie in: which folders are some, and where a new one may be.  None lies within another."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from fedray.core.errors import ConfigError
from fedray.rundir.names import CLIENTS, CONFIG, LOG, METRICS, SUMMARY, WORKERS

RUNS, SWEEPS = Path("runs"), Path("sweeps")
"""The folders of runs, and of sweeps, for which no other is named."""

_BESIDE = ("checkpoints", METRICS, SUMMARY, LOG)
_OWN = ("checkpoints", "state", WORKERS, CLIENTS)
_DEEP = 2


def is_run(folder: Path) -> bool:
    """Return whether a folder is that of a run, begun or submitted."""
    return (folder / CONFIG).is_file() and any((folder / name).exists() for name in _BESIDE)


def find_runs(folder: Path, depth: int | None = None) -> Iterator[Path]:
    """Yield the run folders in and below a folder, in the order of their names.

    Earlier versions made some within others, which are found, too.

    Args:
        folder: the folder.
        depth: the number of levels below it that are looked at; None: all.
    """
    for place, below, _ in os.walk(folder):
        here = Path(place)
        if is_run(here):
            below[:] = [name for name in below if name not in _OWN]
            yield here
        if depth is not None and len(here.relative_to(folder).parts) >= depth:
            below.clear()
        below.sort()


def new_folder(name: str) -> Path:
    """Return the path of a new run folder, named by the run and the time."""
    default = folder_of(name) / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    same_second = (default.with_name(f"{default.name}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([default], same_second) if not path.exists())


def folder_of(name: str, top: Path = RUNS) -> Path:
    """Return the folder of the runs of a config: ``TOP/NAME``, or ``TOP/NAME-2`` where that one is a run itself."""
    numbered = (top / f"{name}-{number}" for number in itertools.count(2))
    return next(path for path in itertools.chain([top / name], numbered) if not is_run(path))


def check_apart(folder: Path) -> None:
    """Check that a new run folder lies in no other, and that none lies in it: to delete one deletes no other.

    Raises:
        ConfigError: it does, or one does.
    """
    if outer := next(filter(_has_trained, folder.absolute().parents), None):
        raise ConfigError(f"run folder {folder}: it lies within that of another run, {outer}; choose one beside it")
    if inner := next(filter(_has_trained, find_runs(folder, _DEEP)), None):
        raise ConfigError(f"run folder {folder}: other runs lie in it, such as {inner}; choose one beside them")


def check_writable(folder: Path) -> None:
    """Check that a run folder can be made, or written where there is one, as far as a look shows it: nothing is made.

    Raises:
        ConfigError: a file is in its place or in that of a folder around it, or this account may not write there.
    """
    whole = folder.absolute()
    there = next(place for place in (whole, *whole.parents) if os.access(place, os.F_OK))
    if not there.is_dir():
        raise ConfigError(f"run.dir: {folder} cannot be written: {there} is a file; choose another run.dir")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"run.dir: {folder} cannot be written: {there} is read-only here; choose another run.dir")


def _has_trained(folder: Path) -> bool:
    """Return whether a run has begun here: a project of a user's own may have a config and a folder of checkpoints."""
    return all((folder / name).is_file() for name in (CONFIG, METRICS, LOG))
