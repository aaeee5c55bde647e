"""A loss of single examples that a program adds to the task's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.func import vmap

from fedray.local.step import Objective, Step


@dataclass(frozen=True, eq=False)
class Added:
    """A loss of each example by itself, which a fit adds to the task's: ``task + weight * mean_i function_i``.

    As the engine knows the loss of each example, it clips its gradient together with that of the task's where rows are
    protected (``privacy.unit: example``), which an objective, that may join the rows of a batch, is not.

    >>> added = Added(lambda output, target, other: (output - other).square().sum(-1), (torch.zeros(4),), weight=0.5)
    >>> added.of(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[0]]), torch.zeros(1, 1, 2))
    tensor([[5.]])

    Args:
        function: (output, target, and the outputs of ``models``) to the loss of each example: of outputs ``[..., K]``
            and targets ``[...]`` it is ``[...]``, with any axes in front.  Where rows are protected it is run on each
            example alone, by vmap.
        models: the parameters of other models, ``[D]`` or ``[C, D]``, such as ``c.anchor``; they are run on the
            examples in evaluation mode, and get no gradient.
        weight: the factor of its mean.
    """

    function: Callable[..., Tensor]
    models: tuple[Tensor, ...] = ()
    weight: float = 1.0

    def objective(self, step: Step) -> Tensor:
        """Return the loss of each client, ``[A]``, where examples need not be told apart."""
        out, at = step.forward(), self.at(step.rows)
        with torch.no_grad():
            others = [step.forward(model, train=False).logits for model in at.models]
        return step.loss(out) + self.weight * step.mean(self.function(out.logits, step.batch.y, *others))

    def at(self, rows: slice | Tensor) -> Added:
        """Return it for some of the clients: their models, ``[D]`` or ``[A, D]``."""
        return replace(self, models=tuple(model if model.dim() == 1 else model[rows] for model in self.models))

    def of(self, outputs: Tensor, targets: Tensor, *others: Tensor) -> Tensor:
        """Return the loss of each example, none of which can see another, without the weight, ``[A, B]``.

        Args:
            outputs: of the model, ``[A, B, ...]``.
            targets: ``[A, B, ...]``.
            others: outputs of the other models, each ``[A, B, ...]``.

        Raises:
            ValueError: the function gives anything but one number.
        """
        shape = outputs.shape[:2]
        found = vmap(self.function)(*(tensor.flatten(0, 1) for tensor in (outputs, targets, *others)))
        if found.dim() != 1:
            raise ValueError(
                f"added: its function gives {list(found.shape[1:])} of one example, and must give a number"
            )
        result: Tensor = found.view(shape)
        return result


def parted(objective: Objective | None, added: Added | None, private: bool) -> tuple[Objective | None, Added | None]:
    """Return the objective of a fit, and what the engine itself adds to the task's loss, as rows are ``private``.

    Raises:
        ValueError: a program gives both.
    """
    if added is None:
        return objective, None
    if objective is not None:
        raise ValueError("fit(objective, added): an objective is the whole loss: put what is added into it")
    return (None, added) if private else (added.objective, None)
