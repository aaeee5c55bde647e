"""How many workers there are, by what, and GPUs that nobody would use."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fedray.config.sections import ClusterSection, DriverSection, SlurmSection, WorkerSection
from fedray.core.cpus import usable_cpus
from fedray.core.errors import ConfigError
from fedray.data.sites import Silo
from fedray.experiment.capacity import check_gpus_used, ranks_on_a_node, worker_count, workers
from fedray.experiment.place import Place


def slurm(worker: WorkerSection | None = None, driver: DriverSection | None = None, **options: Any) -> Place:
    return Place(SlurmSection(**options), worker or WorkerSection(), driver or DriverSection())


def test_workers_here_are_bound_by_the_cpus_that_we_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker_count(Place(ClusterSection())) == usable_cpus().count
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert workers(Place(ClusterSection()))[0] == 1
    assert workers(Place(ClusterSection(workers=5))) == (5, "cluster.workers")
    assert worker_count(Place(ClusterSection(name="inline"))) == 1


def test_workers_of_a_job_are_bound_by_what_it_asks_for_and_not_by_the_login_node() -> None:
    assert worker_count(slurm(nodes=3, cpus_per_task=4)) == 12
    assert workers(slurm(nodes=3)) == (3, "3 x 1: 1 CPUs of each node, as Slurm gives by default")
    place = slurm(WorkerSection(cpus=2, gpus=0.5), cpus_per_task=32, gpus_per_node=2)
    assert workers(place) == (4, "2 GPUs")


@pytest.mark.parametrize(
    ("place", "some", "count"),
    [
        (slurm(WorkerSection(ranks=4), nodes=3, cpus_per_task=3), 3, 2),
        (slurm(WorkerSection(ranks=4), nodes=3, cpus_per_task=4), 0, 3),
        (slurm(WorkerSection(ranks=4), nodes=3, cpus_per_task=3, workers=1), 3, 2),
        (slurm(WorkerSection(ranks=4), nodes=3), 1, 1),
        (slurm(WorkerSection(ranks=4, cpus=2), nodes=3, cpus_per_task=1), 0, 3),
        (slurm(WorkerSection(ranks=4), cpus_per_task=3), 0, 1),
        (slurm(WorkerSection(gpus=1, ranks=4), nodes=4, gpus_per_node=2), 2, 2),
        (slurm(WorkerSection(gpus=1, ranks=4), nodes=4, gpus_per_node=4), 0, 4),
        (slurm(WorkerSection(gpus=1, ranks=4), nodes=4, gpus_per_node=4, cpus_per_task=3), 3, 3),
        (slurm(nodes=4), 0, 4),
        (Place(ClusterSection(workers=2), WorkerSection(ranks=9)), 0, 2),
    ],
)
def test_ranks_are_on_several_nodes_of_a_job_where_none_has_room_for_all(place: Place, some: int, count: int) -> None:
    assert ranks_on_a_node(place) == some
    assert workers(place)[0] == count
    if some:
        assert workers(place)[1].endswith(f"nodes with room for {some} of the 4 ranks of a worker each")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (slurm(gpus_per_node=4), r"gpus_per_node=4: .* no worker uses; .*worker\.gpus=1"),
        (slurm(sbatch={"gres": "gpu:a100:2"}), r"cluster\.sbatch: gres=gpu:a100:2"),
        (slurm(sbatch={"gpus": 2}), r"cluster\.sbatch: gpus=2"),
        (slurm(WorkerSection(gpus=1)), r"worker\.gpus=1: the job reserves no GPU"),
        (slurm(driver=DriverSection(gpus=1)), r"driver\.gpus=1: the job reserves no GPU"),
        (slurm(WorkerSection(gpus=1), gpus_per_node=4, workers=2), "2 GPU.* would idle, as cluster.workers allows 2"),
        (slurm(WorkerSection(gpus=0.5), gpus_per_node=4, workers=4), "reserve 2"),
        (
            slurm(WorkerSection(gpus=1, cpus=8), gpus_per_node=4, cpus_per_task=16),
            r"cluster\.cpus_per_task=16 allows 2",
        ),
    ],
)
def test_gpus_that_would_idle_or_are_missing_are_refused(place: Place, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_gpus_used(place)


@pytest.mark.parametrize(
    "place",
    [
        slurm(),
        slurm(WorkerSection(gpus=1), gpus_per_node=4),
        slurm(WorkerSection(gpus=0.25, cpus=1), gpus_per_node=2, cpus_per_task=8),
        slurm(WorkerSection(gpus=1), DriverSection(gpus=1), gpus_per_node=4, workers=3),
        slurm(WorkerSection(gpus=1), sbatch={"gres": "gpu:2"}),
        slurm(sbatch={"gres": "shard:1", "gpus": False}),
        Place(ClusterSection(), WorkerSection(gpus=1)),
    ],
)
def test_what_fits_is_not(place: Place) -> None:
    check_gpus_used(place)


def test_a_silo_may_have_gpus_of_its_own() -> None:
    for silo in (Silo(path="a.csv", node_label="site=a", gpus=1), {"path": "a.csv", "gpus": 1}):
        check_gpus_used(slurm(gpus_per_node=1), SimpleNamespace(silos={"a": silo}))
