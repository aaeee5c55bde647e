"""The fit of a loss that somebody names to its task: for whatever targets examples may have, not the first one's."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedray.core.errors import ConfigError, one_line
from fedray.core.losses import LossFn, cross_entropy, ignore_index, mse
from fedray.tasks import Multilabel, Task
from fedray.tasks.binary import YesNo
from fedray.tasks.positions import Tokens

Shape = tuple[int, ...]

_OF_CLASSES = cross_entropy, F.cross_entropy, nn.CrossEntropyLoss
_OF_NUMBERS = (
    mse, F.mse_loss, nn.MSELoss, F.l1_loss, nn.L1Loss, F.smooth_l1_loss, nn.SmoothL1Loss, F.huber_loss, nn.HuberLoss
)  # fmt: skip
_OF_PROBABILITIES = F.binary_cross_entropy, nn.BCELoss


def check_named(loss: LossFn, task: Task, shape: Shape, target: Shape) -> None:
    """Check what a known loss makes of outputs and targets, where it would run and mean something else.

    >>> from fedray.tasks import Binary
    >>> check_named(cross_entropy, Binary(), (8, 1), (8,))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    fedray.core.errors.ConfigError: local.loss: cross-entropy ... the model gives (8, 1) for targets (8,): ...

    Args:
        loss: the loss that the config names, or Python gives.
        task: of which outputs and targets are.
        shape: of the model's outputs.
        target: of the targets.

    Raises:
        ConfigError: it cannot train this task, with both shapes and what to do.
    """
    gives = f"the model gives {shape} for targets {target}"
    if isinstance(task, YesNo) and _is_one(loss, _OF_NUMBERS):
        raise ConfigError(
            f"local.loss: it compares an output itself with 0 and 1, whose middle is one half, and task: {task.name} "
            f"takes outputs above 0 for yes; {gives}; {instead_of(task)}"
        )
    if isinstance(task, YesNo) and _is_one(loss, _OF_PROBABILITIES):
        raise ConfigError(
            f"local.loss: it compares probabilities, all of which are above 0, and task: {task.name} takes outputs "
            f"above 0 for yes; {gives}: let it give logits, without a sigmoid, and {instead_of(task)}"
        )
    if not _is_one(loss, _OF_CLASSES):
        return
    if len(shape) == 1 or shape[1] == 1:
        raise ConfigError(
            f"local.loss: cross-entropy compares outputs for several classes, and {gives}: of a single output it is "
            f"the same whatever the model says; {instead_of(task)}"
        )
    if isinstance(task, Multilabel):
        raise ConfigError(
            "local.loss: cross-entropy is for one of several classes, and task: multilabel asks for each label by "
            f"itself; {gives}; {instead_of(task)}"
        )
    if isinstance(task, Tokens):
        raise ConfigError(
            f"local.loss: cross-entropy has the classes second, [B, K, T], and task: {task.name} has them last, "
            f"[B, T, K]; {gives}; {instead_of(task)}"
        )
    wanted = getattr(task, "ignore_index", None)
    if wanted is not None and ignore_index(loss) != wanted:
        raise ConfigError(
            f"local.loss: this cross-entropy counts targets of {wanted}, which task.ignore_index leaves out; {gives}; "
            f"{instead_of(task)}"
        )


def check_targets(loss: LossFn, task: Task, output: Tensor, target: Tensor) -> None:
    """Try a loss on the first and the last class, and on a target that does not count: the data may begin with another.

    Args:
        loss: the loss that is trained with.
        task: of which outputs and targets are.
        output: some outputs ``[B, ...]``.
        target: their targets ``[B, ...]``.

    Raises:
        ConfigError: it fails on one of them, with both shapes and what to do.
    """
    for number, what in _targets(task, target).items():
        try:
            with torch.no_grad():
                loss(output, torch.full_like(target, number))
        except Exception as error:
            raise ConfigError(
                f"local.loss: it fails on {what}, {number}: the model gives {tuple(output.shape)} for targets "
                f"{tuple(target.shape)} ({one_line(error)[:200]}); {instead_of(task)}"
            ) from error


def instead_of(task: Task) -> str:
    """Return what to do where a loss does not fit a task."""
    return f"take another, or leave local.loss out, and it is that of task: {task.name}"


def _targets(task: Task, target: Tensor) -> dict[int, str]:
    if task.kind != "classes" or target.is_floating_point():
        return {}
    last = 1 if task.several else task.spec.outputs - 1
    found = {0: "the first class", max(last, 0): "the last class"}
    left_out = getattr(task, "ignore_index", None)
    return found if left_out is None else {**found, left_out: "a target that does not count"}


def _is_one(loss: Any, known: tuple[Any, ...]) -> bool:
    """Tell if a loss is one of some functions, also with options, or of some classes."""
    function = getattr(loss, "function", loss)
    function = function.func if isinstance(function, partial) else function
    return any(function is one or type(function) is one for one in known)
