"""Canaries: clients that send what shows best in what a run releases."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedray.core.messages import BUFFERS, DELTA, STATISTICS, Aggregate, BlockUpdate, Ints
from fedray.core.now import Now
from fedray.core.rng import numpy_generator
from fedray.transforms.base import Transform


@dataclass(eq=False)
class Canary(Transform):
    """The worst neighbours: some clients send a direction of their own, and all others zeros.

    It stands before the clip of privacy, which treats what it sends as any update: canary i sends ``2 C u_i``, of which
    the clip leaves C.  The ``u_i`` are orthonormal, drawn at random, so that canaries do not disturb one another
    (Andrew et al., arXiv:2302.03098, have directions that are nearly so, beside clients that train).  Its server half
    runs after the noise, and notes what is released along each direction.

    >>> one = np.ones(1)
    >>> canary = Canary(clients=np.array([4]), norm=0.5, seed=1)
    >>> canary.begin(np.array([1.0]))
    >>> delta = torch.ones(2, 3)
    >>> canary.on_clients(BlockUpdate(1, np.array([4, 7]), {"delta": delta}, {}, one, one, one))
    >>> delta.norm(dim=1).round(decimals=4)
    tensor([1., 0.])

    Args:
        clients: the indices of the canaries ``[K]``.
        norm: C > 0, to which updates will be clipped.
        seed: names the draw of the directions.

    Attributes:
        seen: the releases of rounds since :meth:`begin` along the directions, each float64 ``[K]``.
    """

    clients: Ints
    norm: float
    seed: int
    seen: list[NDArray[np.float64]] = field(default_factory=list, init=False)
    _signs: NDArray[np.float64] | None = field(default=None, init=False)
    _directions: Tensor | None = field(default=None, init=False)

    def begin(self, signs: NDArray[np.float64]) -> None:
        """Begin a run in which canary i sends ``signs[i]`` times its direction: 1, 0 or -1, ``[K]``."""
        self._signs, self.seen = signs, []

    def on_clients(self, update: BlockUpdate) -> None:
        """Put canaries in the place of what clients have trained."""
        delta = update.parts[DELTA]
        for name, rows in update.parts.items():
            if name not in (BUFFERS, STATISTICS):
                rows.zero_()
        if self._signs is None:
            return
        directions = self._along(delta.shape[1]).to(delta.device)
        for row, client in enumerate(update.clients):
            for place in np.flatnonzero(self.clients == client):
                delta[row] = directions[place].float() * (2.0 * self.norm * float(self._signs[place]))

    def on_aggregate(self, total: Aggregate, now: Now) -> None:
        """Note what is released, noise and all: server halves run from the last transform to the first."""
        if self._signs is not None:
            released = total.parts[DELTA].detach().cpu().double()
            self.seen.append((self._along(len(released)) @ released).numpy())

    def _along(self, width: int) -> Tensor:
        if self._directions is None:
            drawn = numpy_generator(self.seed, "canary").standard_normal((width, len(self.clients)))
            self._directions = torch.from_numpy(np.linalg.qr(drawn)[0].T.copy())
        return self._directions
