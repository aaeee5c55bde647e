"""Which examples each client uses in each local step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedray.core.messages import Ints
from fedray.core.rng import Stream


@dataclass(frozen=True)
class LocalArgs:
    """How long and in which batches a client trains.

    Args:
        epochs: passes over the client's data, E >= 1 (0: the client returns the model unchanged).
        batch_size: examples in a step, B >= 1; ``None`` is the whole local data set (one step an epoch).
        steps: if given, exactly so many steps for every client instead of ``epochs`` passes.
    """

    epochs: int = 1
    batch_size: int | None = 32
    steps: int | None = None

    def batches(self, sizes: Ints) -> Ints:
        """Steps in one pass over ``sizes`` examples each, ``[C]``."""
        if self.batch_size is None:
            return np.ones_like(sizes)
        return -(-sizes // self.batch_size)

    def local_steps(self, sizes: Ints) -> Ints:
        """Local steps of clients with ``sizes`` examples, ``[C]``."""
        if self.steps is not None:
            return np.full_like(sizes, self.steps)
        return self.epochs * self.batches(sizes)


@dataclass(frozen=True)
class Schedule:
    """Example indices for C clients, S steps, batches of at most B.

    Args:
        index: int64 ``[C, S, B]``, local example numbers; padding repeats example 0.
        count: int64 ``[C, S]``, how many leading entries of each batch are real; 0 once a client has finished.
    """

    index: NDArray[np.int64]
    count: NDArray[np.int64]

    @classmethod
    def draw(cls, args: LocalArgs, sizes: Ints, keys: Ints, seed: int, round: int) -> Schedule:
        """Every pass is a fresh permutation of the client's examples, named by (seed, round, client, epoch).

        Clients' rows do not depend on one another.  The last batch of a pass holds the remainder.
        """
        per_pass, steps = args.batches(sizes), args.local_steps(sizes)
        longest = int(steps.max())
        width = int(sizes.max()) if args.batch_size is None else min(args.batch_size, int(sizes.max()))
        index = np.zeros((len(sizes), longest, width), dtype=np.int64)
        count = np.zeros((len(sizes), longest), dtype=np.int64)
        passes = int((-(-steps // per_pass)).max())
        stream = Stream(seed, "order", round)
        position = np.arange(int(sizes.max()))
        row_start = np.arange(len(sizes))[:, None] * longest
        for turn in range(passes):
            order = stream.permutations(keys, sizes, turn)
            step = turn * per_pass[:, None] + position // width
            used = (position < sizes[:, None]) & (step < steps[:, None])
            place = (row_start + step) * width + position % width
            index.reshape(-1)[place[used]] = order[used]
        number = np.arange(longest)
        within = number[None, :] % per_pass[:, None]
        count[:] = np.minimum(width, sizes[:, None] - within * width)
        count[number[None, :] >= steps[:, None]] = 0
        return cls(index, count)
