"""FedRep: first the client's head, then the body that all share."""

from __future__ import annotations

from dataclasses import dataclass

from fedray.algorithms.base import algorithms, check_at_least_0
from fedray.algorithms.fedper import FedPer
from fedray.local.clients import Clients


@algorithms.register("fedrep")
@dataclass(frozen=True)
class FedRep(FedPer):
    """FedRep (Collins et al., arXiv:2102.07078, Algorithm 1): the head with the body fixed, then the body.

    The paper's body takes one step; here it takes the configured work, as in the authors' experiments.

    >>> FedRep(head_epochs=5).head_epochs
    5

    Args:
        head_epochs: passes over the local data for the head, >= 0; default: the configured work.
    """

    head_epochs: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_0(head_epochs=self.head_epochs or 0)

    def client(self, c: Clients) -> None:
        """Fit the head, then the body."""
        c.fit(only="personal", epochs=self.head_epochs)
        c.fit(only="shared")
