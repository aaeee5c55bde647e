"""A worker and its executor: what a block folds does not depend on who else failed in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fedray.aggregators.base import Accumulator
from fedray.algorithms import Scaffold
from fedray.core.messages import Block, BlockReport, Broadcast
from fedray.local.stacking import Stack
from fedray.run.evaluation import TestChunk
from fedray.run.executor import InlineExecutor
from fedray.run.worker import Worker
from fedray.transforms import Transform
from tests.helpers import Federation, class_problem, federation
from tests.run.test_loop import Flaky, marked


def fold(run: Federation, *blocks: list[int]) -> tuple[Accumulator, list[BlockReport]]:
    """Train blocks in the first round of ``run``."""
    worker = Worker(run.job, [torch.device("cpu")])
    worker.begin(Broadcast(1, {"model": run.vector}, 37.0))
    reports = [worker.train(Block(1, index, np.array(clients))) for index, clients in enumerate(blocks)]
    worker.close()
    return worker.finish(), reports


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_block_without_a_client_that_failed_is_the_block_of_the_others(bad: int, tmp_path: Path) -> None:
    clients = [2, 3, 0]
    others = [client for client in clients if client != clients[bad]]
    run = federation(marked(clients[bad]), tmp_path)
    failed, (report,) = fold(run, clients)
    expected, (other,) = fold(run, others)
    assert torch.equal(failed["delta"], expected["delta"])
    assert report.clients.tolist() == other.clients.tolist() == others
    assert report.loss.tolist() == other.loss.tolist()
    assert [(f.client, f.name, f.round, f.stage) for f in report.failures] == [
        (clients[bad], str(clients[bad]), 1, "update")
    ]
    flaky = Flaky(clients[bad], lambda call: True)
    run = federation(flaky.problem, tmp_path)
    flaky.armed = True
    raised, (report,) = fold(run, clients)
    expected, _ = fold(federation(class_problem(), tmp_path), others)
    assert torch.equal(raised["delta"], expected["delta"])
    assert [(f.client, f.stage) for f in report.failures] == [(clients[bad], "train")]


def test_half_an_update_is_no_failed_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(total: Tensor, addend: Tensor, scale: float = 1.0) -> None:
        raise torch.cuda.OutOfMemoryError("by hand")

    monkeypatch.setattr("fedray.aggregators.mean.add_rounded", short)
    run = federation(class_problem(), tmp_path, Scaffold())
    worker = Worker(run.job, [torch.device("cpu")])
    worker.begin(Broadcast(1, run.plan.broadcast(run.state.server, {})[0], 37.0))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        worker.train(Block(1, 0, np.array([2, 3]), left_out=(2,)))
    folded = worker.finish()
    assert bool(folded["delta"].any())
    assert not folded["control"].any()
    worker.close()


def test_a_block_of_nobody_left_folds_nothing(tmp_path: Path) -> None:
    total, (report,) = fold(federation(marked(0, 2, 3), tmp_path), [2, 3, 0])
    assert not total["delta"].any()
    assert report.clients.tolist() == []
    assert [f.client for f in report.failures] == [0, 2, 3]
    assert report.weight.shape == report.loss.shape == report.examples.shape == (0,)


def test_blocks_fold_to_the_same_bits_in_any_order_and_on_any_worker(tmp_path: Path) -> None:
    run = federation(class_problem(), tmp_path)
    blocks = [[2, 3, 0], [5, 1], [4]]
    whole, _ = fold(run, *blocks)
    turned, _ = fold(run, *reversed(blocks))
    assert torch.equal(whole["delta"], turned["delta"])
    parts = [fold(run, block)[0] for block in blocks]
    total = run.job.algorithm.aggregator.zero(run.job.algorithm.widths(run.plan.layout), "cpu")
    for part in parts:
        run.job.algorithm.aggregator.merge(total, part)
    assert torch.equal(total["delta"], whole["delta"])


def test_chunks_of_a_test_set_cover_it_once() -> None:
    for examples in (0, 1, 1023, 1024, 1025, 5000):
        chunks = TestChunk.cut(examples)
        assert [i for chunk in chunks for i in range(chunk.start, chunk.stop)] == list(range(examples))
        assert [chunk.index for chunk in chunks] == list(range(len(chunks)))


def test_the_inline_executor_stops_between_items_and_gives_threads_back(tmp_path: Path) -> None:
    run = federation(class_problem(), tmp_path)
    before = torch.get_num_threads()
    executor = InlineExecutor(run.job)
    executor.publish(Broadcast(1, {"model": run.vector}, 37.0))
    blocks = [Block(1, 0, np.array([2, 3])), Block(1, 1, np.array([0]))]
    asked: list[int] = []
    assert executor.run(blocks, lambda: bool(asked.append(1)) or len(asked) == 2) is None  # type: ignore[func-returns-value]
    executor.publish(Broadcast(1, {"model": run.vector}, 37.0))
    reports = executor.run(blocks, lambda: False)
    assert reports is not None
    assert [report.index for report in reports] == [0, 1]
    expected, _ = fold(run, [2, 3], [0])
    assert torch.equal(executor.collect()["delta"], expected["delta"])
    executor.close()
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("stack", ["off", 1, 3])
def test_an_update_that_nobody_looks_at_is_folded_beside_its_start_with_the_same_bits(
    stack: Stack, tmp_path: Path
) -> None:
    class Looking(Transform):
        """Sees every update and changes none."""

    blocks = [[client] for client in (2, 0, 3, 5)]
    folded = [
        fold(federation(marked(0, sizes=(9, 4, 7, 5, 4, 1)), tmp_path, transforms=seen, stack=stack), *blocks)
        for seen in ([], [Looking()])
    ]
    (quick, of_quick), (seen, of_seen) = folded
    assert bool(quick["delta"].any())
    assert torch.equal(quick["delta"], seen["delta"])
    for one, other in zip(of_quick, of_seen, strict=True):
        assert one.clients.tolist() == other.clients.tolist()
        assert [(f.client, f.error) for f in one.failures] == [(f.client, f.error) for f in other.failures]
    assert [f.client for report in of_quick for f in report.failures] == [0]
