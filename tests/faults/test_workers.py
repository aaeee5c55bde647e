"""Workers and answers that are lost, on either of two nodes: the bits are those of a quiet run in one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import fedray
from fedray.failures import FailurePolicy
from fedray.ray.executor import RayExecutor, WorkerArgs
from fedray.record import RoundRecord
from tests.faults.nights import DROP, SIZES, Listed, all_present, failed, go, quiet, same_bits, small
from tests.faults.nodes import Nodes, fault
from tests.helpers import relative

POINTS = ["worker.block", "worker.trained", "worker.folded", "worker.reply"]
TIMEOUT = 5.0


@pytest.fixture(scope="module")
def executor(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayExecutor]:
    """One worker on each node, both up."""
    job = small(tmp_path_factory.mktemp("job")).job
    one = RayExecutor(job, WorkerArgs(workers=1, block_timeout=TIMEOUT))
    try:
        all_present(one, 2)
        yield one
    finally:
        one.close()
        nodes.all_gone("ray::WorkerActor", "ray::NodeActor")


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[RoundRecord]:
    """The quiet run."""
    return quiet(tmp_path_factory.mktemp("quiet"))


@pytest.mark.parametrize("where", ["head", "second"])
@pytest.mark.parametrize("point", POINTS)
def test_a_worker_killed_anywhere(
    point: str, where: str, nodes: Nodes, executor: RayExecutor, expected: list[RoundRecord], tmp_path: Path
) -> None:
    nodes.plan(**{where: [fault(point, 2)]})
    records = go(small(tmp_path), executor)
    assert nodes.to_come() == []
    same_bits(records, expected)
    assert records[1].usage["nodes"] == 2
    assert records[1].usage["retries"] >= 1


def test_a_death_after_each_fold(
    nodes: Nodes, executor: RayExecutor, expected: list[RoundRecord], tmp_path: Path
) -> None:
    """What was folded before is lost with its worker, again and again, and done again."""
    nodes.plan(second=[fault("worker.folded", 2), fault("worker.reply", 2), fault("worker.trained", 3)])
    records = go(small(tmp_path), executor)
    assert nodes.to_come() == []
    same_bits(records, expected)


@pytest.mark.parametrize("where", ["head", "second"])
def test_a_block_that_two_workers_die_of_is_given_up(
    where: str, nodes: Nodes, executor: RayExecutor, expected: list[RoundRecord], tmp_path: Path
) -> None:
    """The bits of a run whose other blocks were folded alone; close to those of one that never knew the clients.

    The latter divides by another planned total, so that its float32 weights are rounded elsewhere.
    """
    nodes.plan(**{where: [fault("worker.block", 2), fault("worker.block", 2)]})
    records = go(small(tmp_path, failures=DROP), executor)
    assert nodes.to_come() == []
    lost = failed(records)
    assert [len(names) for names in lost.values()] == [2]
    assert {failure["stage"] for failure in records[1].failures} == {"worker"}
    assert records[1].usage["failures"] == {"worker": 2}
    same_bits(records, quiet(tmp_path / "without", lost=lost))
    assert records[0].model_sha256 == expected[0].model_sha256
    assert records[1].model_sha256 != expected[1].model_sha256


def test_given_up_is_like_never_asked(nodes: Nodes, executor: RayExecutor, tmp_path: Path) -> None:
    nodes.plan(head=[fault("worker.trained", 1), fault("worker.block", 1)])
    one = small(tmp_path, rounds=1, failures=DROP)
    records = go(one, executor)
    assert nodes.to_come() == []
    gone = {int(name) for name in failed(records)[1]}
    other = small(tmp_path / "other", rounds=1, sampler=Listed(tuple(c for c in range(len(SIZES)) if c not in gone)))
    other.run()
    assert relative(one.vector, other.vector) < 1e-6


def test_aborted_by_name(nodes: Nodes, executor: RayExecutor, tmp_path: Path) -> None:
    nodes.plan(second=[fault("worker.block", 2), fault("worker.block", 2)])
    one = small(tmp_path, failures=FailurePolicy(on_failure="abort"))
    with pytest.raises(fedray.RunFailed, match=r"client '\d+' failed in round 2 \(worker\): two workers were lost"):
        go(one, executor)
    assert nodes.to_come() == []
    assert one.state.round == 1


@pytest.mark.parametrize("where", ["head", "second"])
@pytest.mark.parametrize("point", ["worker.trained", "worker.reply"])
def test_a_hung_worker_is_replaced(
    point: str, where: str, nodes: Nodes, executor: RayExecutor, expected: list[RoundRecord], tmp_path: Path
) -> None:
    nodes.plan(**{where: [fault(point, 2, "hang")]})
    records = go(small(tmp_path), executor)
    assert nodes.to_come() == []
    same_bits(records, expected)
    assert records[1].usage["retries"] >= 1


def test_a_block_that_hangs_twice_is_given_up(nodes: Nodes, executor: RayExecutor, tmp_path: Path) -> None:
    nodes.plan(second=[fault("worker.block", 2, "hang"), fault("worker.block", 2, "hang")])
    records = go(small(tmp_path, failures=DROP), executor)
    assert nodes.to_come() == []
    assert {failure["stage"] for failure in records[1].failures} == {"deadline"}
    assert records[1].failures[0]["error"] == f"two workers were lost at its block (no answer in {TIMEOUT:g} s)"
    same_bits(records, quiet(tmp_path / "without", lost=failed(records)))


def test_lost_answers_are_asked_for_again(
    nodes: Nodes, executor: RayExecutor, expected: list[RoundRecord], tmp_path: Path
) -> None:
    """Of the work, of what was folded, and several in a row: nothing is done twice."""
    nodes.plan(driver=[fault("node.answer", round, "lose") for round in (1, 2, 2, 2, 3, 3)])
    records = go(small(tmp_path), executor)
    assert nodes.to_come() == []
    same_bits(records, expected)
    assert [record.usage["retries"] for record in records] == [0, 0, 0]


@pytest.mark.parametrize("point", ["node.begin", "node.worked", "node.folded"])
def test_the_actor_of_a_node_is_killed(
    point: str, nodes: Nodes, executor: RayExecutor, expected: list[RoundRecord], tmp_path: Path
) -> None:
    """What its team folded is lost unless it was fetched; the node itself is used again."""
    nodes.plan(second=[fault(point, 2)])
    records = go(small(tmp_path), executor)
    assert nodes.to_come() == []
    same_bits(records, expected)
    assert records[1].usage["retries"] >= 1
    all_present(executor, 2)
    nodes.plan()
    again = go(small(tmp_path / "again"), executor)
    same_bits(again, expected)
    assert again[-1].usage["nodes"] == 2


def test_out_of_memory_halves_the_block(
    nodes: Nodes, executor: RayExecutor, expected: list[RoundRecord], tmp_path: Path
) -> None:
    """The choice is remembered; a sum of fewer rows at a time is the same sum."""
    nodes.plan(second=[fault("worker.trained", 2, "memory")])
    records = go(small(tmp_path), executor)
    assert nodes.to_come() == []
    same_bits(records, expected)
    assert records[1].usage["retries"] == 0


