"""Nodes that die, fall silent, come late or are too few, and messages that Ray loses: the same bits, or a clear end."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import nn

import fedray
from fedray.cluster import launch
from fedray.cluster.place.placement import Size
from fedray.cluster.place.slots import WorkerArgs
from fedray.cluster.work.executor import RayExecutor
from fedray.core import inject
from fedray.core.messages import Broadcast
from fedray.core.record import RoundRecord
from fedray.run.driver import Run
from fedray.run.loop import Rounds
from fedray.run.worker import Job
from fedray.rundir.held_rows import MEMORY
from tests.cluster import problem
from tests.faults.nights import all_present, go, quiet, same_bits, small
from tests.faults.nodes import DEADLINE, Nodes, eventually, fault
from tests.helpers import remembered

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[RoundRecord]:
    """The quiet run."""
    return quiet(tmp_path_factory.mktemp("quiet"), rounds=4)


@contextlib.contextmanager
def executing(nodes: Nodes, job: Job, args: WorkerArgs) -> Iterator[RayExecutor]:
    """An executor of which nothing is left at the end."""
    one = RayExecutor(job, args)
    try:
        yield one
    finally:
        one.close()
        nodes.all_gone("ray::WorkerActor", "ray::NodeActor")


@pytest.fixture
def third(nodes: Nodes) -> Iterator[None]:
    """One more node, of one CPU."""
    nodes.plan()
    nodes.add("third", cpus=1)
    yield
    nodes.kill("third")


@pytest.mark.parametrize("action", ["kill_parent", "stop_node"])
def test_a_node_is_lost_and_one_joins(action: str, nodes: Nodes, expected: list[RoundRecord], tmp_path: Path) -> None:
    """The first goes on alone; a new one is used from a later round on."""
    nodes.plan(second=[fault("worker.folded", 2, action)])
    one = small(tmp_path, rounds=4)
    records = []
    with executing(nodes, one.job, WorkerArgs(workers=1)) as executor:
        all_present(executor, 2)
        for record in Rounds(one.plan, one.state, executor, lambda state: None):
            records.append(record)
            if record.round == 2:  # and the third is done as well
                nodes.kill("second")
                nodes.add("second")
                all_present(executor, 2)
    assert nodes.to_come() == []
    same_bits(records, expected)
    assert [record.usage["nodes"] for record in records] == [2, 1, 1, 2]
    assert records[1].usage["retries"] >= 1


def test_a_node_joins_late(nodes: Nodes, expected: list[RoundRecord], tmp_path: Path) -> None:
    """It is used from a later round on, whoever was there before goes on."""
    nodes.plan()
    one = small(tmp_path, rounds=4)
    records = []
    with executing(nodes, one.job, WorkerArgs(workers=1)) as executor:
        all_present(executor, 2)
        for record in Rounds(one.plan, one.state, executor, lambda state: None):
            records.append(record)
            if record.round == 1:
                nodes.add("third", cpus=1)
                all_present(executor, 3)
    nodes.kill("third")
    same_bits(records, expected)
    assert [record.usage["nodes"] for record in records] == [2, 2, 3, 3]


def test_rows_in_memory_are_found_by_a_node_that_joins_and_those_in_files_when_it_is_lost(
    nodes: Nodes, tmp_path: Path
) -> None:
    """What clients remember is in the memory of the first node while that is alone, and in files from then on."""
    nodes.plan()
    nodes.kill("second")
    expected = small(tmp_path / "quiet", rounds=6, algorithm=fedray.Scaffold())
    one, seen = small(tmp_path / "run", rounds=6, algorithm=fedray.Scaffold()), []
    records, told = [], expected.run()
    with executing(nodes, one.job, WorkerArgs(workers=1)) as executor:
        all_present(executor, 1)
        one.hold(executor.hold())
        for record in Rounds(one.plan, one.state, executor, lambda state: None):
            records.append(record)
            seen.append(MEMORY in one.state.store.rows.segments)
            if record.round == 1:  # and the second is done as well, but for what moves the model
                nodes.add("second")
                all_present(executor, 2)
            if record.round == 4:
                nodes.kill("second")
    one.let_go()
    nodes.add("second")
    assert [record.model_sha256 for record in records] == [record.model_sha256 for record in told]
    assert [record.usage["nodes"] for record in records] == [1, 1, 2, 2, 2, 1]
    assert (seen[1], seen[3]) == (True, False)
    kept = remembered(expected)
    assert all(torch.equal(part, kept[name]) for name, part in remembered(one).items())


def test_a_round_waits_for_as_many_workers_as_it_must_have(
    nodes: Nodes, expected: list[RoundRecord], tmp_path: Path
) -> None:
    """A group that is set up in the middle of a round is told its broadcast."""
    nodes.plan(second=[fault("node.worked", 2)])
    with executing(nodes, small(tmp_path).job, WorkerArgs(workers=1, min_workers=2)) as executor:
        all_present(executor, 2)
        records = go(small(tmp_path / "run", rounds=4), executor)
    assert nodes.to_come() == []
    same_bits(records, expected)
    assert [record.usage["nodes"] for record in records] == [2, 2, 2, 2]


@pytest.mark.usefixtures("third")
def test_a_node_too_small_is_done_without(
    nodes: Nodes, expected: list[RoundRecord], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once, and nobody waits for it."""
    with executing(nodes, small(tmp_path).job, WorkerArgs(workers=2)) as executor:
        all_present(executor, 2)
        records = go(small(tmp_path / "run", rounds=4), executor)
    same_bits(records, expected)
    assert [record.usage["nodes"] for record in records] == [2, 2, 2, 2]
    assert caplog.text.count("(1 CPUs and 0 GPUs) has no room for 2 workers of 1 CPUs and 0 GPUs, and gets none") == 1
    assert "is lost" not in caplog.text


def test_the_drivers_node_needs_no_worker(
    nodes: Nodes, expected: list[RoundRecord], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What the driver leaves of it is too small: the other node has the wanted workers."""
    nodes.plan()
    with executing(nodes, small(tmp_path).job, WorkerArgs(workers=2, driver=Size(1.0))) as executor:
        all_present(executor, 1)
        assert [len(group.spec.slots) for group in executor.nodes.present()] == [2]
        records = go(small(tmp_path / "run", rounds=4), executor)
    same_bits(records, expected)
    assert [record.usage["nodes"] for record in records] == [1, 1, 1, 1]
    assert caplog.text.count("has no room for 2 workers") == 1


@pytest.mark.parametrize("full", ["head", "second"])
def test_a_node_whose_room_others_have_is_done_without(
    full: str, nodes: Nodes, expected: list[RoundRecord], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The driver's own, or another: it is told once, with the reason."""
    nodes.plan()
    args = WorkerArgs(workers=2, start_timeout=20.0)
    with nodes.crowded(full), executing(nodes, small(tmp_path).job, args) as executor:
        eventually(lambda: executor.nodes.present() and "is lost" in caplog.text, f"{full} is lost")
        all_present(executor, 1)
        assert [len(group.spec.slots) for group in executor.nodes.present()] == [2]
        records = go(small(tmp_path / "run", rounds=4), executor)
    same_bits(records, expected)
    assert [record.usage["nodes"] for record in records] == [1, 1, 1, 1]
    assert "2 workers of 1 CPUs and 0 GPUs could not be started in 20 s: node" in caplog.text
    assert caplog.text.count("is lost") == 1


@pytest.mark.usefixtures("third")
def test_a_node_whose_workers_cannot_start_is_done_without(
    nodes: Nodes, expected: list[RoundRecord], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A node with a broken driver, say, that joins a healthy run."""
    job = small(tmp_path).job
    build = job.task.model_fn

    def broken_there() -> nn.Module:
        if os.environ.get(inject.PLAN, "").endswith("third.json"):
            raise OSError("no such device")
        return build()

    broken = replace(job, task=replace(job.task, model_fn=broken_there))
    with executing(nodes, broken, WorkerArgs(workers=1)) as executor:
        all_present(executor, 2)
        eventually(lambda: executor.nodes.present() and "is lost" in caplog.text, "the third is lost")
        records = go(small(tmp_path / "run", rounds=4), executor)
    same_bits(records, expected)
    assert [record.usage["nodes"] for record in records] == [2, 2, 2, 2]
    assert "a worker could not start on node" in caplog.text
    assert "no such device" in caplog.text
    assert caplog.text.count("is lost") == 1


@pytest.mark.usefixtures("third")
@pytest.mark.parametrize("last", [False, True], ids=["adds", "is added"])
def test_nodes_add_up_among_themselves(
    last: bool, nodes: Nodes, expected: list[RoundRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As more than eight do; one that is lost meanwhile takes nothing with it that is not done again."""
    monkeypatch.setattr("fedray.cluster.work.transport._FAN_IN", 1)
    nodes.plan(third=[fault("node.folded", 2)])
    one = small(tmp_path, rounds=4)
    records = []
    with executing(nodes, one.job, WorkerArgs(workers=1)) as executor:
        all_present(executor, 3)
        executor.nodes.others.sort(key=lambda group: (group.spec.node == nodes.id("third")) == last)
        for record in Rounds(one.plan, one.state, executor, lambda state: None):
            records.append(record)
            if record.round in (2, 3):  # the record comes a round late
                all_present(executor, 3)
    assert nodes.to_come() == []
    same_bits(records, expected)
    assert records[0].usage["nodes"] == records[-1].usage["nodes"] == 3


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver is this process: it waits long for the first round, and for nobody from the second one on."""

    class Impatient(RayExecutor):
        def publish(self, down: Broadcast) -> None:
            if down.round > 1:
                self.nodes._args = replace(self.nodes._args, start_timeout=1e-9)
            super().publish(down)

    @contextlib.contextmanager
    def nobody(size: Size) -> Iterator[None]:
        yield

    def here(actor: None, run: Run, args: WorkerArgs, *stops: Callable[[], object]) -> Iterator[RoundRecord]:
        return run.records(lambda job: Impatient(job, args))

    monkeypatch.setattr(launch, "driver_actor", nobody)
    monkeypatch.setattr(launch, "stream", here)


@pytest.mark.usefixtures("impatient")
def test_too_few_workers_end_the_run_and_fewer_are_enough_to_resume(
    nodes: Nodes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The end is told truly, with a checkpoint of the last whole round."""
    nodes.plan(second=[fault("worker.block", 3, "kill_parent")])
    quiet_hashes = problem.hashes(problem.train(tmp_path / "quiet", "inline"))
    with pytest.raises(fedray.RunFailed, match=r"round 3: only 1 worker left on 1 node, cluster.min_workers is 2"):
        problem.train(tmp_path / "run", fedray.Cluster(workers=1, min_workers=2, start_timeout=DEADLINE))
    caplog.clear()  # an error that is kept keeps all memory of the frames it passed
    assert nodes.to_come() == []
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "failed"
    nodes.kill("second")
    result = problem.train(tmp_path / "run", fedray.Cluster(workers=1), resume=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["model_sha256"] for line in lines] == quiet_hashes
    assert [record.round for record in result.history][-1] == 4
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["resumed_from"] == 2
    nodes.add("second")


@pytest.mark.parametrize("reduce", ["object_store", "collective"])
def test_either_way_between_nodes(
    reduce: Literal["object_store", "collective"],
    nodes: Nodes,
    expected: list[RoundRecord],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A node that dies of the broadcast, and a worker, change nothing."""
    caplog.set_level(logging.INFO, "fedray")
    nodes.plan(second=[fault("node.receive", 2), fault("worker.folded", 4)])
    args = WorkerArgs(workers=1, reduce=reduce, min_workers=2)
    with executing(nodes, small(tmp_path).job, args) as executor:
        all_present(executor, 2)
        records = go(small(tmp_path / "run", rounds=4), executor)
    same_bits(records, expected)
    assert len(nodes.to_come()) == (reduce == "object_store")
    assert caplog.text.count("by gloo: driver.gpus is below 1") == (reduce == "collective")


CHATTY = """
import json, sys
from pathlib import Path
import ray
from fedray.cluster.place.slots import WorkerArgs
from fedray.cluster.work.executor import RayExecutor
from tests.faults.nights import all_present, go, small

ray.init(log_to_driver=False, logging_level="ERROR")
one = small(Path(sys.argv[1]), rounds=4)
executor = RayExecutor(one.job, WorkerArgs(workers=1))
try:
    all_present(executor, 2)
    print(json.dumps([record.to_json() for record in go(one, executor)]))
finally:
    executor.close()
"""


def test_ray_loses_messages(nodes: Nodes, expected: list[RoundRecord], tmp_path: Path) -> None:
    """Of the driver's calls of actors one in ten never arrives, and three in ten are answered to nobody."""
    nodes.plan()
    odds = {"num_failures": -1, "req_failure_prob": 10, "resp_failure_prob": 30}
    chaos = {"CoreWorkerService.grpc_client.PushTask": odds}
    ended = subprocess.run(
        [sys.executable, "-c", CHATTY, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=180,
        env=os.environ | {"RAY_ADDRESS": nodes.address, "RAY_testing_rpc_failure": json.dumps(chaos)},
    )
    assert ended.returncode == 0, ended.stderr
    records = [RoundRecord.from_json(line) for line in json.loads(ended.stdout.splitlines()[-1])]
    same_bits(records, expected)
    assert "was lost, asking again" in ended.stderr
    eventually(lambda: not nodes.processes("ray::WorkerActor"), "workers end")
