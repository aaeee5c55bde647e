"""The schedule of local training: the examples of each client in each local step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedray.config.sections import LocalSection
from fedray.core.messages import Ints
from fedray.core.rng import Stream


def batch_widths(args: LocalSection, sizes: Ints) -> Ints:
    """Return the most examples that one step of clients with ``sizes`` examples uses, ``[C]``."""
    if args.batch_size == "full":
        return sizes
    size = int(args.batch_size)  # type: ignore[arg-type]
    widest: Ints = np.where(sizes < size, sizes, size + (sizes % size if args.last_batch == "merge" else 0))
    return widest


def batches(args: LocalSection, sizes: Ints) -> Ints:
    """Return the steps in one pass over ``sizes`` examples each, ``[C]``."""
    if args.batch_size == "full":
        return np.ones_like(sizes)
    size = int(args.batch_size)  # type: ignore[arg-type]
    passes: Ints = -(-sizes // size) if args.last_batch == "keep" else np.maximum(sizes // size, 1)
    return passes


def single_rows(args: LocalSection, sizes: Ints) -> NDArray[np.bool_]:
    """Return which clients with ``sizes`` examples have a step with one row, ``[C]``."""
    if args.batch_size == "full":
        alone = sizes == 1
    else:
        size = int(args.batch_size)  # type: ignore[arg-type]
        alone = (sizes == 1) | (size == 1) | ((args.last_batch == "keep") & (sizes % size == 1))
        # Fewer steps than a pass do not come to its last batch.
        alone &= (size == 1) | (local_steps(args, sizes) >= batches(args, sizes))
    found: NDArray[np.bool_] = alone & (local_steps(args, sizes) > 0)
    return found


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
        """Draw each pass as a fresh permutation of the client's examples, named by (seed, round, client, epoch).

        Clients' rows do not depend on one another.  ``args.last_batch`` says where the rest of a pass goes.
        """
        per_pass, steps = batches(args, sizes), local_steps(args, sizes)
        longest, width = int(steps.max()), int(batch_widths(args, sizes).max())
        size = width if args.batch_size == "full" else int(args.batch_size)  # type: ignore[arg-type]
        index = np.zeros((len(sizes), longest, width), dtype=np.int64)
        passes = int((-(-steps // per_pass)).max())
        stream = Stream(seed, "order", round)
        position = np.arange(int(sizes.max()))
        batch = np.minimum(position // size, per_pass[:, None] - 1)
        place = position - batch * size
        taken = (position < sizes[:, None]) & (place < width)
        row_start = np.arange(len(sizes))[:, None] * longest
        for turn in range(passes):
            order = stream.permutations(keys, sizes, turn)
            step = turn * per_pass[:, None] + batch
            used = taken & (step < steps[:, None])
            index.reshape(-1)[((row_start + step) * width + place)[used]] = order[used]
        number = np.arange(longest)
        within = number[None, :] % per_pass[:, None]
        last = (within == per_pass[:, None] - 1) & (args.last_batch == "merge")
        count = np.minimum(np.where(last, width, size), sizes[:, None] - within * size)
        count[number[None, :] >= steps[:, None]] = 0
        return cls(index, count)
