"""FedNTD: the global model's view of the classes that are not the true one is kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from fedray.algorithms.base import Algorithm, algorithms, check_above_0, check_at_least_0
from fedray.local.added import Added
from fedray.local.clients import Clients
from fedray.local.step import Step
from fedray.tasks import Positions


@algorithms.register("fedntd")
@dataclass(frozen=True)
class FedNTD(Algorithm):
    """FedNTD (Lee et al., arXiv:2106.03097, equation 6): ``CE + beta tau^2 KL(global || local)`` over not-true classes.

    Both distributions are softmax of the logits over tau, without the true class; the global model is run in evaluation
    mode.  The factor tau^2, as in the authors' code, keeps gradients of one size for every tau.  Of tasks with a class
    at each position both terms are means over the positions that count.

    >>> FedNTD(beta=0.3)
    FedNTD(weight='auto', beta=0.3, tau=1.0)

    Args:
        beta: weight of the distillation, >= 0; 0 is FedAvg, bitwise.
        tau: temperature, > 0.
    """

    beta: float = 1.0
    tau: float = 1.0
    needs_classes: ClassVar[bool] = True
    of_positions: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_0(beta=self.beta)
        check_above_0(tau=self.tau)

    def client(self, c: Clients) -> None:
        """Fit with the distillation."""
        about = c.task.about
        if not self.beta:
            c.fit()
        elif isinstance(about, Positions):
            c.fit(objective=partial(self._at_positions, about))
        else:
            c.fit(added=Added(self._divergence, (c.anchor,), weight=self.beta * self.tau**2))

    def _divergence(self, output: Tensor, y: Tensor, taught: Tensor) -> Tensor:
        """Return the divergence ``[...]`` of logits ``[..., K]`` from others, with the true classes ``[...]``."""
        places = torch.arange(output.shape[-1] - 1, device=y.device)
        wrong = places + (places >= y.unsqueeze(-1))
        student, teacher = ((z.gather(-1, wrong) / self.tau).log_softmax(-1) for z in (output, taught))
        return (teacher.exp() * (teacher - student)).sum(-1)

    def _at_positions(self, about: Positions, step: Step) -> Tensor:
        """Return the loss of each client, ``[A]``, of examples with a class at each position."""
        out, y = step.forward(), step.batch.y
        with torch.no_grad():
            taught = step.forward(step.anchor, train=False)
        student, teacher = (about.logits(one.logits.flatten(0, 1)).transpose(1, 2) for one in (out, taught))
        # A target that does not count may be the number of no output.
        labels = about.labels(y.flatten(0, 1)).clamp(max=student.shape[2] - 1)
        kept = self._divergence(student, labels, teacher).view(*y.shape[:2], -1)
        return step.loss(out) + self.beta * self.tau**2 * step.mean(kept)
