"""The base of tasks."""

from __future__ import annotations

import pytest
import torch

from fedray.data import DataSpec
from fedray.tasks import Answers, Regression, Task


def test_classes_without_names_are_numbers() -> None:
    assert Task().of(DataSpec((), 3)).classes == ("0", "1", "2")
    assert Task().of(DataSpec((), 2, classes=("a", "b"))).classes == ("a", "b")


def test_the_task_of_some_data_leaves_the_task_itself() -> None:
    task = Regression()
    assert task.of(DataSpec((), 3, "regression")).spec.outputs == 3
    assert task.spec.outputs == 0


def test_positions_that_do_not_count_are_not_right() -> None:
    said = torch.tensor([[1, 0]])
    assert Answers(said, said, torch.tensor([[True, False]])).right.tolist() == [[True, False]]


def test_a_task_of_numbers_has_no_classes() -> None:
    one = torch.zeros(1, 1)
    for method in (Regression().answers, Regression().ranking, Regression().entropy):
        with pytest.raises(NotImplementedError, match="regression has no classes"):
            method(one, one)
    with pytest.raises(NotImplementedError, match="regression has no classes"):
        Regression().confidence(one)
