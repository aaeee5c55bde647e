"""FedEx-LoRA: the mean of the factors, and what their product misses is added to the base."""

from __future__ import annotations

from dataclasses import dataclass

from fedray.algorithms.base import algorithms
from fedray.algorithms.lowrank import Rebased, of_each
from fedray.core.adapters import adapters_of
from fedray.core.messages import Aggregate
from fedray.server import Server


@algorithms.register("fedexlora")
@dataclass(frozen=True)
class FedExLoRA(Rebased):
    """FedEx-LoRA (Singhal et al., arXiv:2410.09432): the mean of the clients' models, exactly, by adapters of one rank.

    The factors are averaged as in :class:`fedray.FedIT`, ``A <- sum p_i A_i`` and ``B <- sum p_i B_i``, and what the
    product of the means misses is added to the base: ``W <- W + scale * (sum p_i B_i A_i - B A)``.  It is of a rank of
    up to ``(n + 1) r`` for n clients, and is made layer by layer in float64 of the factors of the clients in their
    order; the sum of all rounds is kept in float32 beside a base of any type.  The record has ``error``: the norm of
    what is added against that of the mean of the products, which is the error that FedIT would make in the round.

    The paper weighs clients alike (``weight="uniform"``).  It sends the factors of what is added; here clients receive
    the sum, ``[out, in]`` for each layer, as it stands in the vector.  What a client has sent is summed by itself: a
    worker holds N S numbers for N clients, so that this is for silos, not for thousands of devices.

    >>> FedExLoRA(weight="uniform")
    FedExLoRA(weight='uniform')
    """

    def step(self, s: Server, total: Aggregate) -> dict[str, float] | None:
        """Average what is trained, and add to the base what the products of the means miss."""
        shares, deltas = of_each(total)
        if not len(shares):
            return None
        start = s.params.clone()
        s.params.add_(shares.float() @ deltas)
        missed = whole = 0.0
        for one in adapters_of(s.layout):
            mean = one.mean_product(start, deltas, shares)
            a, b = one.factors(s.vector)
            gap = mean - b.double() @ a.double()
            one.change(s.vector).add_(gap.float())
            missed, whole = missed + float(gap.square().sum()), whole + float(mean.square().sum())
        return {"error": (missed / whole) ** 0.5 if whole else 0.0}
