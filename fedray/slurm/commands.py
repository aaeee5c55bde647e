"""Slurm's own commands, and what they say when they refuse."""

from __future__ import annotations

import re
import subprocess

from fedray.core.errors import ConfigError

_OVER = "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED TIMEOUT"
ENDED = frozenset(["", *_OVER.split()])
"""States of jobs of which nothing runs any more; without a word, Slurm has forgotten it."""

_FORGOTTEN = "Invalid job id"
_PREFIX = re.compile(r"^\w+: (error: )?")


def ask(program: str, *arguments: str) -> str:
    """What a Slurm command prints.

    Args:
        program: ``sbatch``, ``scontrol``...
        arguments: its arguments.

    Raises:
        ConfigError: it is not on this machine, or it refused, in Slurm's words.
    """
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise ConfigError(
            f"{program}: not on this machine; run this on a login node of the cluster, or look at it with --print"
        ) from None
    if done.returncode != 0:
        said = [_PREFIX.sub("", line) for line in done.stderr.splitlines() if line.strip()]
        raise ConfigError(f"{program}: {'; '.join(said[-3:]) or f'exit status {done.returncode}'}")
    return done.stdout


def host_names(node_list: str) -> list[str]:
    """``node[1-3]`` written out."""
    return ask("scontrol", "show", "hostnames", node_list).split()


def state_of(job: int | str) -> str:
    """``RUNNING``, ``CANCELLED``...; empty if Slurm does not know the job any more.

    Args:
        job: its id; of an array's task ``12_0``, as the id of one of the tasks is that of the whole array.
    """
    try:
        found = re.search(r"JobState=(\w+)", ask("scontrol", "show", "job", "-o", str(job)))
    except ConfigError:
        return ""
    return found[1] if found else ""


def over(job: int | str) -> bool:
    """Whether Slurm says that nothing of a job runs any more, or that it knows of no such job; not if it says nothing.

    Args:
        job: its id; an array's, which one of its tasks has as well, stands for all of them.
    """
    try:
        states = re.findall(r"JobState=(\w+)", ask("scontrol", "show", "job", "-o", str(job)))
    except ConfigError as error:
        return _FORGOTTEN in str(error)
    return bool(states) and ENDED.issuperset(states)
