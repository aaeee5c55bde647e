"""The logs of a run, as they are and as they grow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fedray.core.errors import ConfigError
from fedray.experiment.status import read_status
from fedray.rundir.names import LOG, WORKERS

_PERIOD = 1.0


def lines(
    run_dir: Path, workers: bool = False, follow: bool = False, pause: Callable[[float], None] = time.sleep
) -> Iterator[str]:
    """Yield the lines of a run's log, of its Slurm job's where it has not begun, or of its workers'.

    Args:
        run_dir: the run folder.
        workers: the output of clients' code, ``workers/*.log``, each line behind its worker's name.
        follow: go on until the run is over.
        pause: waits for so many seconds.

    Raises:
        ConfigError: there is no run, or no log yet.
    """
    read: dict[Path, int] = {}
    while True:
        # In this order: what is written before the end is read after it was seen.
        over = read_status(run_dir, time.time()).over
        files = _files(run_dir, workers)
        if not files and (over or not follow):
            kind = "its workers have written nothing" if workers else "the run has not begun"
            raise ConfigError(f"{run_dir}: there is no log yet: {kind}")
        for file in files:
            yield from (f"{file.stem}: {line}" if workers else line for line in _new(file, read))
        if over or not follow:
            return
        pause(_PERIOD)


def _files(run_dir: Path, workers: bool) -> list[Path]:
    if workers:
        return sorted((run_dir / WORKERS).glob("*.log"))
    if (run_dir / LOG).exists():
        return [run_dir / LOG]
    return sorted(run_dir.glob("slurm-*.log"), key=lambda path: path.stat().st_mtime)[-1:]


def _new(file: Path, read: dict[Path, int]) -> Iterator[str]:
    """Yield whole lines beyond what was read of a file."""
    with file.open("rb") as opened:
        opened.seek(read.get(file, 0))
        text, end, _ = opened.read().rpartition(b"\n")
    read[file] = read.get(file, 0) + len(text) + len(end)
    if end:
        yield from text.decode(errors="replace").split("\n")
