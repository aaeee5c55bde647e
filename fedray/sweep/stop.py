"""The stop of a sweep that runs on Slurm: of the job that would submit more, and of all runs with a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fedray.core.errors import ConfigError, counted
from fedray.experiment.status import slurm_job
from fedray.experiment.stop import Stopped, stop
from fedray.rundir.lock import owner_of
from fedray.slurm.commands import ask
from fedray.slurm.stages import Waiting
from fedray.sweep.folder import Sweep

_TOGETHER = 16


def stop_sweep(
    sweep: Sweep,
    tell: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Stopped:
    """Stop what runs and waits of a sweep, and wait until it has ended.

    Args:
        sweep: the sweep.
        tell: is given what was done, each line with the run that it is about.
        clock: seconds, rising.
        pause: waits for so many seconds.

    Raises:
        ConfigError: nothing of it runs or waits.
    """
    waiting = Waiting.read(sweep.folder)
    cancelled = waiting is not None and waiting.state().goes_on
    if waiting is not None and cancelled:
        ask("scancel", str(waiting.job))
        tell(f"job {waiting.job}, which would have submitted the next stage: cancelled")
    folders = [sweep.run_folder(cell).path for cell in sweep.cells]
    going = [folder for folder in folders if folder.exists() and _goes_on(folder)]
    if not going and not cancelled:
        raise ConfigError(f"nothing runs in {sweep.folder}")

    def one(folder: Path) -> Stopped:
        try:
            return stop(folder, lambda words: tell(f"{folder.name}: {words}"), clock, pause)
        except ConfigError as error:  # it has ended meanwhile, or cannot be reached
            return Stopped(str(error), not _goes_on(folder))

    with ThreadPoolExecutor(_TOGETHER) as pool:
        ended = dict(zip(going, pool.map(one, going), strict=True))
    for folder, end in ended.items():
        tell(f"{folder.name}: {end.text}")
    go_on = f"go on with: fedray sweep {sweep.folder}{'' if waiting is None else ' --slurm'}"
    return Stopped(f"stopped {counted(len(going), 'run')}; {go_on}", all(end.saved for end in ended.values()))


def _goes_on(folder: Path) -> bool:
    driver = owner_of(folder)
    job = slurm_job(folder)
    return (job is not None and job.goes_on) or (driver is not None and driver.alive() is True)
