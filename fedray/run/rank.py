"""A rank of a worker: one of several processes that train each client together, each with a shard of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor

from fedray.aggregators.base import Accumulator
from fedray.aggregators.exact import LIMIT
from fedray.core.errors import RanksBroken, UpdateOutOfRange, one_line
from fedray.core.messages import DELTA, Block, BlockUpdate, Broadcast, Ints
from fedray.core.shards import Shard
from fedray.local.task import LocalTask
from fedray.models.prototype import forget
from fedray.run.trained import Models
from fedray.run.worker import Job, Worker


class RankWorker(Worker):
    """A worker that trains with the other ranks of torch's process group, and folds its shard of the updates.

    All ranks do the same blocks at the same time, and come to the same result of each: what an update is worth is
    known to all of them before any folds it.

    Args:
        job: the run's work.
        devices: the first is the rank's.
        rank: from 0.
        ranks: the number of ranks.
    """

    def __init__(self, job: Job, devices: Sequence[torch.device], rank: int, ranks: int) -> None:
        self.shard = Shard(job.task.layout, rank, ranks)
        self._given = Broadcast(0, {}, 1.0)
        super().__init__(job, devices[:1])
        if rank:
            forget(job.task.model_fn)  # the first one evaluates

    def own(self, task: LocalTask) -> LocalTask:
        """Return the part of the local training problem that is the rank's."""
        return task.on_rank(self.shard.rank, self.shard.ranks)

    @property
    def whole(self) -> Broadcast:
        """The broadcast of the round, with the whole model, which goes to the device where it is evaluated."""
        return replace(self._given, parts={name: part.to(self.device) for name, part in self._given.parts.items()})

    def begin(self, down: Broadcast, into: Accumulator | None = None) -> None:
        """Start a round, of whose broadcast the rank takes its shard."""
        self._given = down
        super().begin(replace(down, parts={**down.parts, "model": self.shard.take(down.parts["model"])}), into)

    def put(self, into: Accumulator) -> None:
        """Put all that was folded since ``begin`` into its places in an accumulator of whole updates."""
        for name, part in self.job.algorithm.aggregator.filled(self.finish()).items():
            self.shard.put(part.to(into[name].device), into[name])

    def local(self, clients: Ints, block: Block, models: Models | None = None) -> BlockUpdate:
        """Return the rank's part of the updates of clients, see :meth:`fedray.run.worker.Worker.local`."""
        update = super().local(clients, block, models)
        update.across = dist.all_reduce
        return update

    def _update(self, clients: Ints, block: Block) -> BlockUpdate:
        try:
            update = self.sent(clients, block)
            if update.start is not None:
                update.parts[DELTA].sub_(update.start)
                update.start = None
            peak = _peak(update.parts[DELTA])
            dist.all_reduce(peak, dist.ReduceOp.MAX)
        except Exception as error:
            # The others are on their way to something that this rank will not come to.
            raise RanksBroken(one_line(error)) from error
        if not float(peak) < LIMIT:
            raise UpdateOutOfRange([0], f"{DELTA} is not finite, or beyond {LIMIT:,.0f} in magnitude", DELTA)
        return update


def _peak(values: Tensor) -> Tensor:
    """Return the largest magnitude of values ``[1, k]``, on the CPU; infinite where one is not finite, 0 of none."""
    if not values.numel():
        return torch.zeros(())
    return values.abs().nan_to_num(nan=float("inf")).amax().cpu()
