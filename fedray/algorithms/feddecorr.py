"""FedDecorr: features that do not collapse into few dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedray.algorithms.base import Algorithm, algorithms, check_at_least_0
from fedray.algorithms.moon import features_of
from fedray.local.batches import Batch
from fedray.local.clients import Clients
from fedray.local.step import Step

_EPS = 1e-8


def correlations(features: Tensor, batch: Batch) -> Tensor:
    """Return the correlations of features ``[A, B, f]`` over each client's real examples, ``[A, f, f]``.

    >>> import numpy as np
    >>> batch = Batch(torch.zeros(1, 3, 1), torch.zeros(1, 3), np.array([3]))
    >>> correlations(torch.tensor([[[1.0, -2.0], [2.0, -4.0], [3.0, -6.0]]]), batch)[0, 0]
    tensor([ 1.0000, -1.0000])
    """
    real = torch.ones(features.shape[:2]) if batch.share is None else batch.share > 0
    real = real.to(features).unsqueeze(-1)
    count = real.sum(dim=1, keepdim=True)
    centred = (features - (features * real).sum(dim=1, keepdim=True) / count) * real
    scaled = centred / (centred.square().sum(dim=1, keepdim=True) / count + _EPS).sqrt()
    return scaled.transpose(1, 2) @ scaled / count


@algorithms.register("feddecorr")
@dataclass(frozen=True)
class FedDecorr(Algorithm):
    """FedDecorr (Shi et al., arXiv:2210.00226, equation 4): ``CE + beta / d^2 ||K||_F^2``.

    K is the correlation matrix of a batch's features, which are what comes into the last layer with parameters, d their
    number.  A batch of one example has none and adds nothing.

    >>> FedDecorr(beta=0.05).beta
    0.05

    Args:
        beta: weight of the term, >= 0; 0 is FedAvg, bitwise.
    """

    beta: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_0(beta=self.beta)

    def client(self, c: Clients) -> None:
        """Fit with the term."""

        def objective(step: Step) -> Tensor:
            out = step.forward()
            features = features_of(out, self.name).flatten(2)
            spread = correlations(features, step.batch).square().mean(dim=(1, 2))
            several = torch.from_numpy(step.batch.count > 1).to(spread)
            return step.loss(out) + self.beta * spread * several

        c.fit(objective=objective if self.beta else None)
