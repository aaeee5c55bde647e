"""Clients that step at once: each row is its client alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedray import optim
from fedray.config.sections import LocalSection
from fedray.core.messages import Broadcast
from fedray.local.stacked import StackedStepper
from fedray.local.task import Stacking
from fedray.local.trainer import Trainer
from tests.helpers import class_problem, local_task, relative, train


def test_a_row_does_not_feel_its_neighbours() -> None:
    task = local_task(class_problem((8, 8, 8, 8)), stack=4)
    four = train(task, [0, 1, 2, 3])
    other = train(task, [3, 1, 0, 2])
    for row, client in enumerate([3, 1, 0, 2]):
        assert torch.equal(other.parts["delta"][row], four.parts["delta"][client])


def test_the_padding_of_a_ragged_block_weighs_nothing() -> None:
    """What stands in the padding is the client's last row: were it counted, its loss would be another."""
    task = local_task(class_problem((8, 3)), args=LocalSection(1, 8), stack=2)
    both, short = train(task, [0, 1]), train(replace(task, stacking=Stacking(1, False, "")), [1])
    assert relative(both.parts["delta"][1], short.parts["delta"][0]) <= 1e-5
    assert both.loss[1] == pytest.approx(short.loss[0], rel=1e-5)


def test_an_optimizer_that_remembers_forgets_from_round_to_round() -> None:
    task = local_task(class_problem((8, 8)), optimizer=optim.SGD(0.1, momentum=0.9), stack=2)
    stepper = Trainer(task, [torch.device("cpu")])
    model = task.layout.pack(dict(task.model_fn().state_dict()))
    first, again = (
        stepper.train(np.array([0, 1]), Broadcast(1, {"model": model}, 1.0), {}).parts["delta"].clone() for _ in "ab"
    )
    assert torch.equal(first, again)


def test_the_template_holds_no_parameters_of_its_own() -> None:
    """They would lie in memory for nothing: every step brings its own."""
    task = local_task(class_problem((4, 4)), stack=2)
    module = task.model_fn()
    stepper = StackedStepper(task, module, torch.device("cpu"))
    assert sum(parameter.numel() for parameter in module.parameters()) == 0
    assert not stepper.hidden.changed
