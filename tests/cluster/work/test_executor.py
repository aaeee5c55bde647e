"""The engine over nodes without Ray: published, shared out, folded and counted, with fake groups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fedray.algorithms import Scaffold
from fedray.cluster.place.placement import GroupSpec, Node, Size
from fedray.cluster.place.slots import Silo, WorkerArgs
from fedray.cluster.work import executor as module
from fedray.cluster.work import nodes
from fedray.cluster.work.executor import RayExecutor
from fedray.cluster.work.group import WorkerGroup
from fedray.core.cpus import usable_cpus
from fedray.core.messages import BlockReport, Broadcast
from fedray.core.places import Places
from fedray.run.evaluation import HoldoutChunk, HoldoutReport, TestChunk
from fedray.run.usage import Reading
from fedray.run.worker import Item, Job
from fedray.rundir.client_state import ClientStore
from fedray.rundir.held_rows import MEMORY
from fedray.rundir.state_rows import StateRows
from tests.cluster.work.fakes import FakeProcess, FakeSpawner, fake_group
from tests.cluster.work.within import workers_within
from tests.helpers import class_problem, federation

CPU = torch.device("cpu")


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


def test_where_the_own_workers_are_lost_in_a_round_new_ones_begin_with_its_broadcast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they did is done again; the global vector is where it was."""
    spawners: list[FakeSpawner] = []

    there = [Node("0", "n", {"CPU": 2.0}), Node("a", "a", {"CPU": 1.0}), Node("b", "b", {"CPU": 1.0})]

    class Leaving(Starter):
        def alive(self) -> list[Node]:
            return there

        def own(self, spec: GroupSpec) -> WorkerGroup:
            group, spawner = fake_group(self._job, spec.slots, node=spec.node)
            spawners.append(spawner)
            return group

    monkeypatch.setattr(module, "_RayStarter", Leaving)
    monkeypatch.setattr(nodes, "_WATCH", 10**6)
    monkeypatch.setattr(nodes, "_PATIENCE", 0.0)
    one = RayExecutor(federation(class_problem(), tmp_path).job, WorkerArgs(workers=1, size=Size(3.0), ranks=3))
    try:
        one.wait()
        shared = one.global_vector(one._job.task.layout.size).fill_(7.0)
        one.publish(Broadcast(1, {"model": shared}, 1.0))
        (before,) = one.nodes.own
        assert before.spec.nodes == {"0", "a"}
        spawners[0].processes[0].asked = FakeProcess.begin_and_hang
        spawners[0].gone = "node a left the cluster"
        left = [node for node in there if node.id != "a"]

        def seen() -> bool:
            one.nodes.seen = left
            return False

        reports = one.run(TestChunk.cut(3000), seen)
        assert reports is not None
        assert [report.index for report in reports] == [0, 1, 2]
        (now,) = one.nodes.own
        assert now.spec.nodes == {"0", "b"}
        assert torch.equal(now.down.tensors["model"], shared)
        assert shared.eq(7.0).all()
    finally:
        one.close()


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


class Elsewhere:
    """The group of another node, which is not up yet."""

    retries, network, up, ranks, is_up = 0, 0, 0, (), False

    def look(self, seconds: float) -> bool:
        return False

    def readings(self) -> list[Reading]:
        return []


@pytest.mark.parametrize(("dies", "others"), [({}, 0), ({0: [True]}, 0), ({}, 1)])
def test_rows_are_in_memory_where_no_worker_was_lost_and_none_is_elsewhere(
    dies: dict[int, list[bool]], others: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = federation(class_problem(), tmp_path, Scaffold(), stack=2)
    one = workers_within(monkeypatch, 1, dies)(run.job)
    held = one.hold()
    assert held is not None
    store = ClientStore(tmp_path, run.job.state_fields(), held)
    everyone = np.arange(len(run.plan.task.data))
    parts, _ = run.plan.broadcast(run.state.server, run.state.transforms)
    one.publish(Broadcast(1, parts, 1.0))
    blocks = run.plan.blocks(1, everyone, store)
    given = np.concatenate([block.room for block in blocks])
    one.nodes.others += [Elsewhere()] * others  # type: ignore[list-item]
    reports = one.run(blocks, lambda: False)
    one.nodes.others.clear()
    assert reports is not None
    store.commit(*(report.state for report in reports if isinstance(report, BlockReport)))
    in_memory = store.rows.segments == (MEMORY,)
    assert in_memory == (not dies and not others)
    for round in range(4):
        store.tidy(round)
    # Who was lost may still write to what it was given; what was not taken for other reasons is given again.
    free = set(held.reserve(held.memory.most).tolist()) & set(given.tolist())
    assert bool(free) == bool(others)
    chunk = HoldoutChunk(0, everyone, None, store.of(everyone))
    sent = one._filed(chunk)
    assert isinstance(sent, HoldoutChunk)
    assert MEMORY not in sent.state.segments
    found = [rows.read(everyone, at, CPU)[0]["control"] for rows, at in readers(store, chunk, sent)]
    assert torch.equal(*found)
    assert found[0].any()
    one.close()


def readers(store: ClientStore, chunk: HoldoutChunk, sent: HoldoutChunk) -> list[tuple[StateRows, Places]]:
    """Who shares the memory, with the places it is told of; and who does not."""
    shares, files = StateRows(store.folder, store.fields, store.memory), StateRows(store.folder, store.fields)
    return [(shares, chunk.state), (files, sent.state)]
