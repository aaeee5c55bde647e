"""The task of data, where nobody names one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from fedray.core.errors import ConfigError
from fedray.data.spec import DataSpec
from fedray.tasks.base import Task
from fedray.tasks.binary import Binary, Multilabel
from fedray.tasks.classification import Classification
from fedray.tasks.regression import Regression
from fedray.tasks.unsupervised import Unsupervised

_BY_KIND: dict[str, type[Task]] = {"classification": Classification, "regression": Regression}

Shape = tuple[int, ...]


def task_of(spec: DataSpec) -> Task:
    """Return the task that data are for: one of several classes, or numbers.

    >>> task_of(DataSpec((4,), 3)).name
    'classification'
    """
    return _BY_KIND[spec.task]().of(spec)


def infer(spec: DataSpec, target: Shape, loss: Any, output: Callable[[], Shape | None]) -> tuple[Task, str]:
    """Return the task of data, a model and a loss, and the reason for it, where it is not that of the data alone.

    >>> infer(DataSpec((4,), 2), (8,), None, lambda: (8, 1))[1]
    'one output for two classes'

    Args:
        spec: the data.
        target: the shape of some targets.
        loss: the loss; None: the task's own.
        output: gives the shape of the model's outputs for these targets, None if that is not known; asked where it
            matters.
    """
    if spec.padding is not None:
        raise ConfigError(
            "task: targets of different lengths are classes of each value, the next ones, or an answer: say task: "
            "token_classification, task: causal_lm, or task: seq2seq_lm"
        )
    yes_no = loss is F.binary_cross_entropy_with_logits or isinstance(loss, nn.BCEWithLogitsLoss)
    if not spec.outputs:
        return Unsupervised().of(spec), "there are no targets"
    if spec.task == "regression":
        if not yes_no:
            return task_of(spec), ""
        found = Binary() if spec.outputs == 1 or spec.target else Multilabel()
        return found.of(spec), "the loss is binary cross-entropy"
    if spec.outputs == 2 and (shape := output()) is not None:
        if len(target) == 1 and shape in (target, (*target, 1)):
            return Binary().of(spec), "one output for two classes"
        if len(target) == 2 and shape == target:
            return Multilabel().of(spec, target), "an output for each target, 0 or 1"
    return task_of(spec), ""


def inferred(output: Tensor, target: Tensor) -> Task:
    """Return the task of an output and its targets, by their shapes and types alone.

    >>> import torch
    >>> numbers = torch.zeros(5, 1)
    >>> inferred(torch.zeros(5, 3), torch.zeros(5, dtype=torch.int64)).name, inferred(numbers, numbers).name
    ('classification', 'regression')
    """
    shapes = tuple(output.shape), tuple(target.shape)
    if target.is_floating_point():
        return task_of(DataSpec((), target[0].numel(), "regression"))
    single = shapes[0] == shapes[1] or (*shapes[1], 1) == shapes[0]
    return infer(DataSpec((), 2 if single else output.shape[1]), shapes[1], None, lambda: shapes[0])[0]
