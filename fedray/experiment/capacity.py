"""The room for workers, and the use they make of what is reserved for them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch

from fedray.config.sections import SlurmSection, WorkerSection
from fedray.core.cpus import usable_cpus
from fedray.core.errors import ConfigError, counted
from fedray.experiment.place import Place

_SLURMS_CPUS = 1  # what Slurm gives a task that asks for nothing
_GPU_OPTIONS = ("gres", "gpus", "gpus-per-node", "gpus-per-task")


def worker_count(place: Place) -> int:
    """Return the workers of a run on this machine, or on the nodes of its Slurm job."""
    return workers(place)[0]


def workers(place: Place) -> tuple[int, str]:
    """Return the workers of a run, and what makes them so many, in words."""
    cluster = place.cluster
    if place.launcher.in_process:
        return 1, "inline: in one process with the driver"
    if isinstance(cluster, SlurmSection):
        cpus = cluster.cpus_per_task or _SLURMS_CPUS
        by = "cluster.cpus_per_task" if cluster.cpus_per_task else "as Slurm gives by default"
        said = f"{cpus} CPUs of each node, {by}"
        if some := ranks_on_a_node(place):
            ranks = place.worker.ranks
            why = f"{cluster.nodes} nodes with room for {some} of the {ranks} ranks of a worker each"
            return max(1, cluster.nodes * some // ranks), why
        count, why = _on_a_node(place, cpus, cluster.gpus_per_node, said)
        return cluster.nodes * count, f"{cluster.nodes} x {count}: {why}" if cluster.nodes > 1 else why
    usable = usable_cpus()
    return _on_a_node(
        place, usable.count, torch.cuda.device_count() - place.driver.gpus, f"{usable.count} {usable.bound}"
    )


def ranks_on_a_node(place: Place) -> int:
    """Return how many ranks have room on a node of a Slurm job where none has room for all of a worker's; else 0."""
    cluster, worker = place.cluster, place.worker
    if worker.ranks == 1 or not isinstance(cluster, SlurmSection) or cluster.nodes == 1:
        return 0
    gpus = cluster.gpus_per_node
    # Without a number of CPUs the site decides how many there are, by the GPUs perhaps.
    cpus = cluster.cpus_per_task or (worker.cpus * gpus if worker.gpus else _SLURMS_CPUS)
    some = min(_room(worker, cpus, gpus, "CPUs").values(), default=worker.ranks)
    return some if some < worker.ranks else 0


def _room(worker: WorkerSection, cpus: float, gpus: float, said: str) -> dict[str, int]:
    """Return for how many there is room, by what bounds them."""
    room = {said: math.floor(cpus / worker.cpus + 1e-9)} if worker.cpus else {}
    if worker.gpus:
        room[f"{gpus:g} GPUs"] = math.floor(gpus / worker.gpus + 1e-9)
    return room


def _on_a_node(place: Place, cpus: float, gpus: float, said: str) -> tuple[int, str]:
    if isinstance(place.cluster.workers, int):
        return place.cluster.workers, "cluster.workers"
    room = _room(place.worker.together, cpus, gpus, said)
    if not room:
        return 1, "a worker reserves nothing"
    bound = min(room, key=lambda name: room[name])
    return max(1, room[bound]), bound


def check_gpus_used(place: Place, data: object = None) -> None:
    """Refuse a Slurm job that reserves GPUs of which its workers use none, or fewer, or that reserves none for them.

    Args:
        place: the place of the run; nothing is checked but for ``cluster.name: slurm``.
        data: section ``data`` or the data themselves; silos among them may have workers with GPUs of their own.

    Raises:
        ConfigError: GPUs would idle, or workers wait for some in vain.
    """
    cluster, worker = place.cluster, place.worker.together
    silos: Mapping[str, Any] = getattr(data, "silos", {})
    if not isinstance(cluster, SlurmSection) or any(map(_wants_gpus, silos.values())):
        return
    reserved = cluster.gpus_per_node
    by_sbatch = next((f"{name}={cluster.sbatch[name]}" for name in _GPU_OPTIONS if _names_gpus(name, cluster)), None)
    wanted = worker.gpus or place.driver.gpus
    if wanted and not reserved and not by_sbatch:
        section = "worker" if worker.gpus else "driver"
        raise ConfigError(
            f"{section}.gpus={wanted:g}: the job reserves no GPU; say how many: cluster.gpus_per_node (--gpus-per-node)"
        )
    if not wanted and (reserved or by_sbatch):
        asked = f"gpus_per_node={reserved}" if reserved else f"sbatch: {by_sbatch}"
        raise ConfigError(
            f"cluster.{asked}: the job reserves GPUs that no worker uses; give each worker one: worker.gpus=1 (or a "
            "share, as 0.25), or do not reserve them"
        )
    if not reserved or not worker.gpus:
        return
    # Without a number of CPUs the site decides how many there are, by the GPUs perhaps: that may be enough for all.
    cpus = cluster.cpus_per_task or worker.cpus * reserved / worker.gpus
    count, why = _on_a_node(place, cpus, reserved, f"cluster.cpus_per_task={cluster.cpus_per_task}")
    idle = reserved - math.ceil(count * worker.gpus + place.driver.gpus - 1e-9)
    if idle > 0:
        raise ConfigError(
            f"cluster.gpus_per_node={reserved}: {counted(idle, 'GPU')} of each node would idle, as {why} allows "
            f"{counted(count, 'worker')} of {worker.gpus:g} GPU; raise it, or reserve {reserved - idle}"
        )


def _wants_gpus(silo: Any) -> bool:
    return bool(silo.get("gpus") if isinstance(silo, Mapping) else getattr(silo, "gpus", None))


def _names_gpus(name: str, cluster: SlurmSection) -> bool:
    value = cluster.sbatch.get(name)
    if value is None or value is False:
        return False
    return name != "gres" or re.search(r"\bgpu\b(?!:0)", str(value)) is not None
