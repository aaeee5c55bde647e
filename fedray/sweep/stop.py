"""The stop of several runs by their folder: of the process or the Slurm job that would begin more, and of each run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

from fedray.core.errors import ConfigError, counted
from fedray.experiment.status import slurm_job
from fedray.experiment.stop import Stopped, stop
from fedray.rundir.lock import owner_of
from fedray.rundir.names import CONFIG
from fedray.rundir.several import Several, at_work
from fedray.slurm.commands import ask
from fedray.slurm.stages import Waiting
from fedray.sweep.folder import Sweep

_TOGETHER = 16
_PERIOD = 0.5


def holds_several(folder: Path) -> bool:
    """Return whether a folder is that of a sweep, or a process does several runs in it now.

    Raises:
        ConfigError: the file of a sweep cannot be read.
    """
    return Sweep.at(folder) is not None or bool(at_work(folder))


def stop_several(
    folder: Path,
    tell: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Stopped:
    """Stop what runs and waits in a folder of several runs, and wait until it has ended.

    Args:
        folder: of all the run folders.
        tell: is given what was done, each line with the run that it is about.
        clock: seconds, rising.
        pause: waits for so many seconds.

    Raises:
        ConfigError: nothing there runs or waits.
    """
    waiting = Waiting.read(folder)
    cancelled = waiting is not None and waiting.state().goes_on
    if waiting is not None and cancelled:
        ask("scancel", str(waiting.job))
        tell(f"job {waiting.job}, which would have submitted the next stage: cancelled")
    beginners = at_work(folder)
    for one in beginners:
        tell(_asked(one))
    here = [one for one in beginners if one.owner.alive() is True]
    ended: dict[Path, Future[Stopped]] = {}
    given_up = threading.Event()

    def still(seconds: float) -> None:
        pause(seconds)
        if given_up.is_set():
            raise ConfigError("nobody waits for it any more")

    def end(run: Path) -> Stopped:
        try:
            return stop(run, lambda words: tell(f"{run.name}: {words}"), clock, still)
        except ConfigError as error:  # it has ended meanwhile, or cannot be reached
            return Stopped(str(error), not _goes_on(run))

    goes_on = _goes_on
    with ThreadPoolExecutor(_TOGETHER) as pool, _setting(given_up):
        while True:
            # Looked at before the runs: who has ended by now has begun no other one.
            over = all(one.ended for one in here)
            every = [path.parent for path in sorted(folder.glob(f"*/{CONFIG}"))]
            # All before the first is stopped: one task of an array may take others with it.
            going = [run for run in every if run not in ended and goes_on(run)]
            ended |= {run: pool.submit(end, run) for run in going}
            if over:
                break
            goes_on = _driven_here  # what is new is theirs, and Slurm is asked once
            pause(_PERIOD)
        wait(ended.values())
    if not (ended or cancelled or beginners):
        raise ConfigError(f"nothing runs in {folder}")
    for run, future in ended.items():
        tell(f"{run.name}: {future.result().text}")
    command = f"fedray sweep {folder}{'' if waiting is None else ' --slurm'}"
    go_on = f"go on with: {command}" if Sweep.at(folder) is not None else "the same command goes on"
    saved = len(here) == len(beginners) and all(future.result().saved for future in ended.values())
    return Stopped(f"stopped {counted(len(ended), 'run')}; {go_on}", saved)


@contextmanager
def _setting(event: threading.Event) -> Iterator[None]:
    """Set an event at the end of the context, also after Ctrl-C."""
    try:
        yield
    finally:
        event.set()


def _asked(one: Several) -> str:
    """Ask a process to begin no further run, and say so."""
    first = one.ask()
    if one.owner.alive() is None:
        return f"{one.owner.words()} begins no further run; {one.owner.distance()}: stop what it runs now there"
    again = f"process {one.owner.pid} was asked to begin no further run before; waiting for it"
    return f"process {one.owner.pid} begins no further run" if first else again


def _goes_on(folder: Path) -> bool:
    job = slurm_job(folder)
    return (job is not None and job.goes_on) or _driven_here(folder)


def _driven_here(folder: Path) -> bool:
    driver = owner_of(folder)
    return driver is not None and driver.alive() is True
