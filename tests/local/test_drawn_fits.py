"""Fits of programs where the work of clients is drawn or their own: the same in all fits that say nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedray.config.sections import LocalSection
from fedray.local.clients import Clients
from fedray.local.program import ClientProgram
from fedray.local.task import LocalTask
from tests.helpers import class_problem, local_task, relative, train

PROBLEM = class_problem((11, 11, 11, 11))
DRAWN = {"name": "uniform", "low": 1, "high": 4}


def task(program: Callable[[Clients], object], stack: Any, args: LocalSection) -> LocalTask:
    class Own(ClientProgram):
        def client(self, c: Clients) -> None:
            program(c)

    return local_task(PROBLEM, stack=stack, args=args, program=Own())


def in_order(task: LocalTask) -> list[int]:
    """The clients, most steps first, as a block has them."""
    examples = train(replace(task, program=ClientProgram()), [0, 1, 2, 3]).examples
    return [int(client) for client in np.argsort(-examples, kind="stable")]


def test_all_fits_of_a_round_and_fresh_batches_do_the_same_drawn_work() -> None:
    steps: list[list[int]] = []

    def twice(c: Clients) -> None:
        own = c.down["model"].repeat(len(c), 1)
        for params in (None, None, own):
            trace = c.fit(params, gradient=lambda step, grad: grad.add_(step.gradient(batch=step.fresh_batch())))
            steps.append(trace.steps.flatten().int().tolist())

    alone = task(twice, "off", LocalSection(DRAWN, 4))
    order = in_order(alone)
    steps.clear()
    expected = train(alone, order)
    found = [steps[3 * place] for place in range(4)]
    assert all(steps[3 * place : 3 * place + 3] == [steps[3 * place]] * 3 for place in range(4))
    assert len({one for (one,) in found}) > 1, "the draws of this seed differ"
    together = task(twice, 4, LocalSection(DRAWN, 4))
    steps.clear()  # of what was tried before
    stacked = train(together, order)
    assert steps == [[one for (one,) in found]] * 3
    assert relative(stacked.parts["delta"], expected.parts["delta"]) <= 1e-5


def test_a_number_that_a_fit_says_is_that_of_every_client() -> None:
    def two(c: Clients) -> None:
        c.fit(epochs=2)

    own = LocalSection(1, 4, by_client={"1": {"epochs": 3}, "2": {"steps": 5}, "3": {"batch_size": 11}})
    update = train(task(two, "off", own), [0, 1, 2, 3])
    assert update.examples.tolist() == [22] * 4


def test_a_fit_that_would_need_the_clients_in_another_order_says_so() -> None:
    def two(c: Clients) -> None:
        c.fit(epochs=2)

    args = LocalSection(1, 4, 3, by_client={"0": {"batch_size": 11}})
    with pytest.raises(RuntimeError, match=r"^clients step in the order of the configured work.*local\.stack=off"):
        train(task(two, 4, args), [0, 1, 2, 3])
