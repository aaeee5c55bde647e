"""Running a run on Ray: connect, place, stream, end what was started."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import ray

from fedray.ray.cluster import Cluster
from fedray.ray.driver import stream
from fedray.ray.executor import WorkerArgs
from fedray.record import RoundRecord
from fedray.run import Run
from fedray.schema import ClusterSection, DriverSection, WorkerSection


def records_on_ray(
    run: Run,
    cluster: ClusterSection,
    worker: WorkerSection,
    driver: DriverSection,
    on_stop: Callable[[Callable[[], None]], None],
) -> Iterator[RoundRecord]:
    """Run on Ray, see ``fedray.experiment.Experiment.records``."""
    wanted = cluster.workers if isinstance(cluster.workers, int) else None
    cpus = max(os.cpu_count() or 1, int((wanted or 1) * worker.cpus + 0.999))
    connection = Cluster.connect(cpus, cluster.dashboard)
    try:
        args = WorkerArgs(
            workers=wanted or _auto(worker, driver, connection.driver_cpus),
            cpus=worker.cpus,
            gpus=worker.gpus,
            placement=cluster.placement,
            transport=cluster.transport,
        )
        yield from stream(run, args, connection.driver_cpus, driver.gpus, on_stop)
    finally:
        connection.close()


def _auto(worker: WorkerSection, driver: DriverSection, driver_cpus: int) -> int:
    """As many workers as the cluster's CPUs allow, and its GPUs if workers use them."""
    resources = ray.cluster_resources()
    room = (resources.get("CPU", 1.0) - driver_cpus) / worker.cpus if worker.cpus else float("inf")
    if worker.gpus:
        room = min(room, (resources.get("GPU", 0.0) - driver.gpus) / worker.gpus)
    return max(1, int(room)) if room != float("inf") else 1
