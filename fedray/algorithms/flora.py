"""FLoRA: the clients' adapters are stacked and added to the base, and new ones begin."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fedray.algorithms.base import algorithms
from fedray.algorithms.lowrank import Rebased, check_ranks, drawn_ranks, of_each
from fedray.core.adapters import adapters_of, rank_mask
from fedray.core.messages import DELTA, Aggregate
from fedray.core.rng import torch_generator
from fedray.local.clients import Clients
from fedray.local.step import Step
from fedray.server import Server


@algorithms.register("flora")
@dataclass(frozen=True)
class FLoRA(Rebased):
    """FLoRA (Wang et al., arXiv:2409.05976): the product of the clients' stacked factors is added to the base.

    ``[p_1 B_1, p_2 B_2, ...]`` times ``[A_1; A_2; ...]`` is the mean of the products, exactly and for any ranks:
    ``W <- W + scale * sum p_i B_i A_i``.  In the next round all begin with new factors: B is 0, and A is drawn by seed
    and round as a linear layer's weight is, ``U(-1 / sqrt(in), 1 / sqrt(in))``.  What else is trained is averaged.

    A client of rank r_i trains the first r_i rows of A and columns of B.  It has one rank in all rounds, drawn from
    ``ranks`` by seed and client, each with the same chance; one that is listed twice has twice the chance.

    The paper's clients draw an A each; here all of a round have the same.  Clients of a lower rank hold, and send,
    zeros for the rest, and have the scale ``alpha / r`` of the model's own r.  The sum of what was added is kept in
    float32, and clients receive it; a worker holds N S numbers for N clients, as in :class:`fedray.FedExLoRA`.

    >>> FLoRA(ranks=[2, 4]).ranks
    [2, 4]

    Args:
        ranks: the ranks, each at least 1 and at most the model's; none: all have the model's.
    """

    ranks: list[int] = field(default_factory=list)

    def prepare(self, module: nn.Module) -> None:
        """Give layers their buffers, and raise ConfigError for a rank that the model's adapters do not have."""
        super().prepare(module)
        check_ranks(self.name, self.ranks, module)

    def client(self, c: Clients) -> None:
        """Fit as much of the adapters as the client's rank is, and send the update as the client's own."""
        mask = rank_mask(c.layout, drawn_ranks(self.ranks, c)) if self.ranks else None

        def cut(step: Step, grad: Tensor) -> None:
            if mask is not None:
                grad.mul_(mask[step.rows])

        c.fit(gradient=None if mask is None else cut)
        c.send(DELTA, c.delta, slot=c.index, slots=len(c.task.data.sizes))

    def step(self, s: Server, total: Aggregate) -> None:
        """Add the products to the base, begin new factors, and average the rest."""
        shares, deltas = of_each(total)
        if not len(shares):
            return
        start, generator = s.params.clone(), torch_generator(s.seed, "init", round=s.round)
        s.params.add_(shares.float() @ deltas)
        for one in adapters_of(s.layout):
            one.change(s.vector).add_(one.mean_product(start, deltas, shares).float())
            a, b = one.factors(s.vector)
            a.copy_((2.0 * torch.rand(a.shape, generator=generator) - 1.0) / a.shape[1] ** 0.5)
            b.zero_()
