"""The ranks of a worker: processes that train a client together, of which a worker's group sees the first alone.

They talk by torch's own process group, which FSDP finds there: gloo between processors, NCCL between GPUs.  The first
rank tells the others what it does, and they do the same.  A rank that fails, or dies, breaks the process group for all
of them: the worker is lost, and its group starts another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import ray
import torch
import torch.distributed

from fedray.aggregators.base import Accumulator
from fedray.cluster.place.reservation import own_gpus
from fedray.cluster.work.collective import PATIENCE, RankSpec
from fedray.cluster.work.memory import Handle
from fedray.cluster.work.state import StateHandle
from fedray.core.errors import RanksBroken, one_line
from fedray.core.messages import Block, Broadcast
from fedray.run.rank import RankWorker
from fedray.run.usage import Meter, Reading
from fedray.run.worker import Item, Job, Report, devices_of
from fedray.rundir.worker_log import redirect

dist: Any = torch.distributed  # of what is used here torch has no types

_FOR_EVER = timedelta(days=1000)
"""The time that a rank waits for the others: a group has a deadline of its own, and a death is noticed at once."""

_REASON = "reason"


class Ranks:
    """This process as a rank; making it returns when all ranks are there.

    Args:
        spec: of the rank.
    """

    def __init__(self, spec: RankSpec) -> None:
        self._rank = spec.rank
        store = dist.TCPStore(spec.host, spec.port, None, False, timeout=PATIENCE)
        self._store = dist.PrefixStore(spec.name, store)
        dist.init_process_group(
            "gloo" if spec.device == "cpu" else "cpu:gloo,cuda:nccl",
            store=self._store,
            rank=spec.rank,
            world_size=spec.size,
            timeout=_FOR_EVER,
        )

    def tell(self, *said: Any) -> None:
        """Tell the other ranks something: the first rank's end of :meth:`hear`."""
        dist.broadcast_object_list([said], src=0, device=torch.device("cpu"))

    def hear(self) -> tuple[Any, ...]:
        """Return what the first rank says next."""
        heard: list[Any] = [None]
        dist.broadcast_object_list(heard, src=0, device=torch.device("cpu"))
        said: tuple[Any, ...] = heard[0]
        return said

    def gathered(self, one: Any) -> list[Any]:
        """Return what all ranks have, in their order."""
        found: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(found, one)
        return found

    def broken(self, error: BaseException) -> RanksBroken:
        """Return why the ranks cannot go on: the first error of all, as the others follow from it."""
        mine = f"rank {self._rank}: {one_line(error) if isinstance(error, Exception) else error}"
        try:
            return RanksBroken(self._store.compare_set(_REASON, "", mine).decode())
        except RuntimeError:  # the group of the worker is gone, and its store
            return RanksBroken(mine)

    @contextmanager
    def unbroken(self) -> Iterator[None]:
        """Raise RanksBroken, with the reason, for whatever is raised inside."""
        try:
            yield
        except (Exception, RanksBroken) as error:
            raise self.broken(error) from error


class LeadingRank(RankWorker):
    """The first rank, by which the others do what it does; each method raises RanksBroken if one of them is gone.

    Args:
        job: the run's work.
        spec: of the rank.
        gpus: GPUs of each rank.
    """

    def __init__(self, job: Job, spec: RankSpec, gpus: float) -> None:
        self._ranks = Ranks(spec)
        super().__init__(job, devices_of(gpus), spec.rank, spec.size)

    def begin(self, down: Broadcast, into: Accumulator | None = None) -> None:
        """Start a round on all ranks, each of which has opened the memory that the broadcast lies in."""
        with self._ranks.unbroken():
            self._ranks.tell("begin", down.round, down.weight)
            super().begin(down, into)

    def handle(self, item: Item) -> Report:
        """Do one work item: train with all ranks, or evaluate alone."""
        if not isinstance(item, Block):
            return super().handle(item)
        with self._ranks.unbroken():
            self._ranks.tell("handle", item)
            return super().handle(item)

    def put(self, into: Accumulator) -> None:
        """Let each rank put what it has folded into the accumulator of all; returns when all have."""
        with self._ranks.unbroken():
            self._ranks.tell("put")
            super().put(into)
            self._ranks.gathered(None)

    def read(self, reading: Reading) -> Reading:
        """Return the reading of all ranks, given that of this process."""
        with self._ranks.unbroken():
            self._ranks.tell("read")
            return together(self._ranks.gathered(reading))


class FollowingRank:
    """The actor of any other rank.

    Args:
        job: the run's work.
        spec: of the rank.
        down: memory of the broadcast.
        up: memory of what the worker folds.
        name: the worker's name, ``node1/0``.
        gpus: the number of GPUs that Ray assigned.
        state: memory of rows of client state; None: all of them are in files.
    """

    def __init__(
        self,
        job: Job,
        spec: RankSpec,
        down: Handle,
        up: Handle,
        name: str,
        gpus: float,
        state: StateHandle | None = None,
    ) -> None:
        own_gpus(gpus)
        if job.said is not None:
            redirect(job.said, f"{name}.{spec.rank}")
        self._ranks = Ranks(spec)
        self._worker = RankWorker(job, devices_of(gpus), spec.rank, spec.size)
        if state is not None:
            self._worker.hold(state.open())
        self._down, self._up = down.open(), up.open()
        self._meter, self._name = Meter(devices_of(gpus)), name

    def follow(self) -> None:
        """Do what the first rank does, until that is gone."""
        try:
            while True:
                self._do(*self._ranks.hear())
        except BaseException as error:
            self._ranks.broken(error)
        # The others find this rank gone, and wait for it no longer.
        ray.actor.exit_actor()

    def _do(self, what: str, *said: Any) -> None:
        match what:
            case "begin":
                self._worker.begin(Broadcast(said[0], self._down, said[1]))
            case "handle":
                self._worker.handle(said[0])
            case "put":
                self._worker.put(self._up)
                self._ranks.gathered(None)
            case "read":
                self._ranks.gathered(self._meter.read(self._name, 0.0))


def together(readings: list[Reading]) -> Reading:
    """Return the readings of all ranks as that of their worker.

    >>> together([Reading("a/0", 2.0, 1.5, 100, hardware="x86_64 AVX2"), Reading("a/0", 0.0, 1.0, 80)])
    Reading(worker='a/0', busy=2.0, cpu_seconds=2.5, rss=180, gpu_memory=0, joules={}, hardware='x86_64 AVX2, 2 ranks')
    """
    first, *others = readings
    found = first
    for other in others:
        sums = {name: getattr(found, name) + getattr(other, name) for name in ("cpu_seconds", "rss", "gpu_memory")}
        found = replace(found, joules={**found.joules, **other.joules}, **sums)
    return replace(found, hardware=f"{first.hardware}, {len(readings)} ranks")
