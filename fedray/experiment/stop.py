"""The stop of a run with a checkpoint, on this machine or in its Slurm job, waited for."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedray.core.errors import ConfigError
from fedray.experiment.status import Status, read_status
from fedray.rundir import durable
from fedray.rundir.lock import Owner, owner_of
from fedray.rundir.names import COMPLETE, STOP, to_go_on
from fedray.slurm.commands import SlurmJob, ask, look_up
from fedray.slurm.requeue import HISTORY, owner

_PERIOD, _TELL = 0.5, 5.0


@dataclass(frozen=True)
class Stopped:
    """The end of a run that was asked to stop.

    Args:
        text: in words, with what goes on with it.
        saved: True if all that was done is safe: in a checkpoint, or as the finished run.
    """

    text: str
    saved: bool


def stop(
    run_dir: Path,
    tell: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Stopped:
    """Ask a run to end with a checkpoint, and wait until it has.

    A run of this machine is asked by a signal, one of a Slurm job by Slurm; a job that has not begun is cancelled.  A
    run that was asked before is not asked again, as a second signal would end it at once.

    Args:
        run_dir: the run folder.
        tell: is given what was done, and then how the run stands.
        clock: seconds, rising.
        pause: waits for so many seconds.

    Raises:
        ConfigError: nothing runs there, or it cannot be reached from here.
    """
    before = read_status(run_dir, time.time())
    job, driver = _job_of(run_dir), owner_of(run_dir)
    if job is not None and job.goes_on:
        tell(_ask_slurm(run_dir, job, driver))
        over: Callable[[], bool] = lambda: look_up(job.job).over  # noqa: E731
    else:
        if driver is None or driver.alive() is False:
            more = "" if before.state == "finished" else f"; it goes on with: {to_go_on(run_dir)}"
            raise ConfigError(f"nothing runs in {run_dir}: the run is {before.state}, at round {before.round:,}{more}")
        tell(_ask_process(run_dir, driver))
        over = lambda: _let_go(run_dir, driver)  # noqa: E731
    told = clock()
    while not over():
        pause(_PERIOD)
        if clock() >= told + _TELL:
            told = clock()
            tell(f"waiting for its checkpoint; round {_round(run_dir, before):,} is done")
    (run_dir / STOP).unlink(missing_ok=True)
    return _ended(run_dir, job)


def _job_of(run_dir: Path) -> SlurmJob | None:
    """Return the Slurm job that drives the run, by the file that names it; not one that it was started in by hand."""
    name = owner(run_dir / HISTORY)
    return None if name is None else look_up(name)


def _ask_slurm(run_dir: Path, job: SlurmJob, driver: Owner | None) -> str:
    if job.waits and driver is None:
        ask("scancel", job.job)
        return f"Slurm job {job.job} was {job.state}: cancelled"
    if not _first_time(run_dir, f"{job.job} {driver.token if driver else ''}"):
        return f"Slurm job {job.job} was asked to stop before; waiting for it"
    # After SIGINT to its batch script the job saves, ends, and is not requeued.
    ask("scancel", "--batch", "--signal=INT", job.job)
    return f"asked Slurm job {job.job} to stop with a checkpoint"


def _ask_process(run_dir: Path, driver: Owner) -> str:
    if driver.alive() is None:
        raise ConfigError(
            f"{run_dir} is driven by {driver.words()}\n{driver.distance()}: run `fedray stop` there; a Ray job is "
            "stopped by its name, fedray stop NAME --address http://HEAD:8265"
        )
    if not driver.launcher:
        raise ConfigError(f"{run_dir} is driven by {driver.words()}; it hears no signals: stop it where it was started")
    if not _first_time(run_dir, driver.token):
        return f"process {driver.launcher} was asked to stop before; waiting for it"
    os.kill(driver.launcher, signal.SIGTERM)
    return f"asked process {driver.launcher} to stop with a checkpoint"


def was_asked(run_dir: Path) -> bool:
    """Return whether :func:`stop` has asked the process that drives the run now to end."""
    try:
        driver = owner_of(run_dir)
    except ConfigError:  # what is damaged names nobody
        return False
    return driver is not None and _named(run_dir) == driver.token


def _named(run_dir: Path) -> object:
    """Return what names the driver that was asked to stop; None: none was."""
    try:
        return json.loads((run_dir / STOP).read_text())
    except (OSError, ValueError):
        return None


def _first_time(run_dir: Path, token: str) -> bool:
    """Note that this driver was asked; False if it had been."""
    if _named(run_dir) == token:
        return False
    durable.replace(run_dir / STOP, json.dumps(token).encode())
    return True


def _let_go(run_dir: Path, driver: Owner) -> bool:
    now = owner_of(run_dir)
    return now is None or now.token != driver.token or driver.alive() is False


def _round(run_dir: Path, before: Status) -> int:
    try:
        return read_status(run_dir, time.time()).round
    except ConfigError:
        return before.round


def _ended(run_dir: Path, job: SlurmJob | None) -> Stopped:
    go_on = f"fedray slurm {run_dir}" if job is not None else to_go_on(run_dir)
    try:
        seen = read_status(run_dir, time.time())
    except ConfigError:
        return Stopped("stopped before its first round; nothing was to be saved, and the folder is free", True)
    match seen.state:
        case state if state in COMPLETE:
            return Stopped(f"the run had come to its end: {seen.state}, after round {seen.round:,}", True)
        case "stopped":
            return Stopped(f"stopped after round {seen.round:,}, its checkpoint is saved; go on with: {go_on}", True)
        case "running":
            return Stopped("another driver has taken the run up since", False)
        case "failed":
            return Stopped(f"the run failed: {seen.error or 'see its log'}", False)
    if not seen.checkpoint:
        return Stopped(f"ended before its first checkpoint; go on with: {go_on}", seen.round == 0)
    words = f"ended; its newest checkpoint is that of round {seen.checkpoint:,}; go on with: {go_on}"
    return Stopped(words, job is not None and job.waits)
