"""The small job that submits the next stage of a sweep, once the runs of this one have ended."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from fedray.config.sections import SlurmSection
from fedray.core.errors import ConfigError, one_line
from fedray.rundir import durable
from fedray.slurm.batch import directives
from fedray.slurm.commands import SlurmJob, look_up, submit_script

SCRIPT, FILE = "next.sbatch", "stages.json"

_TIME, _MEM = "00:30:00", "2G"
# Options that say where a job may run and whose it is; all others are about how large or how long the runs are.
_PLACE = frozenset(["clusters", "comment", "constraint", "exclude", "nodelist", "reservation", "wckey"])
_ABOUT = "# When the runs of a stage have ended: compares them, and submits those that go on."


@dataclass(frozen=True)
class Waiting:
    """A job that waits for the runs of a stage, as the sweep's folder has it.

    Args:
        job: its id.
        cells: the names of the runs.
        until: the round after which they pause; None: they run to their end.
        options: those that the sweep was submitted with, as keys of the ``cluster`` section.
    """

    job: int
    cells: tuple[str, ...]
    until: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read the folder of a sweep; None: no job has waited there.

        Raises:
            ConfigError: the file that says so cannot be read.
        """
        try:
            content = json.loads((folder / FILE).read_bytes())
            return cls(**{**content, "cells": tuple(content["cells"])})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{folder / FILE}: cannot be read: {one_line(error)}") from None

    def write(self, folder: Path) -> None:
        """Replace the file at once."""
        durable.replace(folder / FILE, json.dumps(asdict(self), indent=1).encode())

    def drives(self, env: Mapping[str, str]) -> bool:
        """Tell if this process is in that job."""
        return env.get("SLURM_JOB_ID") == str(self.job)

    def state(self) -> SlurmJob:
        """Return what Slurm says of the job."""
        return look_up(self.job)


def render_next(section: SlurmSection, name: str, python: str, folder: Path, after: Sequence[int | str]) -> str:
    """Return the script of a job that waits.

    Args:
        section: the ``cluster`` section of the runs: the job runs where they do, on one CPU.
        name: the name of the runs' job.
        python: the Python outside of any container.
        folder: the sweep's folder, absolute.
        after: the jobs whose end it waits for, however they end.

    Raises:
        ConfigError: an option that has no place in a script.
    """
    chosen: dict[str, object] = {
        "job-name": f"{name}-next",
        "nodes": 1,
        "ntasks": 1,
        "cpus-per-task": 1,
        "mem": _MEM if section.mem else None,
        "time": _TIME,
        "partition": section.partition,
        "account": section.account,
        "qos": section.qos,
        **{key: value for key, value in section.sbatch.items() if key in _PLACE},
        "dependency": "afterany:" + ":".join(map(str, after)),
        "requeue": True,
        "open-mode": "append",
        "output": f"{folder}/".replace("%", "%%") + "slurm-next-%j.log",
    }
    command = f"exec {shlex.quote(python)} -m fedray sweep {shlex.quote(str(folder))} --slurm"
    return "\n".join(["#!/bin/bash", *directives(chosen), _ABOUT, *section.prologue, command]) + "\n"


def submit_next(script: str, folder: Path) -> int:
    """Write the script into the sweep's folder, submit it, and return the job's id.

    Raises:
        ConfigError: Slurm refused it, or the folder cannot be written.
    """
    path = folder / SCRIPT
    try:
        durable.replace(path, script.encode())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None
    return submit_script(path)
