"""HeteroFL and FedRolex: clients train narrower models, cut out of the whole one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from fedray.algorithms.base import Algorithm, algorithms
from fedray.core.messages import Ints
from fedray.local.variants import Variant, drawn


@algorithms.register("heterofl")
@dataclass(frozen=True)
class HeteroFL(Algorithm):
    """HeteroFL (Diao et al., arXiv:2010.01264): clients train the first channels of every layer.

    A client of rate r really has a module with ``ceil(r n)`` of the n outputs of every layer; the inputs of the first
    layer and the outputs of the last one are whole.  Parameters, traffic and sums fall with about r^2.  Each entry
    moves by the weighted mean of the clients that hold it (the paper weighs them alike: ``weight="uniform"``); one that
    nobody holds stays, as long as the server optimizer has no momentum.

    A client has one rate in all rounds (the paper's "fix"), drawn from ``rates`` by seed and client, each with the same
    chance; a rate that is listed twice has twice the chance.

    Three more things of the paper are left out.  There is no scaler: what layers give is not divided by r in training.
    The loss is not masked: classes that a client lacks are a part of it.  And the norm layers of a narrower module are
    its own: batch normalisation trains with the batch's statistics, whose running means are averaged over those who
    have them like any other buffers (``local.buffers: mean``), or as ``local.buffers: keep`` says, where the paper has
    the clients' data queried once after training.

    Layers that can be cut are Linear, Conv1d, 2d and 3d without groups, and normalisations of channels, in any order
    and with sums and concatenations between them; any other with parameters is refused with its name.

    >>> HeteroFL(rates=[1.0, 0.0625]).rates
    [1.0, 0.0625]

    Args:
        rates: the rates, each in (0, 1]; 1.0 alone is FedAvg, bitwise.
    """

    rates: list[float] = field(default_factory=lambda: [1.0, 0.5, 0.25])
    rolls: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.rates or not all(0.0 < rate <= 1.0 for rate in self.rates):
            raise ValueError(f"rates={self.rates}: there must be at least one, each above 0 and at most 1")

    def variants(self) -> tuple[Variant, ...]:
        """Return a narrower model for each rate."""
        return tuple(Variant(float(rate), self.rolls) for rate in dict.fromkeys(self.rates))

    def variant_of(self, seed: int, keys: Ints) -> Ints:
        """Draw a rate for each client."""
        different = list(dict.fromkeys(self.rates))
        places = np.array([different.index(rate) for rate in self.rates], dtype=np.int64)
        return places[drawn(len(places), seed, keys)]


@algorithms.register("fedrolex")
@dataclass(frozen=True)
class FedRolex(HeteroFL):
    """FedRolex (Alam et al., arXiv:2212.01548): clients train a window of the channels of every layer, which rolls.

    It is HeteroFL, see there, but in round t, counted from 0, a client of rate r has of n outputs of a layer those
    from ``t mod n`` on, ``ceil(r n)`` of them, going on at the first after the last: all entries are trained in turn.
    As in the paper there is no scaler; its loss is not masked here, either.

    >>> FedRolex(rates=[0.5]).variants()[0].units(4, round=4).tolist()
    [0, 3]

    Args:
        rates: the rates, each in (0, 1]; 1.0 alone is FedAvg, bitwise.
    """

    rolls: ClassVar[bool] = True
