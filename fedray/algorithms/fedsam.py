"""FedSAM: sharpness-aware clients."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from fedray.algorithms.base import Algorithm, algorithms, check_at_least_0
from fedray.local.clients import Clients
from fedray.local.step import Gradient, Step


def ascended(rho: float) -> Gradient:
    """Return the hook that takes each client's gradient at ``w + rho * g / ||g||``; ``rho`` = 0 changes nothing."""

    def ascend(step: Step, grad: Tensor) -> None:
        if rho:
            grad.copy_(step.gradient(step.params + rho * functional.normalize(grad, dim=1)))

    return ascend


@algorithms.register("fedsam")
@dataclass(frozen=True)
class FedSAM(Algorithm):
    """FedSAM (Qu et al., arXiv:2206.02618, Algorithm 1): a step follows the gradient at ``w + rho * g / ||g||``.

    Both gradients are of the same batch, with the same dropout masks.

    >>> FedSAM(rho=0.1).rho
    0.1

    Args:
        rho: the length of the ascent, >= 0; 0 is FedAvg, bitwise.
    """

    rho: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_0(rho=self.rho)

    def client(self, c: Clients) -> None:
        """Fit with the gradient a little further up."""
        c.fit(gradient=ascended(self.rho))
