"""The ranks of a worker: processes that train a client together, of which a worker's group sees the first alone.

They talk by torch's own process group, which FSDP finds there: gloo between processors, NCCL between GPUs.  The first
rank tells the others what it does, and they do the same.  A rank that fails, or dies, breaks the process group for all
of them: the worker is lost, and its group starts another one.  An error of a client's is told from a death: the rank
that raises leaves it at the store of the group, where the first rank finds it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from itertools import product
from typing import Any

import psutil
import ray
import torch
import torch.distributed
from ray.util import get_node_ip_address
from torch import Tensor

from fedray.aggregators.base import Accumulator
from fedray.cluster.place.reservation import own_gpus
from fedray.cluster.work.collective import PATIENCE, RankSpec
from fedray.cluster.work.memory import Handle
from fedray.cluster.work.payload import Payload
from fedray.cluster.work.state import StateHandle
from fedray.core.errors import one_line
from fedray.core.messages import Broadcast, Failure
from fedray.core.shards import Shard
from fedray.run.rank import RanksBroken, RankWorker
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
        self._name = f"rank {spec.rank}" + (f" on {spec.node}" if spec.node else "")
        _use_interface(get_node_ip_address())
        store = dist.TCPStore(spec.host, spec.port, None, False, timeout=PATIENCE)
        self._store = dist.PrefixStore(spec.name, store)
        dist.init_process_group(
            "gloo" if spec.device == "cpu" else "cpu:gloo,cuda:nccl",
            store=self._store,
            rank=spec.rank,
            world_size=spec.size,
            timeout=_FOR_EVER,
        )

    @staticmethod
    def give(part: Tensor, rank: int) -> None:
        """Send numbers to a rank on another node: this end of :meth:`take`."""
        dist.send(part.contiguous(), rank)

    @staticmethod
    def take(count: int, dtype: torch.dtype, rank: int) -> Tensor:
        """Return the numbers ``[count]`` that a rank on another node sends."""
        part = torch.empty(count, dtype=dtype)
        dist.recv(part, rank)
        return part

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
        text = f"{self._name}: {one_line(error) if isinstance(error, Exception) else error}"
        failure = error.failure if isinstance(error, RanksBroken) else None
        mine = json.dumps([text, None if failure is None else asdict(failure)])
        try:
            text, first = json.loads(self._store.compare_set(_REASON, "", mine))
        except RuntimeError:  # the group of the worker is gone, and its store
            return RanksBroken(text, failure)
        return RanksBroken(text, None if first is None else Failure(**first))

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
        self._away = [Shard(job.task.layout, rank, spec.size) for rank in spec.away]

    def begin(self, down: Broadcast, into: Accumulator | None = None) -> None:
        """Start a round on all ranks, each of which has the broadcast in memory that it opened, or is sent its part."""
        with self._ranks.unbroken():
            self._ranks.tell("begin", down.round, down.weight)
            for shard in self._away:
                self._ranks.give(shard.take(down.parts["model"]), shard.rank)
            super().begin(down, into)

    def handle(self, item: Item) -> Report:
        """Do one work item with all ranks."""
        with self._ranks.unbroken():
            self._ranks.tell("handle", item)
            return super().handle(item)

    def put(self, into: Accumulator) -> None:
        """Let each rank put what it has folded into the accumulator of all; returns when all have."""
        with self._ranks.unbroken():
            self._ranks.tell("put")
            super().put(into)
            for shard, name in product(self._away, sorted(self.folded())):
                shard.put(self._ranks.take(shard.layout.size, into[name].dtype, shard.rank), into[name])
            self._ranks.gathered(None)

    def read(self, reading: Reading) -> Reading:
        """Return the reading of all ranks, given that of this process."""
        with self._ranks.unbroken():
            self._ranks.tell("read")
            return together(self._ranks.gathered(reading))


class FollowingRank:
    """The actor of any other rank.

    Args:
        job: the run's work; on another node than the first rank's, with its data.
        spec: of the rank.
        down: memory of the broadcast; None: it is on another node.
        up: memory of what the worker folds, likewise.
        name: the worker's name, ``node1/0``.
        gpus: the number of GPUs that Ray assigned.
        state: memory of rows of client state; None: all of them are in files.
    """

    def __init__(
        self,
        job: Job | Payload,
        spec: RankSpec,
        down: Handle | None,
        up: Handle | None,
        name: str,
        gpus: float,
        state: StateHandle | None = None,
    ) -> None:
        own_gpus(gpus)
        with ExitStack() as held:
            if isinstance(job, Payload):
                job = job.unpack(held)
            if job.said is not None:
                redirect(job.said, f"{name}.{spec.rank}")
            self._ranks = Ranks(spec)
            self._worker = RankWorker(job, devices_of(gpus), spec.rank, spec.size)
            self._held = held.pop_all()
        if state is not None:
            self._worker.hold(state.open())
        self._down = None if down is None else down.open()
        self._up = None if up is None else up.open()
        self._meter, self._name = Meter(devices_of(gpus)), name

    def follow(self) -> None:
        """Do what the first rank does, until that is gone."""
        try:
            while True:
                self._do(*self._ranks.hear())
        except BaseException as error:
            self._ranks.broken(error)
        self._held.close()
        # The others find this rank gone, and wait for it no longer.
        ray.actor.exit_actor()

    def _do(self, what: str, *said: Any) -> None:
        match what:
            case "begin":
                self._begin(*said)
            case "handle":
                self._worker.handle(said[0])
            case "put":
                self._put()
                self._ranks.gathered(None)
            case "read":
                self._ranks.gathered(self._meter.read(self._name, 0.0))

    def _begin(self, round: int, weight: float) -> None:
        if self._down is not None:
            self._worker.begin(Broadcast(round, self._down, weight))
        else:
            own = self._ranks.take(self._worker.shard.layout.size, torch.float32, 0)
            self._worker.begin_with(own, Broadcast(round, {}, weight))

    def _put(self) -> None:
        if self._up is not None:
            self._worker.put(self._up)
        else:
            for _, part in sorted(self._worker.folded().items()):
                self._ranks.give(part.cpu(), 0)


def together(readings: list[Reading]) -> Reading:
    """Return the readings of all ranks as that of their worker.

    >>> together([Reading("a/0", 2.0, 1.5, 100, hardware="x86_64 AVX2"), Reading("a/0", 0.0, 1.0, 80)])
    Reading(worker='a/0', busy=2.0, cpu_seconds=2.5, rss=180, gpu_memory=0, gpu_use=None, joules={}, \
hardware='x86_64 AVX2, 2 ranks')
    """
    first, *others = readings
    found = first
    for other in others:
        sums = {name: getattr(found, name) + getattr(other, name) for name in ("cpu_seconds", "rss", "gpu_memory")}
        found = replace(found, joules={**found.joules, **other.joules}, **sums)
    uses = [reading.gpu_use for reading in readings if reading.gpu_use is not None]
    use = sum(uses) / len(uses) if uses else None
    return replace(found, gpu_use=use, hardware=f"{first.hardware}, {len(readings)} ranks")


def _use_interface(address: str) -> None:
    """Let ranks talk by the network interface of the address that Ray uses, and so by the one that was chosen for it.

    Left to itself gloo takes whatever the host name stands for, which may be this machine alone.
    """
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == address for one in addresses):
            for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
                os.environ.setdefault(variable, name)
