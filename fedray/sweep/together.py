"""Several runs of a sweep at once on this machine, each in a process of its own, all on one Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from fedray.core.cpus import usable_cpus
from fedray.core.errors import ConfigError
from fedray.experiment.stop import was_asked
from fedray.run.interrupt import STOPPED
from fedray.rundir.lock import check_free
from fedray.sweep.folder import Sweep, paused_after
from fedray.sweep.grid import Cell

_PAUSE = 0.1
_OUTPUT = "sweep-output.txt"


@dataclass(frozen=True)
class Left:
    """The runs that did not come to their end, in the order of the cells.

    Args:
        failed: the names of the cells whose runs failed, each with the reason, its process's last words.
        stopped: the names of those that were stopped alone, with a checkpoint.
    """

    failed: dict[str, str]
    stopped: list[str]


class Stopped(Exception):
    """The end of all runs by a request, each with a checkpoint."""


def run_together(
    sweep: Sweep,
    cells: Sequence[Cell],
    at_once: int,
    tell: Callable[[Cell, str], None],
    asked: Callable[[], bool] = lambda: False,
) -> Left:
    """Run cells, so many at once, and return those that did not come to their end.

    A run whose config leaves the number of its workers open has its share of the CPUs: what it computes is the same for
    any number.

    Args:
        sweep: the sweep; its ``until`` is the round after which the runs pause.
        cells: those to be run.
        at_once: processes.
        tell: is called with each cell that begins, or ends, and a word.
        asked: returns True once no further run is to begin; whoever asks stops those that are under way.

    Raises:
        Stopped: after a signal, or as ``asked`` says; every run has saved its checkpoint.
        ConfigError: a run folder cannot be written.
    """
    own = {cell.name: _with_room(sweep, cell, min(at_once, len(cells))) for cell in cells}
    on_ray = any(sweep.place(cell).name == "ray" for cell in cells)
    waiting, ended = list(cells), dict[str, int]()
    going: dict[str, tuple[Cell, subprocess.Popen[bytes]]] = {}
    with _ray(sweep, cells[0]) if on_ray else _nothing() as environment, _stopping(sweep, going) as heard:
        while going or (waiting and not (heard or asked())):
            while waiting and len(going) < at_once and not (heard or asked()):
                cell = waiting.pop(0)
                check_free(sweep.run_folder(cell).path)
                own[cell.name].claim(cell)
                going[cell.name] = cell, _started(sweep.run_folder(cell).path, environment)
                tell(cell, "begins")
            for name, (cell, process) in list(going.items()):
                if (status := process.poll()) is None:
                    continue
                del going[name]
                # What a signal has ended has not failed, whatever its status.
                ended[name] = STOPPED if status and heard else status
                tell(cell, {0: _words(sweep, cell), STOPPED: "stopped"}.get(ended[name], "failed"))
            time.sleep(_PAUSE)
    if heard or ((waiting or STOPPED in ended.values()) and asked()):
        raise Stopped
    status_of = {cell: ended[cell.name] for cell in cells}
    return Left(
        {
            cell.name: _last_words(sweep.run_folder(cell).path, status)
            for cell, status in status_of.items()
            if status not in (0, STOPPED)
        },
        [cell.name for cell, status in status_of.items() if status == STOPPED],
    )


def _words(sweep: Sweep, cell: Cell) -> str:
    paused = paused_after(sweep.run_folder(cell).summary())
    return sweep.status(cell) if paused is None else "there"


def _with_room(sweep: Sweep, cell: Cell, at_once: int) -> Sweep:
    """Return the sweep with the number of workers that leaves room for the others."""
    cpus = sweep.config_of(cell).place.worker.together.cpus
    return sweep.but(workers=max(1, int(usable_cpus().count / at_once / max(cpus, 1e-9))))


def _started(folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start the process of a run; its output goes to a file of the run folder."""
    with (folder / _OUTPUT).open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "fedray", "resume", str(folder), "--quiet"],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C at the terminal is handed on once, by us
        )


def _last_words(folder: Path, status: int) -> str:
    lines = (folder / _OUTPUT).read_text(errors="replace").strip().splitlines()
    said = [line.removeprefix("fedray: ") for line in lines if line.startswith("fedray: ")]
    return (said or lines or [f"its process ended with status {status}"])[-1]


@contextmanager
def _nothing() -> Iterator[dict[str, str]]:
    yield {}


@contextmanager
def _ray(sweep: Sweep, cell: Cell) -> Iterator[dict[str, str]]:
    """Start the one Ray that the runs join, unless the environment names one; yield what its address is told by."""
    from fedray.cluster.start.head import ahead, connected, joins, take

    if joins() or connected():
        yield {}
        return
    place = sweep.config_of(cell).place
    with ahead(replace(place.cluster, dashboard=False), place.worker):
        head = take()
        if head is None:
            raise ConfigError("--at-once: Ray was imported before; start the sweep in a process of its own")
        try:
            yield {"RAY_ADDRESS": head.address()}
        finally:
            head.close()


@contextmanager
def _stopping(sweep: Sweep, going: dict[str, tuple[Cell, subprocess.Popen[bytes]]]) -> Iterator[list[int]]:
    """Hand the first signal on to the runs, which save a checkpoint; a second one ends them at once."""
    heard: list[int] = []

    def handle(number: int, _: object) -> None:
        heard.append(number)
        for cell, process in list(going.values()):
            if len(heard) == 1 and was_asked(sweep.run_folder(cell).path):
                continue  # it has had its first signal by `fedray stop`
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM if len(heard) == 1 else signal.SIGKILL)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield heard
    finally:
        for number, was in before.items():
            signal.signal(number, was)
        for _, process in list(going.values()):
            process.kill()
            process.wait()
