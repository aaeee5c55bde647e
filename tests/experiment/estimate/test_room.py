"""What nodes and GPUs need, against what they have."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedray.core.errors import ConfigError
from fedray.experiment.build import Config
from fedray.experiment.estimate.memory import Memory
from fedray.experiment.estimate.room import PROCESS, Given, Need, check_room, needs
from fedray.experiment.place import Place
from tests.cli.command import Cli

COSTS = Memory({"broadcast": 100, "accumulator": 10}, {"model": 7}, 5, 0, frozen=1000, mapped=True, apart=40, built=50)


def place(small: Path, *overrides: str) -> Place:
    return Config.load(small, overrides).place


def test_a_node_holds_the_broadcast_and_a_mapped_base_once(small: Path) -> None:
    (node,) = needs(place(small, "cluster={name: ray, workers: 3}"), COSTS, 3, True, Given(node=1.0))
    assert node.bytes == 100 + 1000 + 3 * 10 + 3 * 50 + 7 + 4 * PROCESS
    assert (node.where, node.room) == ("a node", 10**9)
    assert "3 x 10 bytes" in node.formula


def test_a_base_that_is_not_mapped_is_in_each_process(small: Path) -> None:
    costs = Memory(COSTS.worker, COSTS.driver, 5, 0, frozen=1000, mapped=False, built=50)
    whole, own = (
        needs(place(small, "cluster={name: ray, workers: 3}"), c, 3, True, Given(1.0)) for c in (COSTS, costs)
    )
    assert own[0].bytes - whole[0].bytes == 2 * 1000


def test_workers_of_a_slurm_job_are_shared_out_over_its_nodes(small: Path) -> None:
    cluster = "cluster={name: slurm, nodes: 2, mem: 16G, cpus_per_task: 2}"
    (node,) = needs(place(small, cluster), COSTS, 4, True, Given())
    assert node.bytes == 100 + 1000 + 2 * (10 + 50) + 7 + 3 * PROCESS
    assert (node.room, node.by) == (16 * 2**30, "cluster.mem")


def test_a_node_of_a_job_has_those_ranks_that_it_has_room_for_and_the_first_the_whole_sum_of_its_worker(
    small: Path,
) -> None:
    """Three ranks of a worker, two and one on two nodes; of the 10 bytes of a rank 5 are its part of the sum."""
    cluster = "cluster={name: slurm, nodes: 2, mem: 16G, cpus_per_task: 2}"
    (node,) = needs(place(small, cluster, "worker.ranks=3"), COSTS, 1, True, Given())
    assert node.bytes == 100 + 1000 + 2 * (10 + 50) + 5 + 7 + 3 * PROCESS
    assert "ranks 2 x 10 bytes, sum of ranks elsewhere 5 bytes, " in node.formula
    (whole,) = needs(place(small, cluster.replace("task: 2", "task: 3"), "worker.ranks=3"), COSTS, 2, True, Given())
    assert whole.bytes == 100 + 1000 + 3 * (10 + 50) + 7 + 4 * PROCESS, "where one node has room for all"
    job = "cluster={name: slurm, nodes: 2, gpus_per_node: 2}"
    _, host = needs(place(small, job, "worker={ranks: 3, gpus: 1}"), COSTS, 1, True, Given())
    assert host.bytes == 100 + 1000 + 2 * 50 + (2 * 5 + 5) + 7 + 3 * PROCESS


def test_workers_that_share_a_gpu_need_theirs_together(small: Path) -> None:
    card, node = needs(place(small, "cluster={name: ray}", "worker.gpus=0.5"), COSTS, 2, True, Given(device=80.0))
    assert card.bytes == 2 * (110 + 1000 + 40)  # models that train and are evaluated have the base in common
    assert "frozen 2 x 1.0 kB" in card.formula
    assert (card.where, card.room) == ("a GPU", 80 * 10**9)
    assert node.bytes == 100 + 1000 + 2 * 50 + 2 * 10 + 7 + 3 * PROCESS  # sums lie on the host, too


def test_what_does_not_fit_is_refused_with_the_formula() -> None:
    fits, unknown = Need("a GPU", 5, "worker 5 bytes", 6, "this machine"), Need("a GPU", 5, "worker 5 bytes")
    check_room([fits, unknown])
    with pytest.raises(ConfigError, match=r"a node needs 7 bytes = driver 7 bytes; it has 6 bytes, cluster\.mem: take"):
        check_room([fits, Need("a node", 7, "driver 7 bytes", 6, "cluster.mem")])


def test_the_command_shows_the_plan_and_then_refuses_it(cli: Cli, small: Path) -> None:
    outcome = cli("plan", small, "--node-memory", "0.1")
    outcome.refused("a node needs", "it has 100.0 MB, --node-memory")
    assert "  the driver" in outcome.out
    assert cli("plan", small, "--node-memory", "10").status == 0
    cli("plan", small, "worker.memory=0.01").refused("a worker needs", "worker.memory")


def test_ranks_evaluate_the_model_that_they_train_and_a_worker_another_one(small: Path) -> None:
    """Of which a GPU holds what copies do not share twice."""
    costs = Memory(COSTS.worker, COSTS.driver, 5, 0, frozen=1000, mapped=True, built=50, apart=400)
    one, two = (
        needs(place(small, "cluster={name: ray, workers: 1}", worker), costs, 1, True, Given())[0]
        for worker in ("worker.gpus=1", "worker={gpus: 1, ranks: 2}")
    )
    assert one.bytes - two.bytes == 400
