"""Worker processes of a node: started as Ray actors in what was reserved for them, reached, and ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from fedray.cluster.place.placement import GroupSpec, Slot
from fedray.cluster.place.presence import Presence
from fedray.cluster.place.reservation import Reservation
from fedray.cluster.work.base import GroupLost
from fedray.cluster.work.collective import RankSpec, Rendezvous
from fedray.cluster.work.connections import Connection, Endpoint, WorkerDied
from fedray.cluster.work.memory import Buffer, Handle
from fedray.cluster.work.payload import Payload
from fedray.cluster.work.ranks import FollowingRank
from fedray.cluster.work.rows import RowFile
from fedray.cluster.work.state import StateHandle
from fedray.cluster.work.worker import Channel, WorkerActor
from fedray.run.usage import Reading
from fedray.run.worker import Job

_PATIENCE = 5.0


@dataclass(eq=False)
class Worker:
    """A worker process, as its group sees it.

    Args:
        rank: its number in the group, and of its slot.
        queue: number of the ticket queue that it takes from.
        accumulator: memory of what it folds: a sum, or rows.
        state: memory of rows of client state; None: all of them are in files.
        connection: to its process; ``None`` before that is up.
        failed_starts: the times in a row that its process died before it was reached.
        shared: positions of the items whose tickets it takes now.
        reading: its own reading of this round.
    """

    rank: int
    queue: int
    accumulator: Buffer | RowFile
    state: StateHandle | None = None
    connection: Connection | None = None
    failed_starts: int = 0
    shared: list[int] = field(default_factory=list)
    reading: Reading | None = None


class CannotStart(Exception):
    """The error of a worker process that does not come up, however often it is started."""


class Spawner(Protocol):
    """A starter of worker processes, which also ends them: Ray, or a test."""

    def start(self, worker: Worker) -> None:
        """Start a process for a worker, which has none."""

    def up(self, workers: Sequence[Worker], seconds: float) -> list[Worker]:
        """Return those of ``workers`` that came up, died or are late, waiting so long for the first to come up."""

    def connect(self, worker: Worker) -> Connection | None:
        """Reach a process that :meth:`up` named; None if it is to be asked for again.

        Raises:
            WorkerDied: it is gone; another one may do better.
            CannotStart: another one would not.
        """

    def check(self) -> None:
        """Raise GroupLost if a node has left on which ranks of the workers are."""

    def kill(self, worker: Worker) -> None:
        """End a worker's process, if it has one."""

    def close(self) -> None:
        """Give back what was reserved."""


@dataclass
class _Process:
    """A process of a worker.

    Args:
        actor: the process, or the first of its ranks.
        ready: answered once it is up.
        endpoint: the address at which it listens.
        started: the seconds of the monotonic clock at its start.
        others: further ranks.
        ends: of those on other nodes, answered once they are about to end.
    """

    actor: Any
    ready: Any
    endpoint: Endpoint
    started: float
    others: Sequence[Any]
    ends: Sequence[Any]


class RaySpawner:
    """The starter of a node's workers as actors.

    Args:
        job: the workers' part of the run.
        spec: of their group.
        reservation: their place.
        tickets: memory of their ticket queues.
        down: memory of the broadcast.
    """

    def __init__(self, job: Job, spec: GroupSpec, reservation: Reservation, tickets: Handle, down: Handle) -> None:
        self._given, self._job, self._payload = job, ray.put(job), None
        self._spec, self._reservation = spec, reservation
        self._tickets, self._down = tickets, down
        self._processes: dict[int, _Process] = {}
        self._meeting: Rendezvous | None = None
        self._presence = Presence(spec)

    def start(self, worker: Worker) -> None:
        """See :class:`Spawner`."""
        slot, endpoint, name = self._spec.slots[worker.rank], Endpoint(), f"{self._spec.name}/{worker.rank}"
        up, ranks, others, ends = worker.accumulator.handle, self._ranks(slot), [], []
        first = ranks[0] if ranks else None
        channel = Channel(endpoint, self._tickets, worker.rank, worker.queue, self._down, up, first, worker.state)
        gpus = slot.size.share(slot.ranks).gpus
        actor = self._actor(WorkerActor, worker.rank, 0).remote(self._job, channel, name, gpus)
        for rank in ranks[1:]:
            starter, is_away = self._actor(FollowingRank, worker.rank, rank.rank), rank.rank in rank.away
            if is_away:
                others.append(starter.remote(self._far(), rank, None, None, name, gpus))
            else:
                others.append(starter.remote(self._job, rank, self._down, up, name, gpus, worker.state))
            end = others[-1].follow.remote()
            ends += [end] if is_away else []
        ready = actor.ready.remote()
        self._processes[worker.rank] = _Process(actor, ready, endpoint, time.monotonic(), others, ends)

    def _ranks(self, slot: Slot) -> Sequence[RankSpec]:
        """Return the ranks of a new process of a worker; none where it has no process but one."""
        if slot.ranks == 1:
            return ()
        self._meeting = self._meeting or Rendezvous()
        ranks = self._meeting.ranks(["cuda" if slot.size.gpus else "cpu"] * slot.ranks)
        away = tuple(rank for rank, (node, _) in enumerate(slot.places) if node != self._spec.node)
        names = [name for _, name in slot.places] or [""] * slot.ranks
        return [replace(rank, node=name, away=away) for rank, name in zip(ranks, names, strict=True)]

    def _far(self) -> Any:
        """Return the job with its data, for ranks on other nodes."""
        if self._payload is None:
            self._payload = ray.put(Payload.of(self._given))
        return self._payload

    def _actor(self, kind: type, number: int, rank: int) -> Any:
        """Return what starts the actor of a rank of a worker."""
        slot, (group, bundle) = self._spec.slots[number], self._reservation.bundles[number]
        size = slot.size.share(slot.ranks)
        return ray.remote(kind).options(
            num_cpus=size.cpus,
            num_gpus=size.gpus,
            memory=size.memory or None,
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, bundle + rank),
            enable_task_events=False,
            max_restarts=0,
        )

    def up(self, workers: Sequence[Worker], seconds: float) -> list[Worker]:
        """See :class:`Spawner`."""
        refs = [self._processes[worker.rank].ready for worker in workers]
        ray.wait(refs, timeout=seconds)
        # All that are up: one that is not among them may be late.
        found = ray.wait(refs, num_returns=len(refs), timeout=0)[0]
        return [worker for worker, ref in zip(workers, refs, strict=True) if ref in found or self._late(worker)]

    def _late(self, worker: Worker) -> bool:
        return time.monotonic() - self._processes[worker.rank].started > self._spec.start_timeout

    def connect(self, worker: Worker) -> Connection | None:
        """See :class:`Spawner`."""
        process = self._processes[worker.rank]
        try:
            if not ray.wait([process.ready], timeout=0)[0]:
                size = self._spec.slots[worker.rank].size
                raise CannotStart(f"one of {size} did not come up in {self._spec.start_timeout:g} s")
            ray.get(process.ready)
            process.actor.serve.remote()
            return Connection(process.endpoint)
        except ActorUnavailableError:
            process.ready = process.actor.ready.remote()
            return None
        except RayError as error:
            if isinstance(error, ActorDiedError) and error.actor_init_failed:
                raise CannotStart(raised(error)) from error
            raise WorkerDied(str(error).splitlines()[0]) from error

    def check(self) -> None:
        """See :class:`Spawner`."""
        if gone := self._presence.gone():
            raise GroupLost(gone)

    def kill(self, worker: Worker) -> None:
        """See :class:`Spawner`."""
        if process := self._processes.pop(worker.rank, None):
            ray.kill(process.actor)
            if process.ends:
                # They find that one gone, and take away what was brought to their nodes.
                ray.wait(process.ends, num_returns=len(process.ends), timeout=_PATIENCE)
            for actor in process.others:
                ray.kill(actor)

    def close(self) -> None:
        """See :class:`Spawner`."""
        self._reservation.close()


def raised(error: RayError) -> str:
    """Return what an actor raised while it was made: Ray has it as the last line of the traceback in its message."""
    return str(error).strip().splitlines()[-1].removeprefix("fedray.core.errors.RunFailed: ")
