"""FedLC and FedRS: logits corrected by the classes that a client has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fedray.algorithms.base import Algorithm, algorithms, check_at_least_0
from fedray.local.clients import Clients
from fedray.local.step import Step

_FEWEST = 1e-8
"""The examples that a class which a client lacks is taken to have."""


@algorithms.register("fedlc")
@dataclass(frozen=True)
class FedLC(Algorithm):
    """FedLC (Zhang et al., arXiv:2209.00189, equation 5): the loss of ``logits - tau * m_k^(-1/4)``.

    m_k is the number of the client's training examples of class k; of a class that it lacks 1e-8 is taken, a margin of
    100 tau, as in public implementations.  Predictions are those of the logits themselves.  Of tasks with a class at
    each position, m_k is the number of the client's positions of class k that count.

    >>> FedLC(tau=0.5).tau
    0.5

    Args:
        tau: size of the margins, >= 0; 0 is FedAvg, bitwise.
    """

    tau: float = 1.0
    needs_classes: ClassVar[bool] = True
    of_positions: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_0(tau=self.tau)

    def client(self, c: Clients) -> None:
        """Fit with the margins."""
        margin, spread = self.tau * c.labels.clamp(min=_FEWEST).pow(-0.25), c.task.about.by_class

        def objective(step: Step) -> Tensor:
            out = step.forward()
            return step.loss(out._replace(logits=out.logits - spread(margin[step.rows], out.logits)))

        c.fit(objective=objective if self.tau else None)


@algorithms.register("fedrs")
@dataclass(frozen=True)
class FedRS(Algorithm):
    """FedRS (Li and Zhan, KDD 2021, equation 3): the restricted softmax, logits of classes a client lacks times alpha.

    The paper scales the class's row of the last layer, which is the same where that layer has no bias.  Of tasks with a
    class at each position, a client lacks a class where none of its positions that count is of it.

    >>> FedRS(alpha=0.9).alpha
    0.9

    Args:
        alpha: in [0, 1]; 1 is FedAvg, bitwise.
    """

    alpha: float = 0.5
    needs_classes: ClassVar[bool] = True
    of_positions: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.alpha <= 1.0:
            raise ValueError(f"alpha={self.alpha}: it must be at least 0 and at most 1")

    def client(self, c: Clients) -> None:
        """Fit with the restricted softmax."""
        scale, spread = 1.0 - (1.0 - self.alpha) * (c.labels == 0).to(c.labels), c.task.about.by_class

        def objective(step: Step) -> Tensor:
            out = step.forward()
            return step.loss(out._replace(logits=out.logits * spread(scale[step.rows], out.logits)))

        c.fit(objective=objective if self.alpha < 1.0 else None)
