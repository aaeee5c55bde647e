"""FedBABU: the head stays as it was first, until it is fine-tuned."""

from __future__ import annotations

from dataclasses import dataclass

from fedray.algorithms.base import algorithms
from fedray.algorithms.fedper import FedPer
from fedray.local.clients import Clients


@algorithms.register("fedbabu")
@dataclass(frozen=True)
class FedBABU(FedPer):
    """FedBABU (Oh et al., arXiv:2106.06042): the body alone is trained and averaged; the head stays as initialised.

    Clients are meant to be evaluated after fine-tuning on their own data: ``evaluate.finetune``.

    >>> FedBABU().layers
    []
    """

    def client(self, c: Clients) -> None:
        """Fit the body."""
        c.fit(only="shared")
