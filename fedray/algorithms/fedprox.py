"""FedProx: a proximal term in the local objective."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedray.algorithms.base import AlgorithmConfig, algorithms
from fedray.local.rules import LocalRule, LocalRun


@dataclass(frozen=True)
class Proximal(LocalRule):
    """The local rule of FedProx.

    ``mu * (w - w_t)``, the gradient of ``mu / 2 * ||w - w_t||^2``, is added to the gradient.
    """

    mu: float

    def gradient(self, run: LocalRun, grad: Tensor) -> None:
        """Pull the clients' parameters towards the global ones."""
        if self.mu:
            grad.add_((run.params - run.anchor).mul_(self.mu))


@algorithms.register("fedprox")
@dataclass(frozen=True)
class FedProx(AlgorithmConfig):
    """FedProx (Li et al., arXiv:1812.06127, Algorithm 2): local objective ``F_k(w) + mu / 2 * ||w - w_t||^2``.

    The paper's clients may do inexact, differing amounts of work; here the work is ``local.epochs``, as in FedAvg.

    >>> import numpy as np, torch
    >>> there = torch.ones(1, 2)  # the only client of the block has moved by 1
    >>> run = LocalRun(1, np.array([0]), torch.zeros(2), there, {}, {}, torch.ones(1, 1), there)
    >>> gradient = torch.zeros(1, 2)
    >>> FedProx(mu=0.1).rule().gradient(run, gradient)
    >>> gradient
    tensor([[0.1000, 0.1000]])

    Args:
        mu: strength of the proximal term, >= 0; 0 is FedAvg, bitwise.
    """

    mu: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.mu >= 0.0:
            raise ValueError(f"mu={self.mu}: it must be at least 0")

    def rule(self) -> LocalRule:
        """Make the rule of the proximal gradient."""
        return Proximal(self.mu)
