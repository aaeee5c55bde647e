"""The task of data, where nobody names one."""

from __future__ import annotations

from torch import Tensor

from fedray.data.spec import DataSpec
from fedray.tasks.base import Task
from fedray.tasks.classification import Classification
from fedray.tasks.regression import Regression

_BY_KIND: dict[str, type[Task]] = {"classification": Classification, "regression": Regression}


def task_of(spec: DataSpec) -> Task:
    """Return the task that data are for: one of several classes, or numbers.

    >>> task_of(DataSpec((4,), 3)).name
    'classification'
    """
    return _BY_KIND[spec.task]().of(spec)


def inferred(output: Tensor, target: Tensor) -> Task:
    """Return the task of an output and its targets, by their shapes and types alone.

    >>> import torch
    >>> numbers = torch.zeros(5, 1)
    >>> inferred(torch.zeros(5, 3), torch.zeros(5, dtype=torch.int64)).name, inferred(numbers, numbers).name
    ('classification', 'regression')
    """
    if target.is_floating_point():
        return task_of(DataSpec((), target[0].numel(), "regression"))
    return task_of(DataSpec((), max(output.shape[1], 1)))
