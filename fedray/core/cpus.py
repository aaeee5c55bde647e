"""CPUs that this process may use: not those of the machine, of which it may have been given a few."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil

_SLURM = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")


@dataclass(frozen=True)
class Cpus:
    """A number of CPUs, and what bounds it.

    Args:
        count: at least 1.
        bound: the smallest of the bounds, in words.
    """

    count: int
    bound: str

    def __str__(self) -> str:
        return f"{self.count} ({self.bound})"


@dataclass(frozen=True)
class Mount:
    """A mounted hierarchy of control groups.

    Args:
        path: the folder that it is mounted on.
        version: 1 or 2.
    """

    path: Path
    version: int


def usable_cpus(env: Mapping[str, str] | None = None) -> Cpus:
    """Return how many CPUs this process may use.

    That is the least of the machine's, its affinity, the quota of its control groups, and what Slurm gave its task.

    Args:
        env: the environment; default: this process's.

    >>> usable_cpus({"SLURM_CPUS_PER_TASK": "1"}).count
    1
    """
    bounds = [Cpus(psutil.cpu_count() or 1, "CPUs of this machine")]
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):  # not on macOS
        bounds.append(Cpus(len(process.cpu_affinity()), "affinity of this process"))
    if quota := own_quota():
        bounds.append(Cpus(max(1, int(quota)), f"quota of {quota:g} CPUs of its control group"))
    with suppress(ValueError):
        if given := slurm_cpus(os.environ if env is None else env):
            bounds.append(Cpus(*given))
    return min(bounds, key=lambda one: one.count)


def slurm_cpus(env: Mapping[str, str]) -> tuple[int, str] | None:
    """Return the CPUs that Slurm gave a task and the variable that says so; None outside of a job.

    >>> slurm_cpus({"SLURM_CPUS_ON_NODE": "8", "SLURM_CPUS_PER_TASK": "4"})
    (4, 'SLURM_CPUS_PER_TASK')

    Raises:
        ValueError: the variable holds no number.
    """
    return next(((int(env[name]), name) for name in _SLURM if env.get(name)), None)


def own_quota() -> float | None:
    """Return the CPUs' worth of time that the control groups of this process allow; None where nothing limits it.

    By hand, as psutil knows no quotas.
    """
    with suppress(OSError):
        mounts = []
        for found in psutil.disk_partitions(all=True):
            if found.fstype == "cgroup2":
                mounts.append(Mount(Path(found.mountpoint), 2))
            elif found.fstype == "cgroup" and "cpu" in found.opts.split(","):
                mounts.append(Mount(Path(found.mountpoint), 1))
        return quota(Path("/proc/self/cgroup").read_text(), mounts)
    return None


def quota(groups: str, mounts: Sequence[Mount]) -> float | None:
    """Return the smallest quota of a process's control groups and of all above them, in CPUs; None without any.

    Args:
        groups: the content of ``/proc/self/cgroup``: a line ``number:controllers:path`` for each hierarchy.
        mounts: the hierarchies that may limit CPUs.
    """
    found = []
    for mount in mounts:
        for group in _groups(groups, mount.version):
            # In a container the hierarchy may begin at the container's own group, while the path counts from the
            # machine's: what is not there is passed over, and what is mounted is looked at in any case.
            inside = [mount.path / group.relative_to("/"), *(mount.path / up.relative_to("/") for up in group.parents)]
            found += [limit for folder in inside if (limit := _limit(folder, mount.version)) is not None]
    return min(found, default=None)


def _groups(groups: str, version: int) -> Iterator[PurePosixPath]:
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if (not controllers) if version == 2 else ("cpu" in controllers.split(",")):
            yield PurePosixPath(path)


def _limit(folder: Path, version: int) -> float | None:
    with suppress(OSError, ValueError, ZeroDivisionError):
        if version == 2:
            time, period = (folder / "cpu.max").read_text().split()
        else:
            time, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        limit = float(time) / float(period)  # ``max`` and -1 stand for no limit
        return limit if limit > 0 else None
    return None
