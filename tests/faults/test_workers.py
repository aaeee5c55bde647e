"""Workers and answers that are lost, on either of two nodes: the bits are those of a quiet run in one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import fedray
from fedray.cluster.place.slots import WorkerArgs
from fedray.cluster.work.executor import RayExecutor
from fedray.config.sections import FailuresSection
from fedray.core.record import RoundRecord
from tests.faults.nights import DROP, SIZES, Listed, all_present, failed, go, quiet, same_bits, small
from tests.faults.nodes import Nodes, fault
from tests.helpers import relative

pytestmark = pytest.mark.slow

POINTS = ["worker.block", "worker.trained", "worker.folded", "worker.reply"]
TIMEOUT = 3.0


@pytest.fixture(scope="module")
def executor(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayExecutor]:
    """One worker on each node, both up."""
    nodes.plan()
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
    return quiet(tmp_path_factory.mktemp("quiet"), rounds=5)


@pytest.mark.parametrize("where", ["head", "second"])
def test_a_worker_killed_at_any_point(
    where: str, nodes: Nodes, executor: RayExecutor, expected: list[RoundRecord], tmp_path: Path
) -> None:
    nodes.plan(**{where: [fault(point, round) for round, point in enumerate(POINTS, 2)]})
    records = go(small(tmp_path, rounds=5), executor)
    assert nodes.to_come() == []
    same_bits(records, expected)
    assert [record.usage["nodes"] for record in records] == [2] * 5
    assert [record.usage["retries"] > 0 for record in records] == [False, True, True, True, True]


def test_killed_again_and_again_in_one_round(
    nodes: Nodes, executor: RayExecutor, expected: list[RoundRecord], tmp_path: Path
) -> None:
    """What was folded before is lost with its worker, each time, and done again."""
    nodes.plan(second=[fault("worker.folded", 2), fault("worker.reply", 2), fault("worker.reply", 2)])
    records = go(small(tmp_path, rounds=2), executor)
    assert nodes.to_come() == []
    same_bits(records, expected[:2])


@pytest.mark.parametrize("where", ["head", "second"])
def test_a_block_that_two_workers_die_of_is_given_up(
    where: str, nodes: Nodes, executor: RayExecutor, expected: list[RoundRecord], tmp_path: Path
) -> None:
    """The bits of a run in which the same clients gave no update; close to those of one that never asked them.

    The latter divides by another planned total, so that its float32 weights are rounded elsewhere.
    """
    nodes.plan(**{where: [fault("worker.block", 2), fault("worker.block", 2)]})
    one = small(tmp_path, rounds=2, failures=DROP)
    records = go(one, executor)
    assert nodes.to_come() == []
    lost = failed(records)
    assert [len(names) for names in lost.values()] == [2]
    assert {failure["stage"] for failure in records[1].failures} == {"worker"}
    assert records[1].usage["failures"] == {"worker": 2}
    same_bits(records, quiet(tmp_path / "lost", rounds=2, lost=lost))
    assert records[0].model_sha256 == expected[0].model_sha256
    assert records[1].model_sha256 != expected[1].model_sha256
    others = tuple(client for client in range(len(SIZES)) if str(client) not in lost[2])
    never_asked = small(tmp_path / "never", rounds=2, sampler=Listed(clients=others, in_round=2))
    never_asked.run()
    assert relative(one.vector, never_asked.vector) < 1e-6


def test_aborted_by_name(nodes: Nodes, executor: RayExecutor, tmp_path: Path) -> None:
    nodes.plan(second=[fault("worker.block", 2), fault("worker.block", 2)])
    one = small(tmp_path, failures=FailuresSection(on_failure="abort"))
    with pytest.raises(fedray.RunFailed, match=r"client '\d+' failed in round 2 \(worker\): two workers were lost"):
        go(one, executor)
    assert nodes.to_come() == []
    assert one.state.round == 1


@pytest.mark.parametrize(("where", "point"), [("second", "worker.trained"), ("head", "worker.reply")])
def test_a_hung_worker_is_replaced(
    point: str, where: str, nodes: Nodes, executor: RayExecutor, expected: list[RoundRecord], tmp_path: Path
) -> None:
    """Also one that hangs with nothing left to do but to answer."""
    nodes.plan(**{where: [fault(point, 2, "hang")]})
    records = go(small(tmp_path, rounds=2), executor)
    assert nodes.to_come() == []
    same_bits(records, expected[:2])
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
    same_bits(records, expected[:3])
    assert [record.usage["retries"] for record in records] == [0, 0, 0]


@pytest.mark.parametrize("point", ["node.begin", "node.worked", "node.folded"])
def test_the_actor_of_a_node_is_killed(
    point: str, nodes: Nodes, executor: RayExecutor, expected: list[RoundRecord], tmp_path: Path
) -> None:
    """What its group folded is lost unless it was fetched; the node itself is used again."""
    nodes.plan(second=[fault(point, 2)])
    records = go(small(tmp_path), executor)
    assert nodes.to_come() == []
    same_bits(records, expected[:3])
    assert records[1].usage["retries"] >= 1
    all_present(executor, 2)
    again = go(small(tmp_path / "again", rounds=1), executor)
    same_bits(again, expected[:1])
    assert again[0].usage["nodes"] == 2


def test_out_of_memory_halves_all_blocks(
    nodes: Nodes, executor: RayExecutor, expected: list[RoundRecord], tmp_path: Path
) -> None:
    """Nobody is lost, and it does not matter who ran out: the bits from there on are those of smaller blocks."""
    nodes.plan(second=[fault("worker.trained", 2, "memory")])
    records = go(small(tmp_path), executor)
    assert nodes.to_come() == []
    other = small(tmp_path / "other")
    before = other.run(1)
    other.state.halvings = 1
    same_bits(records, before + other.run())
    assert [record.stack for record in records] == [2, 1, 1]
    assert records[0].model_sha256 == expected[0].model_sha256
