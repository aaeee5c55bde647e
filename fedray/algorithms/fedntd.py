"""FedNTD: the global model's view of the classes that are not the true one is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedray.algorithms.base import Algorithm, algorithms, check_above_0, check_at_least_0
from fedray.local.added import Added
from fedray.local.clients import Clients


@algorithms.register("fedntd")
@dataclass(frozen=True)
class FedNTD(Algorithm):
    """FedNTD (Lee et al., arXiv:2106.03097, equation 6): ``CE + beta tau^2 KL(global || local)`` over not-true classes.

    Both distributions are softmax of the logits over tau, without the true class; the global model is run in evaluation
    mode.  The factor tau^2, as in the authors' code, keeps gradients of one size for every tau.

    >>> FedNTD(beta=0.3)
    FedNTD(weight='auto', beta=0.3, tau=1.0)

    Args:
        beta: weight of the distillation, >= 0; 0 is FedAvg, bitwise.
        tau: temperature, > 0.
    """

    beta: float = 1.0
    tau: float = 1.0
    needs_classes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_0(beta=self.beta)
        check_above_0(tau=self.tau)

    def client(self, c: Clients) -> None:
        """Fit with the distillation."""

        def divergence(output: Tensor, y: Tensor, taught: Tensor) -> Tensor:
            places = torch.arange(output.shape[-1] - 1, device=y.device)
            wrong = places + (places >= y.unsqueeze(-1))
            student, teacher = ((z.gather(-1, wrong) / self.tau).log_softmax(-1) for z in (output, taught))
            return (teacher.exp() * (teacher - student)).sum(-1)

        added = Added(divergence, (c.anchor,), weight=self.beta * self.tau**2)
        c.fit(added=added if self.beta else None)
