"""A worker process without the process: what it folds is what one process folds, and tickets say what it does."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedray.aggregators import Aggregator, Mean, Median
from fedray.aggregators.gathered import Rows
from fedray.cluster.work import worker as module
from fedray.cluster.work.connections import Endpoint
from fedray.cluster.work.fold import NodeFold
from fedray.cluster.work.memory import Buffer
from fedray.cluster.work.tickets import TicketQueue
from fedray.cluster.work.worker import Channel, RoundHeader, WorkerActor
from fedray.core.messages import Block, Broadcast
from fedray.run.executor import InlineExecutor
from tests.helpers import Federation, class_problem, federation


class Node:
    """A worker with the memory that its group has for it."""

    def __init__(self, one: Federation) -> None:
        self.one, layout = one, one.job.task.layout
        aggregator = one.job.algorithm.aggregator
        self.buffer = TicketQueue.buffer(1)
        self.tickets = TicketQueue(self.buffer.handle)
        self.down = Buffer(one.job.algorithm.broadcast_widths(layout), torch.float32)
        self.down.tensors["model"].copy_(one.vector)
        self.fold = NodeFold(aggregator, one.job.algorithm.widths(layout))
        self.up = self.fold.accumulator()
        channel = Channel(Endpoint(), self.buffer.handle, 0, 0, self.down.handle, self.up.handle)
        self.actor = WorkerActor(one.job, channel, "n/0", 0)

    def work(self, items: list[Block], header: RoundHeader) -> tuple[dict[int, object], Any]:
        """Let it take all tickets there are."""
        self.tickets.open()
        reports, held, reading = pickle.loads(self.actor.work(header, pickle.dumps(items)))
        assert reading.worker == "n/0"
        return reports, held

    def close(self) -> None:
        self.actor._listener.close()
        self.actor._worker.close()
        self.fold.begin()
        for buffer in (self.buffer, self.down, self.up):
            buffer.close()


Make = Callable[[Aggregator], Node]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes a worker here; what it does to its process it does not do to this one."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(module, "_let_others_finish", lambda: None)
    monkeypatch.setattr(module, "_keep_freed_memory", lambda: None)
    made: list[Node] = []

    def node(aggregator: Aggregator) -> Node:
        made.append(Node(federation(class_problem(), tmp_path, aggregator=aggregator, stack=2)))
        return made[-1]

    yield node
    while made:
        made.pop().close()


def blocks(one: Federation) -> list[Block]:
    return one.plan.blocks(1, one.plan.cohort(1), one.state.store)


def inline(one: Federation, items: list[Block], weight: float) -> dict[str, torch.Tensor]:
    """What one process folds."""
    executor = InlineExecutor(one.job)
    executor.publish(Broadcast(1, {"model": one.vector}, weight))
    executor.run(items, lambda: False)
    total = {name: tensor.clone() for name, tensor in executor.collect().items()}
    executor.close()
    return total


def test_it_folds_in_place_to_the_bits_of_one_process_and_goes_on_in_the_round(make: Make) -> None:
    node = make(Mean())
    items, weight = blocks(node.one), node.one.plan.weight(node.one.plan.cohort(1))
    assert len(items) == 3
    header = RoundHeader(1, 1, weight)
    assert isinstance(node.up, Buffer)
    for some in (items[:1], items[1:]):
        reports, form = node.work(some, header)
        assert sorted(reports) == list(range(len(some)))
    rule = Mean()
    folded, expected = rule.filled(rule.formed(node.up.tensors, form)), rule.filled(inline(node.one, items, weight))
    assert all(torch.equal(folded[name], part) for name, part in expected.items())
    _, form = node.work(items[:1], RoundHeader(1, 1, weight, take=1))
    folded, alone = rule.filled(rule.formed(node.up.tensors, form)), rule.filled(inline(node.one, items[:1], weight))
    assert all(torch.equal(folded[name], part) for name, part in alone.items()), "a take begins at zero"


def test_rows_are_written_once_and_a_round_begins_with_none(make: Make) -> None:
    node = make(Median())
    items = blocks(node.one)
    for number in (1, 2):
        node.fold.begin()
        first = 0
        for block in items:
            _, held = node.work([block], RoundHeader(number, 1, 1.0))
            assert held is not None
            assert (held.first, held.clients.tolist()) == (first, block.clients.tolist())
            first += len(block.clients)
            node.fold.hold(node.up, held)
        _, nothing = node.work([], RoundHeader(number, 1, 1.0))
        assert nothing is not None
        assert len(nothing.clients) == 0
        got = Rows.of(node.fold.total([]))
        expected = Rows.of(inline(node.one, items, 1.0))
        np.testing.assert_array_equal(got.clients, expected.clients)
        np.testing.assert_array_equal(got.weight, expected.weight)
        assert all(torch.equal(got.parts[name], part) for name, part in expected.parts.items())
        assert not any(len(part) for part in node.actor._worker.finish().values()), "the worker holds none of them"


def test_what_others_took_it_leaves(make: Make) -> None:
    node = make(Mean())
    items = blocks(node.one)
    node.tickets.open()
    other = TicketQueue(node.buffer.handle, 0)
    assert other.take() == 0
    reports, _, _ = pickle.loads(node.actor.work(RoundHeader(1, 1, 1.0), pickle.dumps(items)))
    assert sorted(reports) == [1, 2]
    other.close()
