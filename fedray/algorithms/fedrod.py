"""Fed-RoD: a generic head trained with a balanced loss, and on top of it a personal one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedray.algorithms.base import Algorithm, algorithms, check_at_least_0
from fedray.core.messages import Parts
from fedray.local.clients import Clients
from fedray.local.step import Step

_FEWEST = 1e-8
"""The examples that a class which a client lacks is taken to have."""


@algorithms.register("fedrod")
@dataclass(frozen=True)
class FedRoD(Algorithm):
    """Fed-RoD (Chen and Chao, arXiv:2107.00778, linear), with the balanced softmax: one body, two heads.

    Body and generic head are averaged, and trained on the loss of ``logits + gamma log m_k``, with m_k the client's
    examples of class k (its positions of class k that count, where each position has one); of a class that it lacks
    1e-8 is taken.  The personal head, a second one like the model's own, stays with its client: in each step it goes
    down the loss of the sum of both heads' logits on the same batch, with features and generic logits as they were
    before the step and fixed, by plain descent at the client learning rate.  It begins at 0; the paper does not say
    how.  A client is evaluated with the sum, the server's model is the generic one.  The authors' code is not public:
    what the paper leaves open is as in public implementations of it, but for two things: these begin the personal head
    as a copy of the generic one, and take ``log 0`` for a class that is lacking.

    >>> FedRoD(gamma=0.5).gamma
    0.5

    Args:
        gamma: power of the class counts, >= 0; with 0 what is sent is FedAvg's, bitwise.
    """

    gamma: float = 1.0
    needs_classes: ClassVar[bool] = True
    of_positions: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_0(gamma=self.gamma)

    def initial_state(self, c: Clients) -> Parts:
        """Return a head of zeros."""
        return {"head": torch.zeros_like(c.params)}

    def client(self, c: Clients) -> None:
        """Fit body and generic head, and with each step the personal head."""
        prior, spread = self.gamma * c.labels.clamp(min=_FEWEST).log(), c.task.about.by_class

        def balanced(step: Step) -> Tensor:
            out = step.forward()
            return step.loss(out._replace(logits=out.logits + spread(prior[step.rows], out.logits)))

        def personal(step: Step, grad: Tensor) -> None:
            head = c.state["head"][step.rows].clone().requires_grad_()
            generic = step.forward(step.params).logits
            with torch.enable_grad():
                other = step.forward(self._with(head, step.params.detach(), step))
                both = step.loss(other._replace(logits=generic + other.logits))
                (slope,) = torch.autograd.grad(both.sum(), head)
            c.state["head"][step.rows] = head.detach() - step.lr * slope

        c.fit(objective=balanced, gradient=personal)

    def predict(self, step: Step) -> Tensor:
        """Return the sum of both heads' logits."""
        other = self._with(step.c.state["head"][step.rows], step.params, step)
        return step.forward(step.params, train=False).logits + step.forward(other, train=False).logits

    def _with(self, head: Tensor, params: Tensor, step: Step) -> Tensor:
        """Return models with another head."""
        layout = step.c.layout
        mask = torch.zeros(params.shape[-1], dtype=torch.bool, device=params.device)
        for entry in layout.parameters:
            mask[entry.start : entry.stop] = entry.head
        wide = torch.nn.functional.pad(head, (0, params.shape[-1] - layout.trained))
        return torch.where(mask, wide, params)
