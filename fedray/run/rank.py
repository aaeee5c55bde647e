"""A rank of a worker: one of several processes that train each client together, each with a shard of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from fedray.aggregators.base import Accumulator
from fedray.aggregators.exact import LIMIT
from fedray.core.errors import RunFailed, UpdateOutOfRange, one_line
from fedray.core.messages import DELTA, Block, BlockUpdate, Broadcast, Failure, Ints
from fedray.core.shards import Shard
from fedray.local.kernels import lack_told, memory_told
from fedray.local.task import LocalTask
from fedray.run.evaluation import OutOfMemory
from fedray.run.rank_examiner import RankExaminer
from fedray.run.rank_rows import RankRows
from fedray.run.trained import Models
from fedray.run.worker import Job, Worker


class RanksBroken(BaseException):
    """The error of a worker of several ranks of which one failed or is gone: the worker is lost with all of them.

    It is none of a client's, and so no ``Exception``: the ranks that are left cannot go on without the others.

    >>> str(RanksBroken("rank 1: it is gone")), RanksBroken("rank 1: it is gone").failure
    ('rank 1: it is gone', None)

    Args:
        text: the reason.
        failure: the failure of the client whose training raised it; None: it lies with no client, as a death does not.
    """

    def __init__(self, text: str, failure: Failure | None = None) -> None:
        super().__init__(text)
        self.failure = failure


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

    examiner = RankExaminer

    def __init__(self, job: Job, devices: Sequence[torch.device], rank: int, ranks: int) -> None:
        self.shard = Shard(job.task.layout, rank, ranks)
        super().__init__(job, devices[:1])
        if job.task.moments is not None:
            self.rows = RankRows(job.state_folder, job.task.moments, self.shard)

    def own(self, task: LocalTask) -> LocalTask:
        """Return the part of the local training problem that is the rank's."""
        return task.on_rank(self.shard.rank, self.shard.ranks)

    def begin(self, down: Broadcast, into: Accumulator | None = None) -> None:
        """Start a round, of whose broadcast the rank takes its shard."""
        self.begin_with(self.shard.take(down.parts["model"]), down, into)

    def begin_with(self, own: Tensor, down: Broadcast, into: Accumulator | None = None) -> None:
        """Start a round with the rank's part ``[k]`` of the model, and a broadcast that need not have the whole."""
        super().begin(replace(down, parts={**down.parts, "model": own}), into)

    def folded(self) -> Accumulator:
        """Return all that was folded since ``begin``, in the one form that crosses between nodes."""
        return self.job.algorithm.aggregator.filled(self.finish())

    def put(self, into: Accumulator) -> None:
        """Put all that was folded since ``begin`` into its places in an accumulator of whole updates."""
        for name, part in self.folded().items():
            self.shard.put(part.to(into[name].device), into[name])

    def local(self, clients: Ints, block: Block, models: Models | None = None) -> BlockUpdate:
        """Return the rank's part of the updates of clients, see :meth:`fedray.run.worker.Worker.local`."""
        update = super().local(clients, block, models)
        update.across = dist.all_reduce
        return update

    def _update(self, clients: Ints, block: Block) -> BlockUpdate:
        try:
            with memory_told(), lack_told():
                update = self.sent(clients, block)
            if update.start is not None:
                update.parts[DELTA].sub_(update.start)
                update.start = None
            peak = _peak(update.parts[DELTA])
            dist.all_reduce(peak, dist.ReduceOp.MAX)
        except Exception as error:
            # The others are on their way to something that this rank will not come to.
            raise RanksBroken(one_line(error), self._failed(int(clients[0]), error)) from error
        if not float(peak) < LIMIT:
            raise UpdateOutOfRange([0], f"{DELTA} is not finite, or beyond {LIMIT:,.0f} in magnitude", DELTA)
        return update

    def _failed(self, client: int, error: Exception) -> Failure | None:
        """Return the failure of the client whose training raised; None: the error lies with no client."""
        if isinstance(error, OutOfMemory):
            return self._failure(client, "memory", one_line(error))
        return None if isinstance(error, RunFailed) or _of_the_others(error) else self._raised(client, error)


def _of_the_others(error: Exception) -> bool:
    """Return True for an error of the ranks' talk, which another one that is gone, or has raised, leaves behind.

    Backends have no type for it: gloo raises a plain ``RuntimeError``, out of torch's own calls.
    """
    if not isinstance(error, RuntimeError) or (trace := error.__traceback__) is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    raised_in, talk = Path(trace.tb_frame.f_code.co_filename), Path(dist.__file__).parent
    return raised_in.is_relative_to(talk) and not raised_in.is_relative_to(talk / "tensor")


def _peak(values: Tensor) -> Tensor:
    """Return the largest magnitude of values ``[1, k]``, on the CPU; infinite where one is not finite, 0 of none."""
    if not values.numel():
        return torch.zeros(())
    return values.abs().nan_to_num(nan=float("inf")).amax().cpu()
