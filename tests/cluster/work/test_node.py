"""The actor of a node: whatever Ray repeats is done once, and what it folded is given as often as it is asked for."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedray.aggregators import Mean, Median
from fedray.cluster.place.placement import GroupSpec, Size, Slot
from fedray.cluster.work import node
from fedray.cluster.work.collective import ProcessGroupBroken
from fedray.cluster.work.memory import Buffer
from fedray.cluster.work.node import NodeActor, merge_into, read_only
from fedray.cluster.work.payload import Payload
from fedray.cluster.work.rows import Held, RowFile
from fedray.cluster.work.worker import Arrays, RoundHeader
from fedray.run.evaluation import TestChunk
from tests import helpers
from tests.cluster.work.fakes import fake_group

ITEMS = pickle.dumps(dict(enumerate(TestChunk.cut(2500))))
SPEC = GroupSpec("id", "n", [Slot(Size())])


class Reserved:
    """Room that is there."""

    def wait(self) -> None:
        pass


@pytest.fixture
def actor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NodeActor]:
    """An actor whose group has fake processes."""
    threads = torch.get_num_threads()
    job = helpers.federation(helpers.class_problem(), tmp_path).job
    monkeypatch.setattr(node, "worker_group", lambda none, spec, reservation: fake_group(job)[0])
    one = NodeActor(Payload(pickle.dumps(None), None, {}), SPEC, Reserved())  # type: ignore[arg-type]
    one._workers.spec = SPEC
    yield one
    one.close()
    torch.set_num_threads(threads)


def broadcast(actor: NodeActor, value: float = 0.0) -> Arrays:
    return {name: np.full(len(t), value, np.float32) for name, t in actor._workers.down.tensors.items()}


def folded(actor: NodeActor, value: float) -> None:
    """As if the worker had folded so much."""
    for worker in actor._workers.workers:
        assert isinstance(worker.accumulator, Buffer)
        for tensor in worker.accumulator.tensors.values():
            tensor.fill_(value)


def test_a_call_that_is_repeated_is_answered_and_not_done_again(actor: NodeActor) -> None:
    header = RoundHeader(1, 1, 1.0)
    first = actor.work(1, header, broadcast(actor), ITEMS)
    assert actor.work(1, header, broadcast(actor), ITEMS) == first
    answer: node.Answer = pickle.loads(first)
    assert sorted(answer.reports or {}) == [0, 1, 2]
    assert [reading.cpu_seconds for reading in answer.readings] == [1.0], "one pass over the work"
    assert (answer.ranks, answer.retries) == ([0], 0)
    more = pickle.loads(actor.work(2, header, None, pickle.dumps({7: TestChunk(7, 0, 1)})))
    assert sorted(more.reports) == [7], "the broadcast is there, and the round is not begun again"


def test_a_sum_is_the_same_twice_and_leaves_what_was_folded_alone(actor: NodeActor) -> None:
    actor.work(1, RoundHeader(1, 1, 1.0), broadcast(actor), ITEMS)
    folded(actor, 3.0)
    other = {name: np.full(width, 4.0) for name, width in actor._workers.fold.widths.items()}
    for _ in range(2):
        assert {float(array[0]) for array in actor.fold(other, {}).values() if len(array)} == {7.0}
        assert {float(array[0]) for array in actor.fold().values() if len(array)} == {3.0}


def test_a_new_header_begins_a_round_and_a_broadcast_that_did_not_arrive_is_said(actor: NodeActor) -> None:
    actor.work(1, RoundHeader(1, 1, 1.0), broadcast(actor, 5.0), ITEMS)
    assert float(actor._workers.down.tensors["model"][0]) == 5.0
    with pytest.raises(ProcessGroupBroken, match="the broadcast of the process group did not arrive"):
        actor.work(2, RoundHeader(2, 2, 1.0), None, ITEMS)
    actor.work(3, RoundHeader(1, 1, 1.0, take=1), None, ITEMS)  # another take of a round that it has


def test_what_is_warned_of_is_told_once_in_the_answer_and_nowhere_else_after_it_is_closed(actor: NodeActor) -> None:
    log = logging.getLogger("fedray")
    log.warning("a worker %s", "died")
    log.info("nothing of interest")
    assert actor.up().warnings == ["a worker died"]
    answer = pickle.loads(actor.work(1, RoundHeader(1, 1, 1.0), broadcast(actor), ITEMS))
    assert answer.warnings == []
    handlers = list(log.handlers)
    actor.close()
    assert len(log.handlers) == len(handlers) - 1


def test_who_was_stopped_leaves_its_work(actor: NodeActor) -> None:
    actor.stop()
    answer = pickle.loads(actor.work(1, RoundHeader(1, 1, 1.0), broadcast(actor), ITEMS))
    assert answer.reports is None


@given(st.lists(st.none() | st.integers(-8, 8), max_size=5))
def test_merging_begins_with_whoever_comes_first(values: list[int | None]) -> None:
    total: dict[str, Any] = {}
    for value in values:
        merge_into(Mean(), total, {} if value is None else {"delta": np.full(2, float(value))})
    there = [value for value in values if value is not None]
    assert {name: tensor.tolist() for name, tensor in total.items()} == ({"delta": [sum(there)] * 2} if there else {})


def test_arrays_of_the_object_store_are_seen_and_not_copied() -> None:
    array = np.arange(3.0)
    array.flags.writeable = False
    assert read_only({"a": array})["a"].data_ptr() == array.ctypes.data


def test_rows_are_given_a_few_columns_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And are forgotten with the round."""
    threads = torch.get_num_threads()
    job = helpers.federation(helpers.class_problem(), tmp_path, aggregator=Median()).job
    monkeypatch.setattr(node, "worker_group", lambda none, spec, reservation: fake_group(job)[0])
    actor = NodeActor(Payload(pickle.dumps(None), None, {}), SPEC, Reserved())  # type: ignore[arg-type]
    actor._workers.spec = SPEC
    actor.work(1, RoundHeader(1, 1, 1.0), broadcast(actor), ITEMS)
    (worker,) = actor._workers.workers
    assert isinstance(worker.accumulator, RowFile)
    writer, width = worker.accumulator.handle.open(), job.task.layout.size
    writer.append({"delta": torch.arange(2.0 * width).view(2, width)})
    actor._workers.fold.hold(worker.accumulator, Held(0, np.array([9, 4]), np.array([1.0, 2.0])))
    for _ in range(2):
        clients, weight = actor.held()
        assert (clients.tolist(), weight.tolist()) == ([4, 9], [2.0, 1.0])
        assert actor.columns("delta", np.array([0, 1]), 1, 3).tolist() == [[width + 1, width + 2], [1, 2]]
    actor.work(2, RoundHeader(2, 2, 1.0), broadcast(actor), ITEMS)
    assert actor._folded() == {}
    writer.close()
    actor.close()
    torch.set_num_threads(threads)
