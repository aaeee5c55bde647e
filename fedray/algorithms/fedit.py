"""FedIT and FFA-LoRA: the factors of adapters are averaged, both of them or the one that began as 0."""

from __future__ import annotations

from dataclasses import dataclass

from fedray.algorithms.base import algorithms
from fedray.algorithms.lowrank import LowRank
from fedray.core.adapters import factor_of
from fedray.core.regions import Entry, Region


@algorithms.register("fedit")
@dataclass(frozen=True)
class FedIT(LowRank):
    """FedIT (Zhang et al., arXiv:2305.05644): FedAvg of low-rank adapters, on a base that stays frozen.

    With the adapter of a layer ``W + scale * B A``: ``A <- sum p_i A_i``, ``B <- sum p_i B_i``, factor by factor, where
    p_i are the clients' shares of the weights.  The product of these means is not the mean of the products ``B_i A_i``,
    which :class:`fedray.FedExLoRA` and :class:`fedray.FLoRA` make exact; it is where all clients have the same A, as in
    :class:`fedray.FFALoRA`.  What else is trained, such as a new head, is averaged beside them.

    >>> FedIT().weight
    'auto'

    Args:
        server_lr: another word for ``server.lr``: the mean changes of the factors times it; 1 is the paper's.
    """

    server_lr: float | None = None


@algorithms.register("ffalora")
@dataclass(frozen=True)
class FFALoRA(FedIT):
    """FFA-LoRA (Sun et al., arXiv:2403.12313): A stays as it was drawn, and B alone is trained and averaged.

    The clients' A are one, drawn by the run's seed, and so the mean of B is exact: ``sum p_i B_i A = (sum p_i B_i) A``.
    Half as much travels as in :class:`fedray.FedIT`.  The model is linear in what clients send, so that noise on it is
    not multiplied by noise.  A is in no vector: it is kept with the base.  Of peft's adapters of an embedding it is
    ``lora_embedding_B`` that is drawn, and stays.

    >>> FFALoRA(server_lr=0.5).server()
    SGD(lr=0.5, lr_schedule='constant')

    Args:
        server_lr: another word for ``server.lr``.
    """

    def region(self, entry: Entry) -> Region:
        """Return ``frozen`` for the factor that was drawn."""
        return "frozen" if entry.kind == "parameter" and factor_of(entry.name) == "A" else "shared"
