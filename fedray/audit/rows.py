"""Canaries for privacy of rows: a row of a client whose gradient is as long as the clip leaves any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedray.audit.canary import REACH
from fedray.core.messages import Ints
from fedray.data.columns.inputs import Inputs, like
from fedray.local.batches import Batch
from fedray.local.per_example import Beside, ClippedGradients, Tensors
from fedray.local.private import ExamplePrivacy, FitNoise, PrivateGradients


@dataclass
class RowCanaries:
    """The first row of each of some clients, which is there or not, and what is seen of it.

    Args:
        clients: names of the clients in draws, each with its place among the canaries.
        x: the rows' inputs ``[K, 1, ...]``.
        y: their targets ``[K, 1, ...]``.

    Attributes:
        seen: (place, release along the canary's gradient, length of that), the last two over the norm, of each step.
    """

    clients: Mapping[int, int]
    x: Inputs
    y: Tensor
    seen: list[tuple[int, float, float]] = field(default_factory=list, init=False)
    _there: NDArray[np.bool_] | None = field(default=None, init=False)

    def begin(self, there: NDArray[np.bool_]) -> None:
        """Begin a run in which some canaries are there, ``[K]``."""
        self._there, self.seen = there, []

    def among(self, keys: Tensor) -> tuple[Ints, Ints]:
        """Return which of some clients have a canary, and their places; before :meth:`begin` nobody has."""
        names = keys.tolist() if self._there is not None else []
        found = [(at, self.clients[key]) for at, key in enumerate(names) if key in self.clients]
        at, places = np.array(found, dtype=np.int64).reshape(-1, 2).T
        return at, places

    def there(self, places: Ints) -> NDArray[np.bool_]:
        """Return which of those at some places are there."""
        assert self._there is not None
        return self._there[places]


@dataclass(frozen=True)
class CanaryPrivacy(ExamplePrivacy):
    """The protection of rows, with canaries among them.

    Args:
        canaries: theirs.
    """

    canaries: RowCanaries | None = field(default=None, compare=False)

    def gradients(self, clipped: ClippedGradients) -> PrivateGradients:
        """Return gradients in which canaries take part."""
        assert self.canaries is not None
        return _CanaryGradients(clipped, self.canaries)


class _CanaryGradients(PrivateGradients):
    """The gradients of steps, in whose batches a canary is, as its coin falls, if it is there at all.

    Its gradient is that of its own row, at the model of the step, times :data:`REACH`: a clip of a multiple to C is
    that multiple of a clip to C / REACH.  What is released, less the gradients of all other rows, which the strongest
    adversary knows, is looked at along it, as whoever sees each step does (the white-box audits of Steinke et al.,
    arXiv:2305.08846, put a gradient of their own in the place of a row's).
    """

    def __init__(self, clipped: ClippedGradients, canaries: RowCanaries) -> None:
        super().__init__(clipped)
        self._canaries = canaries

    def __call__(
        self,
        noise: FitNoise,
        params: Tensors,
        buffers: Tensors,
        moved: Sequence[str],
        keys: Tensor,
        batch: Batch,
        added: Beside | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """See the base."""
        at, places = self._canaries.among(keys)
        if not len(at):
            return super().__call__(noise, params, buffers, moved, keys, batch, added)
        norm, chosen = noise.privacy.norm, torch.from_numpy(places)
        ones = torch.ones(len(at), 1, dtype=torch.bool)
        own = Batch(like(self._canaries.x, lambda t: t[chosen]), self._canaries.y[chosen], np.ones(len(at), dtype=int))
        few = {name: tensor[torch.from_numpy(at)] for name, tensor in params.items()}
        _, short = self.sums(norm / REACH, few, buffers, moved, keys[torch.from_numpy(at)], own, ones, None)
        long = [grad * REACH for grad in short]

        assert batch.index is not None
        real = np.arange(batch.y.shape[1]) < batch.count[:, None]
        mine = real[at] & (batch.index[at] == 0)
        real[at] &= ~mine
        loss, sums = self.sums(norm, params, buffers, moved, keys, batch, torch.from_numpy(real), added)
        others = [grad[torch.from_numpy(at)] for grad in sums]
        inside = torch.from_numpy(mine.any(axis=1) & self._canaries.there(places))
        rows = torch.from_numpy(at)[inside]
        for grad, canary in zip(sums, long, strict=True):
            grad[rows] += canary[inside]
        noised = self.noised(noise, sums)

        by = noise.denominators(len(keys), loss.device)[torch.from_numpy(at)]
        along, squares = torch.zeros(len(at), dtype=torch.float64), torch.zeros(len(at), dtype=torch.float64)
        for grad, other, canary in zip(noised, others, long, strict=True):
            released = grad[torch.from_numpy(at)].double() * by.double().view(-1, *[1] * (grad.dim() - 1))
            along += ((released - other) * canary).flatten(1).sum(dim=1)
            squares += canary.double().square().flatten(1).sum(dim=1)
        lengths = squares.sqrt()
        self._canaries.seen += [
            (int(place), float(value) / norm, float(length) / norm)
            for place, value, length in zip(places, along / lengths.clamp(min=1e-300), lengths, strict=True)
        ]
        return loss, noised


def with_canaries(private: ExamplePrivacy, canaries: RowCanaries) -> CanaryPrivacy:
    """Return a protection with canaries among the rows."""
    return CanaryPrivacy(private.norm, private.noise_multiplier, private.noise, canaries)
