"""Which examples each client uses in each local step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedray.config.sections import LocalSection
from fedray.core.messages import Ints
from fedray.core.rng import Stream


def batch_width(args: LocalSection, examples: int) -> int:
    """Return the most examples that one step of a client with ``examples`` examples uses."""
    return examples if args.batch_size == "full" else min(int(args.batch_size), examples)  # type: ignore[arg-type]


def batches(args: LocalSection, sizes: Ints) -> Ints:
    """Return the steps in one pass over ``sizes`` examples each, ``[C]``."""
    if args.batch_size == "full":
        return np.ones_like(sizes)
    passes: Ints = -(-sizes // int(args.batch_size))  # type: ignore[arg-type]
    return passes


def local_steps(args: LocalSection, sizes: Ints) -> Ints:
    """Return the local steps of clients with ``sizes`` examples, ``[C]``."""
    if args.steps is not None:
        return np.full_like(sizes, args.steps)
    return args.epochs * batches(args, sizes)


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
    def draw(cls, args: LocalSection, sizes: Ints, keys: Ints, seed: int, round: int) -> Schedule:
        """Every pass is a fresh permutation of the client's examples, named by (seed, round, client, epoch).

        Clients' rows do not depend on one another.  The last batch of a pass holds the remainder.
        """
        per_pass, steps = batches(args, sizes), local_steps(args, sizes)
        longest = int(steps.max())
        width = batch_width(args, int(sizes.max()))
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
