"""The common ground of algorithms on low-rank adapters: a model that has some, and a base that a server may change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fedray.algorithms.base import Algorithm
from fedray.core.adapters import factor_of, is_residual
from fedray.core.errors import ConfigError
from fedray.core.messages import DELTA, Aggregate
from fedray.core.regions import Entry, Region
from fedray.local.clients import Clients
from fedray.local.variants import drawn
from fedray.models.lora import add_residuals


@dataclass(frozen=True)
class LowRank(Algorithm):
    """The base of algorithms whose clients train low-rank adapters, ``W + scale * B A``."""

    def prepare(self, module: nn.Module) -> None:
        """Raise ConfigError if the model has no adapters."""
        if not any(factor_of(name) == "A" for name, _ in module.named_parameters()):
            raise ConfigError(
                f"algorithm: {self.name} averages low-rank adapters, and this model has none (lora_A, lora_B): give "
                "model.lora, put them into a module of your own by fedray.parts.adapted, or take algorithm=fedavg"
            )


@dataclass(frozen=True)
class Rebased(LowRank):
    """The base of those whose server changes the base of the model, by what the factors of single clients say.

    Each linear layer with an adapter gets a buffer ``[out, in]`` that is added to ``B A``.  It lies in the model's
    vector behind what is trained, so that checkpoints, evaluations and exports have it; clients receive it, and never
    send it.  What clients send is their update, which is summed for each of them by itself.
    """

    uses_server: ClassVar[bool] = False

    def prepare(self, module: nn.Module) -> None:
        """Give the layers that have adapters their buffers."""
        super().prepare(module)
        add_residuals(module)

    def region(self, entry: Entry) -> Region:
        """Return ``kept`` for those."""
        return "kept" if entry.kind == "buffer" and is_residual(entry.name) else "shared"

    def client(self, c: Clients) -> None:
        """Fit, and send the update as the client's own."""
        c.fit()
        c.send(DELTA, c.delta, slot=c.index, slots=len(c.task.data.sizes))


def of_each(total: Aggregate) -> tuple[Tensor, Tensor]:
    """Return the shares of those who have sent an update by itself, float64 ``[n]``, and the updates ``[n, S]``."""
    shares = total.shares[DELTA].double()
    there = shares > 0.0
    return shares[there] / shares[there].sum(), total[DELTA][there]


def check_ranks(name: str, ranks: Sequence[int], module: nn.Module) -> None:
    """Raise ConfigError for a rank that no client can have."""
    own = min(p.shape[0] for n, p in module.named_parameters() if factor_of(n) == "A" and "lora_embedding" not in n)
    if any(not 1 <= rank <= own for rank in ranks):
        raise ConfigError(
            f"algorithm.ranks={list(ranks)}: {name}: each must be at least 1 and at most {own}, the model's"
        )


def drawn_ranks(ranks: Sequence[int], c: Clients) -> Tensor:
    """Return a rank of each client, ``[C]``, drawn by seed and client, each with the same chance."""
    places = drawn(len(ranks), c.task.seed, c.task.data.keys(c.index))
    return torch.tensor(list(ranks), device=c.device)[torch.from_numpy(places)]
