"""The allocation that Slurm gave a job, read from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedray.core.cpus import slurm_cpus
from fedray.core.errors import ConfigError

_MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Allocation:
    """A job's share of one node, and who the job is.

    Args:
        job: job id; in an array each task has its own.
        restart: the number of requeues of the job.
        nodes: the number of nodes of the job.
        node_list: their names as Slurm writes them, ``node[1-3]``.
        node: this node's name.
        cpus: CPUs on this node.
        gpus: GPUs on this node.
        memory: bytes on this node; None: Slurm does not count memory.
        scratch: the job's own folder on this node's disk, if the site makes one.
        task: the array's id and the job's place there, ``12_0``, if it is a task of one.
    """

    job: int
    restart: int
    nodes: int
    node_list: str
    node: str
    cpus: int
    gpus: int = 0
    memory: int | None = None
    scratch: Path | None = None
    task: str | None = None

    @property
    def name(self) -> int | str:
        """The name of the job in Slurm's commands.

        That is its id, or ``12_0`` for a task of an array, whose id may be the array's.
        """
        return self.task or self.job

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Allocation:
        """Read a batch script's or a task's environment.

        Raises:
            ConfigError: this is no Slurm job, or a variable is not what Slurm writes.

        >>> env = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_NUM_NODES": "2",
        ...        "SLURMD_NODENAME": "n1", "SLURM_CPUS_PER_TASK": "4", "SLURM_MEM_PER_CPU": "1000"}
        >>> Allocation.from_env(env).memory
        4194304000
        """
        if "SLURM_JOB_ID" not in env or "SLURMD_NODENAME" not in env:
            raise ConfigError("this is no Slurm job; submit one with `fedray slurm CONFIG.yaml`")
        try:
            cpus, gpus = _cpus(env), _gpus(env)
            scratch = env.get("SLURM_TMPDIR")
            return cls(
                job=int(env["SLURM_JOB_ID"]),
                restart=int(env.get("SLURM_RESTART_COUNT") or 0),
                nodes=int(env.get("SLURM_JOB_NUM_NODES") or 1),
                node_list=env.get("SLURM_JOB_NODELIST") or env["SLURMD_NODENAME"],
                node=env["SLURMD_NODENAME"],
                cpus=cpus,
                gpus=gpus,
                memory=_memory(env, cpus, gpus),
                scratch=Path(scratch) if scratch else None,
                task=f"{array}_{env['SLURM_ARRAY_TASK_ID']}" if (array := env.get("SLURM_ARRAY_JOB_ID")) else None,
            )
        except (ValueError, KeyError) as error:
            raise ConfigError(f"Slurm's environment cannot be read: {error}") from None


def _cpus(env: Mapping[str, str]) -> int:
    given = slurm_cpus(env)
    return given[0] if given else 1


def _gpus(env: Mapping[str, str]) -> int:
    """Return the count that Slurm tells, never more than the devices that it made visible."""
    visible = env.get("CUDA_VISIBLE_DEVICES")
    devices = [name for name in visible.split(",") if name.strip()] if visible is not None else None
    told = env.get("SLURM_GPUS_ON_NODE")
    if not told:
        return len(devices) if devices else 0
    return int(told) if devices is None else min(int(told), len(devices))


def _memory(env: Mapping[str, str], cpus: int, gpus: int) -> int | None:
    if per_node := env.get("SLURM_MEM_PER_NODE"):
        return int(per_node) * _MEGABYTE or None
    if per_cpu := env.get("SLURM_MEM_PER_CPU"):
        return int(per_cpu) * int(env.get("SLURM_CPUS_ON_NODE") or cpus) * _MEGABYTE or None
    if per_gpu := env.get("SLURM_MEM_PER_GPU"):
        return int(per_gpu) * gpus * _MEGABYTE or None
    return None
