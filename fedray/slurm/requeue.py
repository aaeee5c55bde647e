"""The requeue of a job: a pure decision, and the history that it looks at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedray.core.errors import ConfigError, listed
from fedray.rundir import durable
from fedray.slurm.allocation import Allocation

HISTORY = "slurm.json"
"""The file of a run folder that names its job."""

STOPPED = 75
"""Exit status of a run that stopped with a checkpoint, to be resumed."""

_WITHOUT_PROGRESS = 2


@dataclass(frozen=True)
class History:
    """The requeues of a job.

    Args:
        job: Slurm's job id; of an array's task, that of the array and its place there, ``12_0``.
        rounds: rounds that were safe at each requeue, in order.
    """

    job: int | str
    rounds: tuple[int, ...] = ()

    @classmethod
    def read(cls, path: Path, job: int | str) -> History:
        """Read the history of ``job``; empty if the file speaks of another job, or there is none."""
        found = _content(path)
        return cls(job, tuple(found["rounds"])) if found.get("job") == job else cls(job)

    def write(self, path: Path) -> None:
        """Replace the file at once."""
        durable.replace(path, json.dumps(asdict(self)).encode())

    def claim(self, path: Path) -> bool:
        """Make the file if there is none; return whether it speaks of this job: of several jobs at once, of one."""
        return durable.create(path, json.dumps(asdict(self)).encode()) or owner(path) == self.job

    def and_now(self, rounds: int) -> History:
        """Return the history with one more requeue."""
        return History(self.job, (*self.rounds, rounds))


def owner(path: Path) -> int | str | None:
    """Return the job that a history file speaks of; None: there is no file."""
    return _content(path).get("job")


def belongs_to_job(run_dir: Path, env: Mapping[str, str]) -> bool:
    """Return whether a run is driven by the Slurm job that this process is in, and not by hand from inside of one."""
    with suppress(ConfigError):
        return owner(run_dir / HISTORY) == Allocation.from_env(env).name
    return False


def _content(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found


@dataclass(frozen=True)
class Verdict:
    """The future of a job whose driver has ended, and the reason, in words for the log.

    Args:
        requeue: it puts itself back into the queue.
        reason: the reason for it, or against it.
        by_slurm: it may come back all the same, as Slurm decides.
    """

    requeue: bool
    reason: str
    by_slurm: bool = False


def verdict(
    status: int, lost: Sequence[str], history: History, rounds: int, most: int, state: str | None = "RUNNING"
) -> Verdict:
    """Decide what becomes of a job.

    Args:
        status: the driver's exit status.
        lost: nodes that the job had at its start and has no more.
        history: the requeues so far.
        rounds: rounds that are safe in a checkpoint now.
        most: the most requeues of a job.
        state: Slurm's word for the job now; one that was cancelled, preempted, or has used up its time, is Slurm's to
            end or to start again.
    """
    if status == STOPPED:
        why = "the run stopped with a checkpoint"
    elif status != 0 and lost:
        why = f"the run failed with {listed(lost)} lost"
    else:
        return Verdict(False, "the run has finished" if status == 0 else f"the run ended with status {status}")
    if state != "RUNNING":
        called = f"it calls the job {state}" if state else "it says nothing of the job"
        return Verdict(
            False, f"{why} after round {rounds}; whether it is requeued is up to Slurm: {called}", by_slurm=True
        )
    before = history.rounds
    if len(before) >= most:
        return Verdict(False, f"{why}; requeued {len(before)} times already (cluster.max_requeues={most})")
    recent = before[-_WITHOUT_PROGRESS:]
    if len(recent) == _WITHOUT_PROGRESS and min(recent) >= rounds:
        return Verdict(False, f"{why}; the last {_WITHOUT_PROGRESS} requeues brought no round beyond {rounds}")
    return Verdict(True, f"{why} after round {rounds}")


def safe_rounds(run_dir: Path) -> int:
    """Return the round of a run's newest checkpoint, 0 without one."""
    names = [path.name.rpartition("-")[2] for path in (run_dir / "checkpoints").glob("round-*")]
    return max((int(name) for name in names if name.isdigit()), default=0)
