"""Canaries: clients that send what shows best in what a run releases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedray.core.messages import BUFFERS, DELTA, STATISTICS, Aggregate, BlockUpdate, Ints
from fedray.core.now import Now
from fedray.core.rng import numpy_generator
from fedray.transforms.base import Transform

REACH = 2.0**20
"""The length of what a canary sends, over the norm at the beginning: the clip leaves what it may, as it does of a norm
that has risen since."""


@dataclass(eq=False)
class _Sends(Transform):
    """The base of canaries: all clients send zeros, but for what :meth:`_row` gives some of them.

    Args:
        clients: the indices of the canaries ``[K]``.
        norm: C > 0, to which updates will be clipped, at the beginning of a run.
    """

    clients: Ints
    norm: float
    _signs: NDArray[np.float64] | None = field(default=None, init=False)

    def begin(self, signs: NDArray[np.float64]) -> None:
        """Begin a run in which canary i sends ``signs[i]`` times what it sends: 1, 0 or -1, ``[K]``."""
        self._signs = signs

    def on_clients(self, update: BlockUpdate) -> None:
        """Put canaries in the place of what clients have trained."""
        delta = update.parts[DELTA]
        for name, rows in update.parts.items():
            if name not in (BUFFERS, STATISTICS):
                rows.zero_()
        if self._signs is None:
            return
        for row, place in self._of(update):
            sent = self._row(place, delta.shape[1]) * (REACH * self.norm * float(self._signs[place]))
            delta[row] = sent.to(delta)

    def _of(self, update: BlockUpdate) -> Sequence[tuple[int, int]]:
        """Return the rows of a block that are of canaries, each with its place among them."""
        found = np.argwhere(update.clients[:, None] == self.clients)
        return [(int(row), int(place)) for row, place in found]

    def _row(self, place: int, width: int) -> Tensor:
        """Return what a canary sends, of the norm 1, ``[width]``."""
        raise NotImplementedError


@dataclass(eq=False)
class Canary(_Sends):
    """The worst neighbours of a server that adds noise: some clients send a direction of their own, all others zeros.

    It stands before the clip of privacy, which treats what it sends as any update: canary i sends a large multiple of
    ``u_i``, of which the clip leaves C.  The ``u_i`` are orthonormal, drawn at random, so that canaries do not disturb
    one another (Andrew et al., arXiv:2302.03098, have directions that are nearly so, beside clients that train).  Where
    layers are clipped by themselves, they are orthogonal within each, and of the same length.  Its server half runs
    after the noise, and notes what is released along each direction.

    >>> one = np.ones(1)
    >>> canary = Canary(clients=np.array([4]), norm=0.5, seed=1)
    >>> canary.begin(np.array([1.0]))
    >>> delta = torch.ones(2, 3)
    >>> canary.on_clients(BlockUpdate(1, np.array([4, 7]), {"delta": delta}, {}, one, one, one))
    >>> (delta.norm(dim=1) / 2**20).round(decimals=4)
    tensor([0.5000, 0.0000])

    Args:
        seed: names the draw of the directions.
        groups: the columns that are clipped together, for each group of them; empty: all.

    Attributes:
        seen: the releases of rounds since :meth:`begin` along the directions, each float64 ``[K]``.
    """

    seed: int
    groups: Sequence[Ints] = ()
    seen: list[NDArray[np.float64]] = field(default_factory=list, init=False)
    _directions: Tensor | None = field(default=None, init=False)

    def begin(self, signs: NDArray[np.float64]) -> None:
        """Begin a run, as all canaries do."""
        super().begin(signs)
        self.seen = []

    def on_aggregate(self, total: Aggregate, now: Now) -> None:
        """Note what is released, noise and all: server halves run from the last transform to the first."""
        if self._signs is not None:
            released = total.parts[DELTA].detach().cpu().double()
            self.seen.append((self._along(len(released)) @ released).numpy())

    def _row(self, place: int, width: int) -> Tensor:
        return self._along(width)[place]

    def _along(self, width: int) -> Tensor:
        if self._directions is None:
            drawn = numpy_generator(self.seed, "canary").standard_normal((width, len(self.clients)))
            found, groups = np.zeros(drawn.T.shape), self.groups or [np.arange(width)]
            for columns in groups:
                found[:, columns] = np.linalg.qr(drawn[columns])[0].T / np.sqrt(len(groups))
            self._directions = torch.from_numpy(found)
        return self._directions


@dataclass(eq=False)
class OwnCanary(_Sends):
    """The worst updates of clients that noise all that they send: the first entry is large, or its opposite.

    Whoever sees what a client has sent, noise and all, learns from that entry which of the two it was; the L1 norm of
    such an update is its Euclidean norm, so that it suits ``laplace`` as well.

    Attributes:
        seen: (round, place of the canary) to the first entry of what it sent, since :meth:`begin`.
    """

    seen: dict[tuple[int, int], float] = field(default_factory=dict, init=False)

    def begin(self, signs: NDArray[np.float64]) -> None:
        """Begin a run, as all canaries do."""
        super().begin(signs)
        self.seen = {}

    def on_arrival(self, update: BlockUpdate, now: int) -> None:
        """Note what canaries have sent, and change nothing."""
        for row, place in self._of(update) if self._signs is not None else ():
            self.seen[update.round, place] = float(update.parts[DELTA][row, 0])

    def _row(self, place: int, width: int) -> Tensor:
        return torch.eye(1, width, dtype=torch.float64)[0]
