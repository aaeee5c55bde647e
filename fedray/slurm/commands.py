"""Slurm's own commands, and what they say when they refuse."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedray.core.errors import ConfigError

_ENDED = frozenset(
    [
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    ]
)
"""The states in which nothing of a job runs, or will run by itself; in all others it waits, runs, or is ending."""

_WAITING = frozenset(["CONFIGURING", "PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"])
"""The states in which nothing of a job runs, but will, or could if somebody lets it."""

_SHARED = frozenset(["SLURM_CONF", "SLURM_CLUSTERS"])
"""Variables that say which Slurm it is."""

_PATIENCE = 10.0
_FORGOTTEN = "Invalid job id"
_PREFIX = re.compile(r"^\w+: (error: )?")


@dataclass(frozen=True)
class SlurmJob:
    """A job as Slurm tells of it.

    Args:
        job: its id; ``12_0`` of an array's task.
        state: Slurm's word (``PENDING``, ``RUNNING``...); for an array, that of a task that has not ended, if there is
            one; None: Slurm is not at hand, does not answer, or has forgotten the job.
        reason: the reason for that state, if Slurm gives one.
        forgotten: Slurm answers, and knows of no such job (any more).
    """

    job: str
    state: str | None = None
    reason: str | None = None
    forgotten: bool = False

    @property
    def goes_on(self) -> bool:
        """True where Slurm says that the job waits, runs, or comes to its end."""
        return self.state is not None and self.state not in _ENDED

    @property
    def waits(self) -> bool:
        """True where Slurm says that nothing of the job runs yet, or that it is to begin anew."""
        return self.state in _WAITING

    @property
    def over(self) -> bool:
        """True where Slurm says that nothing of the job runs or will run, or that it knows of no such job.

        False if Slurm says nothing.
        """
        return self.forgotten or self.state in _ENDED


def ask(program: str, *arguments: str, patience: float | None = None, env: Mapping[str, str] | None = None) -> str:
    """Return what a Slurm command prints.

    Args:
        program: ``sbatch``, ``scontrol``...
        arguments: its arguments.
        patience: seconds to wait for it; None: for ever.
        env: its environment; None: that of this process.

    Raises:
        ConfigError: it is not on this machine, or it refused, in Slurm's words.
    """
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=patience, env=env
        )
    except FileNotFoundError:
        raise ConfigError(
            f"{program}: not on this machine; run this on a login node of the cluster, or look at it with --print"
        ) from None
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{program}: no answer in {patience:g} s") from None
    if done.returncode != 0:
        said = [_PREFIX.sub("", line) for line in done.stderr.splitlines() if line.strip()]
        raise ConfigError(f"{program}: {'; '.join(said[-3:]) or f'exit status {done.returncode}'}")
    return done.stdout


def submit_script(script: Path) -> int:
    """Submit a batch script, and return the job's id.

    What a job says to its own programs (``SLURM_MEM_PER_CPU``...) is not passed on where one job submits another: it
    would be taken for options of that one.

    Raises:
        ConfigError: as :func:`ask`.
    """
    env = {name: value for name, value in os.environ.items() if name in _SHARED or not name.startswith("SLURM_")}
    return int(ask("sbatch", "--parsable", str(script), env=env).strip().partition(";")[0])


def host_names(node_list: str) -> list[str]:
    """Return the names of ``node[1-3]`` written out."""
    return ask("scontrol", "show", "hostnames", node_list).split()


def look_up(job: int | str) -> SlurmJob:
    """Return what Slurm says of a job.

    Args:
        job: its id; for a task of an array ``12_0``, as the bare id of a task may be that of the array, and then stands
            for all its tasks.
    """
    try:
        said = ask("scontrol", "show", "job", "-o", str(job), patience=_PATIENCE)
    except ConfigError as error:
        return SlurmJob(str(job), forgotten=_FORGOTTEN in str(error))
    tasks = [_parsed(str(job), line) for line in said.splitlines() if "JobState=" in line]
    return next((task for task in tasks if task.goes_on), tasks[0] if tasks else SlurmJob(str(job)))


def _parsed(job: str, line: str) -> SlurmJob:
    # A word without "=" continues the value before it, which is none of those that are wanted.
    words = dict(word.split("=", 1) for word in line.split() if "=" in word)
    reason = words.get("Reason")
    return SlurmJob(job, words.get("JobState"), None if reason == "None" else reason)
