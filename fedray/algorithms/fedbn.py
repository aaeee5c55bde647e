"""FedBN: normalisation layers stay with their client."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from fedray.algorithms.base import Algorithm, algorithms
from fedray.core.regions import Entry, Region

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


@algorithms.register("fedbn")
@dataclass(frozen=True)
class FedBN(Algorithm):
    """FedBN (Li et al., arXiv:2102.07623): weights, biases and statistics of normalisation stay with their client.

    The paper speaks of batch normalisation; here layers of torch that normalise by group, instance, layer or root mean
    square count, too.

    >>> import torch
    >>> norm = Entry("1.weight", (3,), torch.float32, "parameter", owner=nn.BatchNorm2d)
    >>> FedBN().region(norm)
    'personal'
    """

    def region(self, entry: Entry) -> Region:
        """Return ``personal`` for normalisation."""
        return "personal" if issubclass(entry.owner, NORMS) else "shared"
