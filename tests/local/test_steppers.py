"""The stepper of a task is the first that says it fits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedray.core.errors import RunFailed
from fedray.local.sequential import SequentialStepper
from fedray.local.stacked import StackedStepper
from fedray.local.steppers import STEPPERS, stepper_for
from fedray.local.task import Sharing, Stacking
from tests.helpers import class_problem, local_task

CPU = torch.device("cpu")


def test_stacked_where_it_was_decided_and_else_one_by_one() -> None:
    task = local_task(class_problem(), stack=3)
    assert isinstance(stepper_for(task, [CPU]), StackedStepper)
    alone = replace(task, stacking=Stacking(1, False, "batch statistics in 0"))
    assert isinstance(stepper_for(alone, [CPU]), SequentialStepper)
    assert StackedStepper.fits(alone, [CPU]) == "batch statistics in 0"


@pytest.mark.parametrize(("name", "stack", "count"), [("stacked", 3, 3), ("sequential", "off", 1)])
def test_each_gives_memory_for_the_clients_of_its_blocks(name: str, stack: int, count: int) -> None:
    task = local_task(class_problem(), stack=stack)
    assert STEPPERS[name].of(task, [CPU]).locals(count).shape == (count, task.layout.size)


def test_one_by_one_takes_as_many_devices_as_share_a_batch() -> None:
    task = replace(local_task(class_problem(), stack="off"), sharing=Sharing(2, "by hand"))
    stepper = SequentialStepper.of(task, [CPU, CPU, CPU])
    assert 1 + len(stepper._others) == 2


def test_where_none_fits_each_says_why() -> None:
    task = replace(local_task(class_problem()), stacking=Stacking(2, False, "it draws from random"))
    with pytest.raises(
        RunFailed,
        match=r"^no way .*: sharded: its worker is one process; lanes: .*; stacked: .*; sequential: 2 clients are",
    ):
        stepper_for(task, [CPU])
