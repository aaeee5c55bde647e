"""HetLoRA: adapters of different ranks, cut from one, padded with zeros, and weighed by the norm of their products."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fedray.algorithms.base import algorithms
from fedray.algorithms.lowrank import LowRank, check_ranks, drawn_ranks
from fedray.config.bounds import check_at_least_0
from fedray.core.adapters import adapters_of, rank_mask
from fedray.core.layout import Layout
from fedray.core.messages import Parts
from fedray.local.clients import Clients
from fedray.local.step import Step

_LEAST = 1e-12


@algorithms.register("hetlora")
@dataclass(frozen=True)
class HetLoRA(LowRank):
    """HetLoRA (Cho et al., arXiv:2401.06432): each client trains adapters of a rank of its own.

    A client of rank r_i takes the first r_i rows of A and columns of B (truncation), and sends its factors padded with
    zeros.  The server takes their mean with the weights ``|B_i A_i|``, the Frobenius norm over all layers: clients that
    learnt little count little (sparsity-weighted aggregation).  Ranks are drawn from ``ranks`` by seed and client, each
    with the same chance.

    With ``gamma < 1`` clients prune themselves: ``lam * sum |B_i[:, k:]| |A_i[k:]|`` over the layers is added to the
    loss, with ``k = max(1, floor(gamma r_i))``, and where that sum ends smaller than it began the rank becomes k for
    good.

    The paper's server cuts its factors to the largest rank that is left, here they keep the model's; the scale stays
    ``alpha / r`` with the model's r.  Clients of a lower rank hold, and send, zeros for the rest.

    >>> HetLoRA(ranks=[2, 4], gamma=0.5).gamma
    0.5

    Args:
        ranks: the ranks, each at least 1 and at most the model's; none: all begin with the model's.
        gamma: share of the rank that is left after pruning, in (0, 1]; 1: there is none.
        lam: weight of what penalises the rest, >= 0.
        server_lr: another word for ``server.lr``.
    """

    ranks: list[int] = field(default_factory=list)
    gamma: float = 1.0
    lam: float = 0.0
    server_lr: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_0(lam=self.lam)
        if not 0.0 < self.gamma <= 1.0:
            raise ValueError(f"gamma={self.gamma:g}: it must be above 0 and at most 1, where nothing is pruned")
        if self.lam and self.gamma == 1.0:
            raise ValueError(f"lam={self.lam:g}: without pruning it penalises nothing: set gamma below 1")

    def prepare(self, module: nn.Module) -> None:
        """Raise ConfigError if the model has no adapters, or none of such a rank."""
        super().prepare(module)
        check_ranks(self.name, self.ranks, module)

    def initial_state(self, c: Clients) -> Parts:
        """Return the ranks, drawn."""
        own = max((one.a.shape[0] for one in adapters_of(c.layout)), default=1)
        return {"rank": drawn_ranks(self.ranks or [own], c).float().unsqueeze(1)}

    def client(self, c: Clients) -> None:
        """Fit adapters of the client's rank, and prune them."""
        rank = c.state["rank"][:, 0].round()
        left = torch.minimum((self.gamma * rank).floor().clamp(min=1.0), rank)
        mask = rank_mask(c.layout, rank)
        rest = mask - rank_mask(c.layout, left)
        c.params.mul_(mask)
        before = _norms(c.layout, c.params * rest)

        def loss(step: Step) -> Tensor:
            return step.loss() + self.lam * _norms(c.layout, step.params * rest[step.rows])

        def cut(step: Step, grad: Tensor) -> None:
            grad.mul_(mask[step.rows])

        c.fit(objective=loss if self.lam else None, gradient=cut)
        # An update that is no number is given up for that, and not for its weight.
        c.weight = _product_norm(c.layout, c.params).nan_to_num(1.0, 1.0).clamp(min=_LEAST)
        pruned = _norms(c.layout, c.params * rest) < before
        c.state["rank"] = torch.where(pruned, left, rank).unsqueeze(1)

    def personal(self, c: Clients) -> Tensor:
        """Return the models that clients use, ``[C, D]``: the server's, cut to their ranks."""
        return c.params * rank_mask(c.layout, c.state["rank"][:, 0].round())


def _norms(layout: Layout, params: Tensor) -> Tensor:
    """Return the sum of ``|B| |A|`` over all layers, ``[C]``."""
    pairs = (one.factors(params) for one in adapters_of(layout))
    found = [_norm(a) * _norm(b) for a, b in pairs]
    return torch.stack(found).sum(dim=0) if found else params.new_zeros(len(params))


def _product_norm(layout: Layout, params: Tensor) -> Tensor:
    """Return the Frobenius norm of ``B A`` over all layers, ``[C]``."""
    pairs = (one.factors(params) for one in adapters_of(layout))
    # |B A|^2 = sum of (B^T B) (A A^T), entry by entry: of r x r instead of out x in numbers.
    found = [((b.transpose(1, 2) @ b) * (a @ a.transpose(1, 2))).sum(dim=(1, 2)) for a, b in pairs]
    return torch.stack(found).sum(dim=0).clamp(min=0.0).sqrt() if found else params.new_ones(len(params))


def _norm(factors: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(factors, dim=(1, 2))
    return norm
