"""The executor without Ray: one item after the other, in this process."""

from __future__ import annotations

from pathlib import Path

import torch

from fedray.core.messages import Broadcast
from fedray.run.executor import InlineExecutor
from tests.helpers import class_problem, federation


def test_it_does_all_items_in_order_and_gives_its_threads_back(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    run = federation(class_problem((7, 3, 12, 9)), tmp_path, stack=2)
    executor = InlineExecutor(run.job)
    executor.wait()
    vector = executor.global_vector(run.plan.layout.size)
    vector.copy_(run.vector)
    items = run.plan.blocks(1, run.plan.cohort(1), run.state.store)
    executor.publish(Broadcast(1, {"model": vector}, run.plan.weight(run.plan.cohort(1))))
    reports = executor.run(items, lambda: False)
    assert reports is not None
    assert [report.index for report in reports] == [0, 1]
    assert float(executor.collect()["delta"].abs().max()) > 0
    executor.close()
    assert torch.get_num_threads() == before


def test_a_stop_is_heard_between_items(tmp_path: Path) -> None:
    run = federation(class_problem((7, 3, 12, 9)), tmp_path, stack=2)
    executor = InlineExecutor(run.job)
    cohort = run.plan.cohort(1)
    executor.publish(Broadcast(1, {"model": run.vector}, run.plan.weight(cohort)))
    asked: list[int] = []

    def stopping() -> bool:
        asked.append(1)
        return len(asked) > 1

    assert executor.run(run.plan.blocks(1, cohort, run.state.store), stopping) is None
    assert len(asked) == 2
    executor.close()
