"""The engine over nodes without Ray: published, shared out, folded and counted, with fake groups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fedray.cluster.place.placement import GroupSpec, Node, Size
from fedray.cluster.place.slots import Silo, WorkerArgs
from fedray.cluster.work import executor as module
from fedray.cluster.work import nodes
from fedray.cluster.work.executor import RayExecutor
from fedray.cluster.work.group import WorkerGroup
from fedray.core.cpus import usable_cpus
from fedray.core.messages import Broadcast
from fedray.run.evaluation import HoldoutChunk, HoldoutReport, TestChunk
from fedray.run.worker import Item, Job
from tests.cluster.work.fakes import fake_group
from tests.helpers import class_problem, federation


class Starter:
    """One node, this one, of fake processes."""

    here = "0"

    def __init__(self, job: Job, *_: object) -> None:
        self._job = job

    def alive(self) -> list[Node]:
        return [Node("0", "n", {"CPU": 4.0})]

    def own(self, spec: GroupSpec) -> WorkerGroup:
        group, _ = fake_group(self._job, spec.slots)
        return group


@pytest.fixture
def executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayExecutor]:
    """Two workers on this node; the silo ``far`` is nowhere."""
    monkeypatch.setattr(module, "_RayStarter", Starter)
    monkeypatch.setattr(nodes, "_WATCH", 10**6)
    job = federation(class_problem(), tmp_path).job
    one = RayExecutor(job, WorkerArgs(workers=2, silos={"far": Silo("site=far", Size())}))
    yield one
    one.close()


def publish(executor: RayExecutor, round: int) -> torch.Tensor:
    vector = torch.full((executor._job.task.layout.size,), float(round))
    executor.publish(Broadcast(round, {"model": vector}, 1.0))
    return vector


def test_the_global_vector_is_the_memory_that_the_workers_read(executor: RayExecutor) -> None:
    executor.wait()
    vector = publish(executor, 1)
    shared = executor.global_vector(len(vector))
    assert torch.equal(shared, vector)
    shared.fill_(9.0)
    executor.publish(Broadcast(2, {"model": shared}, 1.0))
    (group,) = executor.nodes.own
    assert set(group.down.handle.open()["model"].tolist()) == {9.0}


def test_reports_come_in_the_order_of_the_items_and_what_nobody_may_do_is_a_failure(executor: RayExecutor) -> None:
    publish(executor, 2)
    chunks: list[Item] = [*TestChunk.cut(3000), HoldoutChunk(3, np.array([1, 4]), "far")]
    reports = executor.run(chunks, lambda: False)
    assert reports is not None
    assert [report.index for report in reports] == [0, 1, 2, 3]
    unseen = reports[3]
    assert isinstance(unseen, HoldoutReport)
    assert {failure.error for failure in unseen.failures} == {"no node with site=far is there"}
    usage = executor.usage()
    assert (usage.nodes, usage.gpus, usage.retries, usage.network, executor.workers) == (1, 0.0, 0, 0, 2)
    assert publish(executor, 3).numel()
    assert executor.usage().nodes == 0, "a round begins with nothing used"


def test_who_is_stopped_gives_nothing(executor: RayExecutor) -> None:
    publish(executor, 1)
    assert executor.run(TestChunk.cut(3000), lambda: True) is None


def test_the_threads_of_the_process_are_put_back(executor: RayExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small vector is added by one thread, a large one by all; the caller's number comes back."""
    set_: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", set_.append)
    executor.wait()
    monkeypatch.setattr(module, "_LARGE", 1)
    executor.wait()
    executor.close()
    executor.close()
    assert set_[0] == 1
    assert set_[1] == usable_cpus().count
    assert set_[2:] == [executor._threads] * 2
