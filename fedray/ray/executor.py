"""Runs work items on Ray worker actors: pulled dynamically, retried when a worker dies, each counted once."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import ray
import torch
from ray.exceptions import RayError, RayTaskError
from torch import Tensor

from fedray.aggregators.base import Accumulator
from fedray.errors import RunFailed
from fedray.messages import Broadcast
from fedray.ray import memory
from fedray.ray.lines import CallLine, Door, Line, SocketLine, WorkerDied, wait
from fedray.ray.memory import Buffer, Tickets
from fedray.ray.worker import Announcement, Arrays, Channel, WorkerActor
from fedray.worker import Item, Job, Report

_log = logging.getLogger("fedray")

Transport = Literal["auto", "shared_memory", "object_store"]

ATTEMPTS = 3
"""How often in a round workers may die at unfinished work before the run gives up."""

_END = 1 << 62
_PATIENCE = 0.2
_LARGE = 1 << 22


@dataclass(frozen=True)
class WorkerArgs:
    """How workers are placed.

    Args:
        workers: how many actors.
        cpus: CPUs each reserves.
        gpus: GPUs each reserves; fractions share one.
        placement: ``pack`` on few nodes or ``spread`` over many.
        transport: how vectors travel: buffers of our own on one node, the object store between nodes; ``auto`` picks
            the buffers when all workers are on the driver's node.
        start_timeout: seconds to wait for all workers.
    """

    workers: int
    cpus: float = 1.0
    gpus: float = 0.0
    placement: Literal["pack", "spread"] = "pack"
    transport: Transport = "auto"
    start_timeout: float = 120.0


@dataclass
class _Member:
    """A worker and what it has done in the round."""

    slot: Buffer | None
    actor: Any = None
    ready: Any = None
    door: Door | None = None
    line: Line | None = None
    reports: dict[int, Report] = field(default_factory=dict)
    began: bool = False
    spawned: float = 0.0


class RayExecutor:
    """Executes on ``args.workers`` actors of a Ray cluster that is already connected.

    The workers start while the caller goes on, and take part as soon as they are up.
    """

    def __init__(self, job: Job, args: WorkerArgs) -> None:
        self._args = args
        self._job = job
        self._threads = torch.get_num_threads()
        self._aggregator = job.algorithm.aggregator
        self._widths = job.algorithm.widths(job.task.layout)
        self._shared = _shares_memory(args)
        self._down: Buffer | None = None
        self._arrays: Any = None
        self._start = Announcement(0, 0, 1.0)
        self._tickets: Tickets | None = None
        self._counter: Buffer | None = None
        self._job_ref = ray.put(job)
        if self._shared:
            self._down = Buffer(job.algorithm.broadcast_widths(job.task.layout), torch.float32)
            self._counter = Buffer({"next": 1}, torch.int64)
            self._tickets = Tickets(self._counter.handle.path)
        self._members = [_Member(self._slot()) for _ in range(args.workers)]
        for member in self._members:
            self._spawn(member)

    @property
    def workers(self) -> int:
        """How many worker actors took part in the last round."""
        return sum(member.began for member in self._members)

    def _slot(self) -> Buffer | None:
        return Buffer(self._widths, torch.float64) if self._shared and self._aggregator.linear else None

    def _spawn(self, member: _Member) -> None:
        args = self._args
        # A gathered accumulator has no slot, and is fetched by a call, which a worker at a socket could not answer.
        member.door = Door() if member.slot else None
        down, up, tickets = (buffer.handle if buffer else None for buffer in (self._down, member.slot, self._counter))
        channel = Channel(down, up, tickets, member.door)
        member.actor = (
            ray.remote(WorkerActor)
            .options(
                num_cpus=args.cpus,
                num_gpus=args.gpus,
                scheduling_strategy="SPREAD" if args.placement == "spread" else "DEFAULT",
                enable_task_events=False,
                max_restarts=0,
            )
            .remote(self._job_ref, channel, args.gpus > 0)
        )
        member.ready = member.actor.ready.remote()
        member.line, member.spawned = None, time.monotonic()

    def _connect(self, member: _Member) -> None:
        """Open the line to a worker that is up; a worker that died on the way is replaced."""
        try:
            ray.get(member.ready)
            if member.door:
                member.actor.serve.remote()
                member.line = SocketLine(member.door)
            else:
                member.line = CallLine(member.actor)
        except RayTaskError as error:
            raise RunFailed(f"a worker could not start: {error.cause}") from error
        except (RayError, WorkerDied) as error:
            self._replace(member, str(error))

    def _connected(self) -> list[tuple[_Member, Line]]:
        """The workers that can take work now; waits if there is none."""
        waiting = [member for member in self._members if member.line is None]
        if waiting:
            patience = None if len(waiting) == len(self._members) else 0
            up = ray.wait([m.ready for m in waiting], timeout=patience)[0]
            for member in waiting:
                if member.ready in up:
                    self._connect(member)
                elif time.monotonic() - member.spawned > self._args.start_timeout:
                    raise self._unplaced()
        return [(member, member.line) for member in self._members if member.line]

    def wait(self) -> None:
        """Return when a worker is up; the others join in the round after they are."""
        # Small vectors are added by one thread, as a second one costs more than it saves; large ones by every core,
        # while the workers wait.  What the driver does to vectors is elementwise, so the bits do not depend on it.
        torch.set_num_threads(1 if self._job.task.layout.size < _LARGE else os.cpu_count() or 1)
        ready = [member.ready for member in self._members]
        if not ray.wait(ready, timeout=self._args.start_timeout)[0]:
            raise self._unplaced()

    def _unplaced(self) -> RunFailed:
        wanted = f"{self._args.workers} workers of {self._args.cpus:g} CPUs and {self._args.gpus:g} GPUs"
        return RunFailed(
            f"{wanted} could not be started in {self._args.start_timeout:g} s; the cluster has "
            f"{_amounts(ray.cluster_resources())}, free are {_amounts(ray.available_resources())}"
        )

    def global_vector(self, size: int) -> Tensor:
        """The workers' own view of it, where they share memory."""
        return self._down.tensors["model"] if self._down else torch.zeros(size)

    def publish(self, down: Broadcast) -> None:
        """Put the broadcast where all workers read it: once, whatever their number."""
        self._start = Announcement(self._start.number + 1, down.round, down.weight)
        if self._down is not None:
            for name, target in self._down.tensors.items():
                if target.data_ptr() != down.parts[name].data_ptr():
                    target.copy_(down.parts[name])
        else:
            # Drop the old object first: its pages are then used again, ten times faster than new ones.
            self._arrays = None
            self._arrays = ray.put({name: part.cpu().numpy() for name, part in down.parts.items()})
        for member in self._members:
            member.reports, member.began = {}, False

    def run(self, items: Sequence[Item], stopping: Callable[[], bool]) -> list[Report] | None:
        """Let the workers do the items, longest first, each taking the next one when it is free.

        An item is done when a worker that is alive has reported it: what a worker folded dies with it, so what only a
        dead worker did is done again, by all.  Without shared memory the items are dealt out in advance.
        """
        for _ in range(ATTEMPTS):
            done = {position for member in self._members for position in member.reports}
            missing = [position for position in range(len(items)) if position not in done]
            if not missing:
                break
            if not self._work(items, missing, stopping):
                return None
        else:
            raise RunFailed(f"round {self._start.round}: workers died {ATTEMPTS} times at the same work; see the log")
        return [report for member in self._members for report in member.reports.values()]

    def _work(self, items: Sequence[Item], positions: list[int], stopping: Callable[[], bool]) -> bool:
        """One pass over some items; False if it was stopped."""
        if self._tickets:
            self._tickets.set(0)
        members = self._connected()
        shares = [positions] if self._tickets else [positions[n :: len(members)] for n in range(len(members))]
        # Pickled here, once for all workers: of many small arrays Ray would make as many buffers, for each of them.
        packed = [pickle.dumps([items[p] for p in share]) for share in shares]
        busy: dict[Line, tuple[_Member, list[int]]] = {}
        for (member, line), share, work in zip(members, itertools.cycle(shares), itertools.cycle(packed), strict=False):
            if share:
                member.began = True
                with self._replacing(member):
                    line.send(self._start, work, self._arrays)
                    busy[line] = (member, share)
        while busy:
            if stopping():
                if self._tickets:
                    self._tickets.set(_END)
                return False
            for line in wait(list(busy), _PATIENCE):
                member, share = busy.pop(line)
                with self._replacing(member):
                    reports: dict[int, Report] = pickle.loads(line.receive())
                    member.reports.update({share[position]: report for position, report in reports.items()})
        return True

    @contextlib.contextmanager
    def _replacing(self, member: _Member) -> Iterator[None]:
        try:
            yield
        except WorkerDied as error:
            self._replace(member, str(error))

    def _replace(self, member: _Member, reason: str) -> None:
        _log.warning("round %d: a worker died, and is replaced (%s)", self._start.round, reason)
        ray.kill(member.actor)
        member.reports, member.began = {}, False
        self._spawn(member)

    def collect(self) -> Accumulator:
        """Merge the accumulators of the workers that had work: O(P) for a linear aggregator."""
        began = [member for member in self._members if member.began]
        slots = [member.slot.tensors for member in began if member.slot]
        if not slots:
            folded: list[Arrays] = ray.get([member.actor.finish.remote() for member in began])
            slots = [{name: torch.from_numpy(array.copy()) for name, array in one.items()} for one in folded]
        total = slots[0]
        for other in slots[1:]:
            self._aggregator.merge(total, other)
        return total

    def close(self) -> None:
        """End the workers; a second call does nothing."""
        members, self._members = self._members, []
        torch.set_num_threads(self._threads)
        for member in members:
            if member.line:
                member.line.close()
            ray.kill(member.actor)
            if member.slot:
                member.slot.close()
        for buffer in (self._down, self._counter):
            if buffer:
                buffer.close()
        if self._tickets:
            self._tickets.close()
            self._tickets = None


def _shares_memory(args: WorkerArgs) -> bool:
    alive = [node for node in ray.nodes() if node["Alive"]]
    possible = memory.supported() and len(alive) == 1
    if args.transport == "shared_memory" and not possible:
        raise RunFailed("cluster.transport=shared_memory needs all workers on the driver's node, on Linux; use auto")
    return possible and args.transport != "object_store"


def _amounts(resources: dict[str, float]) -> str:
    return f"{resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs"
