"""The batch script: a pure function of a job's options, and its submission."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fedray.config.sections import SlurmSection
from fedray.core.errors import ConfigError
from fedray.rundir import durable
from fedray.slurm.commands import submit_script
from fedray.slurm.requeue import HISTORY, History, owner

SCRIPT = "job.sbatch"
_ABOUT = "# One Ray node on each Slurm node, and the run beside the first; stopped in time, requeued and resumed."
_PLAIN = re.compile(r"[\w.:/,@%+=~\[\]-]+")
_KEY = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True)
class BatchJob:
    """The job that is submitted.

    Args:
        section: the ``cluster`` section.
        name: the job's name.
        python: the Python that looks after the job on its first node, outside of any container.
        folder: the folder of the log; None: that in which the job was submitted.
        runs: run folders; more than one make a job array, a run to a task.  None at all: the script takes what
            ``fedray run`` takes, as in ``sbatch slurm/fedray.sbatch configs/digits.yaml rounds=5``.
    """

    section: SlurmSection = field(default_factory=SlurmSection)
    name: str = "fedray"
    python: str = "python"
    folder: Path | None = None
    runs: tuple[Path, ...] = ()


def render(job: BatchJob) -> str:
    """Return the batch script.

    Raises:
        ConfigError: an option that has no place in a script.
    """
    lines = ["#!/bin/bash", *directives(header(job)), _ABOUT, *job.section.prologue]
    if len(job.runs) > 1:
        lines.append(f"runs=({shlex.join(map(str, job.runs))})")
        argument = '"${runs[SLURM_ARRAY_TASK_ID]}"'
    else:
        argument = shlex.join(map(str, job.runs)) or '"$@"'
    # Python takes the shell's place, so that Slurm's signals reach it.
    lines.append(f"exec {shlex.quote(job.python)} -m fedray.slurm.job {argument}")
    return "\n".join(lines) + "\n"


def header(job: BatchJob) -> dict[str, object]:
    """Return sbatch's options by their long names; True stands for one without a value.

    Raises:
        ConfigError: an array that does not match the runs.
    """
    section = job.section
    log = "slurm-%A_%a.log" if len(job.runs) > 1 else "slurm-%j.log"
    folder = f"{job.folder}/".replace("%", "%%") if job.folder else ""
    chosen: dict[str, object] = {
        "job-name": job.name,
        "nodes": section.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": section.cpus_per_task,
        "gpus-per-node": section.gpus_per_node or None,
        "mem": section.mem,
        "time": section.time,
        "partition": section.partition,
        "account": section.account,
        "qos": section.qos,
        "array": _array(len(job.runs), section.sbatch.get("array")),
        "requeue": True,
        "open-mode": "append",
        "signal": f"B:USR1@{section.grace}",
        "output": folder + log,
        **{name: value for name, value in section.sbatch.items() if name != "array"},
    }
    return _said(chosen)


def directives(chosen: Mapping[str, object]) -> list[str]:
    """Return the lines of a script that are sbatch's options, by their long names; None and False stand for none.

    Raises:
        ConfigError: an option that has no place in a script.
    """
    return [_directive(*option) for option in _said(chosen).items()]


def _said(chosen: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in chosen.items() if value is not None and value is not False}


def _array(runs: int, given: object) -> str | None:
    """Return the tasks of a job array: one for each run, as many at once as ``given`` allows."""
    tasks = f"0-{runs - 1}"
    if given is None:
        return tasks if runs > 1 else None
    asked, _, limit = str(given).partition("%")
    if limit and not (limit.isdigit() and int(limit)):
        raise ConfigError(f"cluster.sbatch: array={given}: behind % stands how many tasks may run at once, as in %4")
    if asked in ("", tasks):
        return f"{tasks}%{limit}" if runs > 1 and limit else tasks if runs > 1 else None
    if runs <= 1:
        raise ConfigError(
            f"cluster.sbatch: array={given}: this is one run; `fedray sweep ... --slurm` makes an array of many"
        )
    raise ConfigError(
        f"cluster.sbatch: array={given}: the sweep has {runs} runs to do, and its array {tasks}; leave it away, or say "
        f"with array=%{limit or 4} how many may run at once"
    )


def _directive(name: str, value: object) -> str:
    text = str(value)
    if not _KEY.fullmatch(name):
        raise ConfigError(f"cluster.sbatch: {name!r} is no long option of sbatch, such as constraint or exclusive")
    if value is True:
        return f"#SBATCH --{name}"
    if re.search(r'["\\\n\r]', text) or not text:
        raise ConfigError(f"--{name}={text!r}: empty, or with quotes, backslashes or line ends: sbatch cannot read it")
    return f"#SBATCH --{name}={text}" if _PLAIN.fullmatch(text) else f'#SBATCH --{name}="{text}"'


def submit(job: BatchJob, folder: Path) -> int:
    """Write the script into ``folder`` and submit it; each run folder then names its job.

    Returns:
        The job id.

    Raises:
        ConfigError: Slurm refused it (its own words), or there is no Slurm here.
    """
    script = folder / SCRIPT
    try:
        durable.replace(script, render(job).encode())
    except OSError as error:
        raise ConfigError(f"{script}: cannot be written: {error.strerror or error}") from None
    files = [run / HISTORY for run in job.runs]
    before = [owner(file) for file in files]
    number = submit_script(script)
    for task, (file, had) in enumerate(zip(files, before, strict=True)):
        if owner(file) == had:  # else the job has begun, and written it itself
            History(f"{number}_{task}" if len(files) > 1 else number).write(file)
    return number
