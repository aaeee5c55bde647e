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

    A client's running statistics begin at mean 0 and variance 1, and move by the layer's ``momentum`` (0.1 in torch)
    at each of its own steps: after k steps 0.9 to the power of k of the beginning is left. So the models of newcomers,
    and of clients with few steps behind them, are evaluated by cold statistics. Of digits at 100 clients, 20 of them in
    each of 10 rounds of 5 epochs, clients' own models reach an accuracy of 0.85 (FedAvg: 0.95), with ``momentum`` 0.9
    one of 0.91, after 50 rounds 0.97 (Dirichlet(0.5), batches of 16, SGD at 0.1; at 0.05 and Dirichlet(0.3) three seeds
    gave 0.35 to 0.61 after ten rounds, one 0.79 with ``momentum`` 0.9). Take more rounds, larger cohorts or a larger
    momentum.

    >>> import torch
    >>> norm = Entry("1.weight", (3,), torch.float32, "parameter", owner=nn.BatchNorm2d)
    >>> FedBN().region(norm)
    'personal'
    """

    def region(self, entry: Entry) -> Region:
        """Return ``personal`` for normalisation."""
        return "personal" if issubclass(entry.owner, NORMS) else "shared"
