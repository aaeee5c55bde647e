"""FedPer and LG-FedAvg: the last layers, or the first ones, stay with their client."""

from __future__ import annotations

from dataclasses import dataclass, field

from fedray.algorithms.base import Algorithm, algorithms
from fedray.core.regions import Entry, Region, matches


@algorithms.register("fedper")
@dataclass(frozen=True)
class FedPer(Algorithm):
    """FedPer (Arivazhagan et al., arXiv:1912.00818): the last layers stay with their client, the others are averaged.

    All layers are trained together, by FedAvg's program.  A newcomer's last layers are the first ones of the run.

    >>> FedPer(layers=["classifier.*"]).layers
    ['classifier.*']

    Args:
        layers: patterns of the names of the tensors that stay, such as ``fc.*``; none: the head, which is the module's
            part ``head``, or the last part with parameters.
    """

    layers: list[str] = field(default_factory=list)

    def stays(self, entry: Entry) -> bool:
        """Return True for a tensor of the layers."""
        return matches(entry.name, self.layers) if self.layers else entry.head

    def region(self, entry: Entry) -> Region:
        """Return ``personal`` for the layers."""
        return "personal" if self.stays(entry) else "shared"


@algorithms.register("lg-fedavg")
@dataclass(frozen=True)
class LGFedAvg(FedPer):
    """LG-FedAvg (Liang et al., arXiv:2001.01523): the first layers stay with their client, the last are averaged.

    The paper also evaluates new clients with an ensemble of all local models, which is left out.

    >>> LGFedAvg(layers=["encoder"]).layers
    ['encoder']

    Args:
        layers: patterns of the names of the tensors that stay; none: all but the head, see :class:`FedPer`.
    """

    def stays(self, entry: Entry) -> bool:
        """Return True for a tensor of the layers."""
        return matches(entry.name, self.layers) if self.layers else not entry.head
