"""The adaptive server optimizers of FedOpt: Adam, Yogi, Adagrad."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedray import optim
from fedray.config.bounds import check_above_0, check_at_least_0, check_decays
from fedray.core.layout import Layout
from fedray.core.messages import Parts
from fedray.server.base import ServerOptimizer, server_optimizers, torch_step

Variant = Literal["paper", "torch", "published"]
"""``paper``, which earlier versions called ``published``; or ``torch``: as in ``torch.optim``."""


@dataclass(frozen=True)
class Adaptive(ServerOptimizer):
    """The base of FEDADAGRAD, FEDYOGI and FEDADAM's server halves (Reddi et al., arXiv:2003.00295, Algorithm 2).

    ``m <- beta1 m + (1 - beta1) delta``; ``v`` moves as each says; ``x <- x + lr * m / (sqrt(v) + tau)``.  There is no
    bias correction.  ``v`` starts at ``initial``; the paper asks for at least tau^2, its default here.
    """

    lr: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3
    initial: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_decays(beta1=self.beta1, beta2=self.beta2)
        check_above_0(tau=self.tau)
        if self.initial is not None:
            check_at_least_0(initial=self.initial)

    @property
    def first(self) -> float:
        """The first value of ``v``."""
        return self.tau**2 if self.initial is None else self.initial

    def start(self, params: Tensor, layout: Layout) -> Parts:
        return {"m": torch.zeros_like(params), "v": torch.full_like(params, self.first)}

    def step(self, params: Tensor, delta: Tensor, lr: float, state: Parts, layout: Layout) -> None:
        m, v = state["m"], state["v"]
        m.mul_(self.beta1).add_(delta * (1.0 - self.beta1))
        self.second(v, delta.square())
        params.add_((m * lr).div_(v.sqrt().add_(self.tau)))

    @abstractmethod
    def second(self, v: Tensor, square: Tensor) -> None:
        """Move the second moment ``v`` ``[S]`` in place by the squares of the update, which may be used up."""


def paper(variant: Variant) -> Variant:
    """Return the word of today for a variant.

    >>> paper("published")
    'paper'
    """
    return "paper" if variant == "published" else variant


@server_optimizers.register("adam")
@dataclass(frozen=True)
class Adam(Adaptive):
    """Adam on the server: ``v <- beta2 v + (1 - beta2) delta^2`` (Reddi et al., arXiv:2003.00295, Algorithm 2).

    >>> layout = Layout.of(torch.nn.Linear(2, 1, bias=False))
    >>> x, adam = torch.zeros(2), Adam(lr=0.1)
    >>> adam.step(x, torch.tensor([1.0, 100.0]), 0.1, adam.start(x, layout), layout)
    >>> x  # nearly the same step for a small and a large gradient
    tensor([0.0990, 0.1000])

    Args:
        lr: eta > 0.
        beta1: decay of the first moment, in [0, 1).
        beta2: decay of the second moment, in [0, 1).
        tau: adaptivity > 0, added to sqrt(v) (``eps`` of the torch variant).
        initial: first value of v, at least 0; default tau^2.
        variant: ``paper`` has no bias correction and v starts at ``initial``; ``torch`` is torch.optim.Adam, which
            corrects the bias of both moments and starts at 0, so that ``initial`` is to be left out.
    """

    variant: Variant = "paper"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "variant", paper(self.variant))
        if self.variant == "torch" and self.initial is not None:
            raise ValueError(
                f"initial={self.initial}: torch.optim.Adam starts at 0; leave out one of initial and variant"
            )

    def start(self, params: Tensor, layout: Layout) -> Parts:
        if self.variant == "paper":
            return super().start(params, layout)
        zeros = torch.zeros_like
        return {"step": torch.tensor(0.0), "exp_avg": zeros(params), "exp_avg_sq": zeros(params)}

    def step(self, params: Tensor, delta: Tensor, lr: float, state: Parts, layout: Layout) -> None:
        if self.variant == "paper":
            super().step(params, delta, lr, state, layout)
        else:
            torch_step(optim.Adam(lr, [self.beta1, self.beta2], self.tau), params, delta, state)

    def second(self, v: Tensor, square: Tensor) -> None:
        v.mul_(self.beta2).add_(square.mul_(1.0 - self.beta2))


@server_optimizers.register("yogi")
@dataclass(frozen=True)
class Yogi(Adaptive):
    """Yogi on the server: ``v <- v - (1 - beta2) delta^2 sign(v - delta^2)`` (arXiv:2003.00295, Algorithm 2).

    torch has no Yogi.

    >>> layout = Layout.of(torch.nn.Linear(2, 1, bias=False))
    >>> x, yogi = torch.zeros(2), Yogi(lr=0.1)
    >>> yogi.step(x, torch.tensor([1.0, 100.0]), 0.1, yogi.start(x, layout), layout)
    >>> x
    tensor([0.0990, 0.1000])

    Args:
        lr: eta > 0.
        beta1: decay of the first moment, in [0, 1).
        beta2: controls how fast v moves, in [0, 1).
        tau: adaptivity > 0, added to sqrt(v).
        initial: first value of v, at least 0; default tau^2.
    """

    def second(self, v: Tensor, square: Tensor) -> None:
        v.sub_(torch.sign(v - square).mul_(square).mul_(1.0 - self.beta2))


@server_optimizers.register("adagrad")
@dataclass(frozen=True)
class Adagrad(Adaptive):
    """Adagrad on the server: ``v <- v + delta^2`` (arXiv:2003.00295, Algorithm 2; beta1 = 0 as in its experiments).

    >>> layout = Layout.of(torch.nn.Linear(1, 1, bias=False))
    >>> x, adagrad = torch.zeros(1), Adagrad(lr=0.1)
    >>> adagrad.step(x, torch.ones(1), 0.1, adagrad.start(x, layout), layout)
    >>> x
    tensor([0.0999])

    Args:
        lr: eta > 0.
        beta1: decay of the first moment, in [0, 1).
        beta2: without effect.
        tau: adaptivity > 0, added to sqrt(v) (``eps`` of the torch variant).
        initial: first value of v, at least 0; default tau^2.
        variant: ``paper``, or ``torch``: torch.optim.Adagrad (beta1 = 0; v starts at ``initial``, default tau^2).
    """

    beta1: float = 0.0
    variant: Variant = "paper"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "variant", paper(self.variant))
        if self.variant == "torch" and self.beta1 != 0.0:
            raise ValueError(f"beta1={self.beta1}: torch.optim.Adagrad has none; leave out one of beta1 and variant")

    def start(self, params: Tensor, layout: Layout) -> Parts:
        if self.variant == "paper":
            return super().start(params, layout)
        return {"step": torch.tensor(0.0), "sum": torch.full_like(params, self.first)}

    def step(self, params: Tensor, delta: Tensor, lr: float, state: Parts, layout: Layout) -> None:
        if self.variant == "paper":
            super().step(params, delta, lr, state, layout)
        else:
            torch_step(optim.Adagrad(lr, self.tau, self.first), params, delta, state)

    def second(self, v: Tensor, square: Tensor) -> None:
        v.add_(square)
