"""The schedule of local training: the examples of each client in each local step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.config.amounts import bounds
from fedray.config.local import LastBatch
from fedray.config.sections import LocalSection
from fedray.core.messages import Floats, Ints
from fedray.core.rng import Stream
from fedray.local.work import amounts, sections


def batch_sizes(args: LocalSection, sizes: Ints, keys: Ints | None = None) -> Ints:
    """Return the examples of a step of clients with ``sizes`` examples, before the last one of a pass, ``[C]``.

    Args:
        args: the local training.
        sizes: the clients' numbers of examples ``[C]``.
        keys: their keys ``[C]``, where ``local.by_client`` counts; likewise below.
    """
    found = np.maximum(sizes, 1)
    for section, which in sections(args, keys):
        if section.batch_size != "full":
            found[which] = int(section.batch_size) * section.accumulate  # type: ignore[arg-type]
    return found


def batch_widths(args: LocalSection, sizes: Ints, keys: Ints | None = None) -> Ints:
    """Return the most examples that one step of clients with ``sizes`` examples uses, ``[C]``."""
    return _widths(args.last_batch, sizes, batch_sizes(args, sizes, keys))


def _widths(last_batch: LastBatch, sizes: Ints, size: Ints) -> Ints:
    widest: Ints = np.where(sizes < size, sizes, size + (sizes % size if last_batch == "merge" else 0))
    return widest


def batches(args: LocalSection, sizes: Ints, keys: Ints | None = None) -> Ints:
    """Return the steps in one pass over ``sizes`` examples each, ``[C]``."""
    return _passes(args.last_batch, sizes, batch_sizes(args, sizes, keys))


def _passes(last_batch: LastBatch, sizes: Ints, size: Ints) -> Ints:
    passes: Ints = -(-sizes // size) if last_batch == "keep" else np.maximum(sizes // size, 1)
    return passes


def single_rows(args: LocalSection, sizes: Ints, keys: Ints | None = None) -> NDArray[np.bool_]:
    """Return which clients with ``sizes`` examples have a step with one row, in some round, ``[C]``."""
    size, (_, most) = batch_sizes(args, sizes, keys), step_bounds(args, sizes, keys)
    alone = (sizes == 1) | (size == 1) | ((args.last_batch == "keep") & (sizes % size == 1))
    # Fewer steps than a pass do not come to its last batch.
    alone &= (size == 1) | (most >= batches(args, sizes, keys))
    found: NDArray[np.bool_] = alone & (most > 0)
    return found


def local_steps(args: LocalSection, sizes: Ints, keys: Ints, seed: int, round: int) -> Ints:
    """Return the local steps of clients with ``sizes`` examples in a round, ``[C]``."""
    return _steps(args, batches(args, sizes, keys), keys, seed, round)


def _steps(args: LocalSection, passes: Ints, keys: Ints, seed: int, round: int) -> Ints:
    steps = np.zeros(len(passes), dtype=np.int64)
    for section, which in sections(args, keys):
        amount = section.epochs if section.steps is None else section.steps
        drawn = amounts(amount, keys[which], seed, round)
        steps[which] = drawn * passes[which] if section.steps is None else drawn
    return steps


def step_bounds(args: LocalSection, sizes: Ints, keys: Ints | None = None) -> tuple[Ints, Ints]:
    """Return the least and the most local steps of clients with ``sizes`` examples in any round, each ``[C]``."""
    least, most, passes = np.zeros_like(sizes), np.zeros_like(sizes), batches(args, sizes, keys)
    for section, which in sections(args, keys):
        low, high = bounds(section.epochs if section.steps is None else section.steps)
        each = passes[which] if section.steps is None else 1
        least[which], most[which] = low * each, high * each
    return least, most


@dataclass(frozen=True)
class _Frame:
    """All of a schedule but the orders: the same for all blocks whose clients have as many examples and steps.

    Args:
        width: B.
        passes: the most that a client begins.
        per_pass: the steps of each client's pass, ``[C, 1]``.
        batch, place: of each position of a pass, its batch and its place there, ``[C, N]``.
        taken: the positions that a batch takes, ``[C, N]``.
        row_start: the first step of each client among those of all, ``[C, 1]``.
        count: as :class:`Schedule` has it.
    """

    width: int
    passes: int
    per_pass: Ints
    batch: Ints
    place: Ints
    taken: NDArray[np.bool_]
    row_start: Ints
    count: Ints


@lru_cache(maxsize=1)
def _frame(last_batch: LastBatch, *columns: bytes) -> _Frame:
    """Return the frame of clients by their examples, examples of a step, and steps, each ``[C]`` as bytes."""
    sizes, each, steps = (np.frombuffer(column, dtype=np.int64) for column in columns)
    passes, widest = _passes(last_batch, sizes, each), _widths(last_batch, sizes, each)
    # One number for all is quicker than the same for each.
    size: Any = int(each[0]) if (each == each[0]).all() else each[:, None]
    widths: Any = int(widest[0]) if (widest == widest[0]).all() else widest[:, None]
    per_pass, longest = passes[:, None], int(steps.max())
    position = np.arange(int(sizes.max()))
    batch = np.minimum(position // size, per_pass - 1)
    place = position - batch * size
    number = np.arange(longest)
    within = number % per_pass
    last = (within == per_pass - 1) & (last_batch == "merge")
    count = np.minimum(np.where(last, widths, size), sizes[:, None] - within * size)
    count[number >= steps[:, None]] = 0
    count.flags.writeable = False
    return _Frame(
        width=int(widest.max()),
        passes=int((-(-steps // passes)).max()),
        per_pass=per_pass,
        batch=batch,
        place=place,
        taken=(position < sizes[:, None]) & (place < widths),
        row_start=np.arange(len(sizes))[:, None] * longest,
        count=count,
    )


def _by_length(order: Ints, lengths: Ints, used: NDArray[np.bool_], together: Ints) -> Ints:
    """Return orders in which rows fall in length within pieces of a pass, as drawn where they are equally long.

    Clients that step at once then come to long rows at the same time, and their batch is padded no more than each.
    Which rows are in a piece is drawn; so a pass that is cut short has rows of all lengths.

    >>> order, lengths = np.array([[3, 0, 4, 1, 2]]), np.array([[5, 9, 2, 7, 6]])
    >>> _by_length(order, lengths, order >= 0, np.array([3]))
    array([[3, 4, 0, 1, 2]])

    Args:
        order: the examples of a pass, ``[C, N]``.
        lengths: of each example, ``[C, N]``.
        used: the positions of the pass that batches take, its first ones, ``[C, N]``.
        together: the rows of a piece, ``[C]``.
    """
    position, own = np.arange(order.shape[1]), np.take_along_axis(lengths, order, axis=1)
    piece = np.where(used, position // together[:, None], len(position))
    most = int(own.max())
    return np.take_along_axis(order, np.argsort(piece * (most + 1) + most - own, axis=1, kind="stable"), axis=1)


@dataclass(frozen=True)
class Schedule:
    """Example indices for C clients, S steps, batches of at most B.

    Args:
        index: int64 ``[C, S, B]``, local example numbers; padding repeats one of them.
        count: int64 ``[C, S]``, how many leading entries of each batch are real; 0 once a client has finished.
        taken: the steps of each client, ``[C]``, where batches may be empty; None: those with examples.
    """

    index: NDArray[np.int64]
    count: NDArray[np.int64]
    taken: Ints | None = None

    @property
    def falls(self) -> bool:
        """True if nobody has more steps than who stands before it."""
        steps = self.steps
        return not (steps[1:] > steps[:-1]).any()

    @cached_property
    def steps(self) -> Ints:
        """The steps of each client, ``[C]``."""
        found: Ints = (self.count > 0).sum(axis=1) if self.taken is None else self.taken
        return found

    def of(self, places: Ints) -> Schedule:
        """Return the schedule of the clients at these places."""
        return Schedule(self.index[places], self.count[places], None if self.taken is None else self.taken[places])

    def among(self, where: NDArray[np.bool_]) -> Schedule:
        """Return the schedule in which those clients alone take their steps, ``[C]``.

        >>> two = Schedule(np.zeros((2, 3, 1), dtype=int), np.array([[1, 1, 1], [1, 0, 0]]))
        >>> two.among(np.array([False, True])).count
        array([[0],
               [1]])
        """
        count = np.where(where[:, None], self.count, 0)
        steps = np.where(where, self.steps, 0)
        longest = int(steps.max())
        return Schedule(self.index[:, :longest], count[:, :longest], None if self.taken is None else steps)

    @classmethod
    def draw(
        cls,
        args: LocalSection,
        sizes: Ints,
        keys: Ints,
        seed: int,
        round: int,
        work: int | None = None,
        steps: Ints | None = None,
        lengths: Ints | None = None,
    ) -> Schedule:
        """Draw each pass as a fresh permutation of the client's examples, named by (seed, round, client, epoch).

        Clients' rows do not depend on one another.  ``args.last_batch`` says where the rest of a pass goes.

        Args:
            args: the local training.
            sizes: the clients' numbers of examples ``[C]``.
            keys: their keys ``[C]``.
            seed: names the orders.
            round: round number.
            work: the run's seed, which names how much a client does, the same in all orders of a round; default: seed.
            steps: the steps of each client, ``[C]``, in the place of those of ``args``.
            lengths: those of the examples, ``[C, max(sizes)]``, by which ``args.group_by_length`` sorts; None: it does
                not, and all are as long.
        """
        each = batch_sizes(args, sizes, keys)
        if steps is None:
            steps = _steps(args, _passes(args.last_batch, sizes, each), keys, seed if work is None else work, round)
        frame = _frame(args.last_batch, sizes.tobytes(), each.tobytes(), steps.tobytes())
        index = np.zeros((*frame.count.shape, frame.width), dtype=np.int64)
        if lengths is not None:
            index += lengths.argmin(axis=1)[:, None, None]
        stream = Stream(seed, "order", round)
        for turn in range(frame.passes):
            order = stream.permutations(keys, sizes, turn)
            step = turn * frame.per_pass + frame.batch
            used = frame.taken & (step < steps[:, None])
            if lengths is not None and args.group_by_length is not None:
                order = _by_length(order, lengths, used, args.group_by_length * each)
            index.reshape(-1)[((frame.row_start + step) * frame.width + frame.place)[used]] = order[used]
        return cls(index, frame.count)

    @classmethod
    def poisson(
        cls,
        args: LocalSection,
        sizes: Ints,
        keys: Ints,
        seed: int,
        round: int,
        work: int | None = None,
        steps: Ints | None = None,
    ) -> Schedule:
        """Draw each step's batch by a coin for each of the client's examples, named by (seed, round, client, step).

        A coin falls at the rate ``batch size / examples``, at most 1, so that a batch has the configured size on
        average, and may be empty.  The number of steps is that of :meth:`draw`; so are the arguments.
        """
        if steps is None:
            steps = _steps(args, batches(args, sizes, keys), keys, seed if work is None else work, round)
        rates = poisson_rates(args, sizes, keys)
        stream = Stream(seed, "order", round)
        turns = np.arange(int(steps.max(initial=0)))
        if not len(turns):
            return cls(np.zeros((len(sizes), 0, 1), dtype=np.int64), np.zeros((len(sizes), 0), dtype=np.int64), steps)
        chosen = stream.coins(keys, sizes, turns, rates) & (turns < steps[:, None])[:, :, None]
        count = chosen.sum(axis=2)
        width = max(1, int(count.max()))
        # Those that were chosen come first, in their order; padding repeats example 0.
        order = np.argsort(~chosen, axis=2, kind="stable")[:, :, :width]
        return cls(np.where(np.arange(order.shape[2]) < count[:, :, None], order, 0), count, steps)


def poisson_rates(args: LocalSection, sizes: Ints, keys: Ints | None = None) -> Floats:
    """Return the rate at which each client's examples are drawn into a batch, ``[C]``, in (0, 1]."""
    rates: Floats = np.minimum(1.0, batch_sizes(args, sizes, keys) / np.maximum(sizes, 1))
    return rates
