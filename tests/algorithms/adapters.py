"""Least squares by a frozen linear layer with an adapter, in float64 numpy: nothing of fedray's engine is in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import nn

from fedray import FederatedData
from tests.algorithms.loops import LR, STEPS, Vector
from tests.helpers import Problem, mse, seeded, with_adapters

INPUTS, OUTPUTS, RANK, SCALE = 4, 3, 2, 2.0


@dataclass
class Factors:
    """A ``[r, in]`` and B ``[out, r]`` of a client or the server."""

    a: Vector
    b: Vector

    @property
    def product(self) -> Vector:
        product: Vector = self.b @ self.a
        return product

    def flat(self) -> Vector:
        return np.concatenate([self.a.ravel(), self.b.ravel()])


class AdaptedSquares:
    """Clients whose outputs are linear in their inputs, each in its own way; the model is ``W x + b + 2 B A x``."""

    def __init__(self, sizes: tuple[int, ...] = (5, 9, 7, 4)) -> None:
        draw = np.random.default_rng(5)
        owner = np.repeat(np.arange(len(sizes)), sizes)
        x = draw.standard_normal((len(owner), INPUTS))
        truth = draw.standard_normal((len(sizes), OUTPUTS, INPUTS))
        y = np.einsum("noi,ni->no", truth[owner], x)
        x, y = x.astype("f4"), y.astype("f4")
        model_fn = with_adapters(seeded(lambda: nn.Sequential(nn.Linear(INPUTS, OUTPUTS))), RANK)
        self.problem = Problem(model_fn, mse, FederatedData.from_arrays(x, y, owner))
        self.x = [x[owner == client].astype("f8") for client in range(len(sizes))]
        self.y = [y[owner == client].astype("f8") for client in range(len(sizes))]
        self.share = np.array(sizes) / sum(sizes)
        first = {name: value.double().numpy() for name, value in self.problem.model_fn().state_dict().items()}
        self.w, self.bias = first["0.base_layer.weight"], first["0.base_layer.bias"]
        self.a, self.b = first["0.lora_A.weight"], first["0.lora_B.weight"]

    def descend(
        self,
        client: int,
        start: Factors,
        w: Vector | None = None,
        fixed: bool = False,
        rank: int = RANK,
        pull: Callable[[Factors], Factors] | None = None,
    ) -> Factors:
        """Take a client's local steps, of which ``pull`` gives a further gradient.

        A stays if it is ``fixed``, and so do all but the first ``rank`` of its rows.
        """
        x, y = self.x[client], self.y[client]
        at, base = Factors(start.a.copy(), start.b.copy()), self.w if w is None else w
        for _ in range(STEPS):
            output = x @ base.T + self.bias + SCALE * x @ at.a.T @ at.b.T
            gradient = SCALE * ((output - y) / y.size).T @ x
            step = Factors(at.b.T @ gradient, gradient @ at.a.T)
            if pull is not None:
                more = pull(at)
                step = Factors(step.a + more.a, step.b + more.b)
            at.a[:rank] -= 0.0 if fixed else LR * step.a[:rank]
            at.b[:, :rank] -= LR * step.b[:, :rank]
        return at

    def mean(self, clients: list[Factors], share: Vector | None = None) -> Factors:
        """Return the weighted mean of the factors, each by itself."""
        shares = self.share if share is None else share
        a, b = (sum(p * getattr(one, name) for p, one in zip(shares, clients, strict=True)) for name in "ab")
        return Factors(a, b)

    def exact(self, clients: list[Factors]) -> Vector:
        """Return the weighted mean of the products, ``[out, in]``."""
        mean: Vector = np.einsum("n,noi->oi", self.share, np.stack([one.product for one in clients]))
        return mean
