"""A second, short job beside a run in a Ray job, which sees the run's folder and its processes."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable

from fedray.cluster.jobs.client import Info, Jobs
from fedray.core.errors import ConfigError

RUN_DIR, PYTHON = "fedray_run_dir", "fedray_python"
"""Names of a job's metadata: its run folder as the cluster's shell writes it, and its interpreter."""


def stop_job(jobs: Jobs, name: str, show: Callable[[str], None]) -> int:
    """Stop the run of a job with a checkpoint, wait for it, and return the exit status of ``fedray stop`` there.

    Ray's own stop is not used: it kills after three seconds, however long a checkpoint takes.

    Args:
        jobs: the cluster's job server.
        name: the job.
        show: is given what ``fedray stop`` prints there.

    Raises:
        ConfigError: there is no such job, it has ended, or it is none of ``fedray submit``.
    """
    info = jobs.info(name)
    if info.ended is not None:
        raise ConfigError(f"{name}: the job has ended: {info.ended.state}")
    command = _command(info, "stop")
    if command is None:
        raise ConfigError(f"{name}: no job of `fedray submit`; Ray's own stop is `ray job stop {name}`")
    if info.waits:
        jobs.stop(name)
        show(f"the job {name} had not begun: cancelled\n")
        return 0
    return run_beside(jobs, name, info, command, show)


def state_of_run(jobs: Jobs, name: str) -> str | None:
    """Return the state of a job's run, as ``fedray status`` says it there; None if it says nothing."""
    info = jobs.info(name)
    command = _command(info, "status")
    if command is None:
        return None
    said: list[str] = []
    run_beside(jobs, name, info, f"{command} --json", said.append)
    for line in "".join(said).splitlines():
        if line.startswith("{"):
            state: str = json.loads(line)["state"]
            return state
    return None


def run_beside(jobs: Jobs, name: str, info: Info, command: str, show: Callable[[str], None]) -> int:
    """Run a command as a job with the files of another job, show its log, and return its exit status."""
    beside = f"{name}_{secrets.token_hex(2)}"
    jobs.start(command, beside, info.working_dir)
    for piece in jobs.follow(beside):
        show(piece)
    ended = jobs.end_of(beside)
    return 1 if ended.status is None else ended.status


def _command(info: Info, verb: str) -> str | None:
    run_dir, python = info.metadata.get(RUN_DIR), info.metadata.get(PYTHON)
    return f"{python} -m fedray {verb} {run_dir}" if run_dir and python else None
