"""Real worker processes that go from one run to the next, as a process takes seconds to start and a small run less."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fedray.cluster.place.placement import GroupSpec, Node
from fedray.cluster.place.slots import WorkerArgs
from fedray.cluster.work import executor
from fedray.cluster.work.connections import Connection, Endpoint, WorkerDied
from fedray.cluster.work.executor import RayExecutor
from fedray.cluster.work.group import WorkerGroup
from fedray.cluster.work.memory import Handle
from fedray.cluster.work.spawn import Worker
from fedray.cluster.work.worker import Channel, WorkerActor
from fedray.run.worker import Job
from tests.faults.nodes import DEADLINE

WORKERS = 2


class Host:
    """An actor whose process is a worker of one run after the other."""

    def begin(self, job: Job, channel: Channel, name: str) -> None:
        """Become a worker of a run."""
        self._worker = WorkerActor(job, channel, name, 0)

    def serve(self) -> None:
        """Work until the run hangs up."""
        self._worker.serve()
        del self._worker


@dataclass
class Hosts:
    """The processes on a node that are in no run: as many as a run has, and one for the first that dies.

    Args:
        node: Ray's name of it.
    """

    node: str
    free: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        for _ in range(WORKERS + 1):
            self.add()

    def add(self) -> None:
        """Start one."""
        place = NodeAffinitySchedulingStrategy(self.node, soft=False)
        options = {"num_cpus": 0, "max_restarts": 0, "scheduling_strategy": place}
        self.free.append(ray.remote(Host).options(**options).remote())

    def close(self) -> None:
        """End them all."""
        for host in self.free:
            ray.kill(host)

    def executor(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[Job], RayExecutor]:
        """Return the maker of an executor over workers in these processes."""

        def make(job: Job) -> RayExecutor:
            monkeypatch.setattr(executor, "_RayStarter", partial(_Starter, self))
            return RayExecutor(job, WorkerArgs(workers=WORKERS))

        return make


class _Starter:
    """One node, this one."""

    here = "0"

    def __init__(self, hosts: Hosts, job: Job, *_: object) -> None:
        self._hosts, self._job = hosts, job

    def alive(self) -> list[Node]:
        return [Node("0", "n", {"CPU": float(WORKERS)})]

    def own(self, spec: GroupSpec) -> WorkerGroup:
        return WorkerGroup(self._job, spec, partial(_Spawner, self._hosts, self._job), holds=True)


@dataclass
class _Process:
    host: Any
    endpoint: Endpoint
    last: Any
    """What the process was last asked to do."""


class _Spawner:
    """Lets processes become workers of a run, and takes back those that are alive after it."""

    def __init__(self, hosts: Hosts, job: Job, tickets: Handle, down: Handle) -> None:
        self._hosts, self._job, self._tickets, self._down = hosts, ray.put(job), tickets, down
        self._processes: dict[int, _Process] = {}

    def start(self, worker: Worker) -> None:
        endpoint, host = Endpoint(), self._hosts.free.pop(0)
        up, state = worker.accumulator.handle, worker.state
        channel = Channel(endpoint, self._tickets, worker.rank, worker.queue, self._down, up, state=state)
        begun = host.begin.remote(self._job, channel, f"n/{worker.rank}")
        self._processes[worker.rank] = _Process(host, endpoint, begun)

    def up(self, workers: Sequence[Worker], seconds: float) -> list[Worker]:
        """All of them: nobody works before everybody can."""
        begun = [self._processes[worker.rank].last for worker in workers]
        assert not ray.wait(begun, num_returns=len(begun), timeout=DEADLINE)[1]
        return list(workers)

    def connect(self, worker: Worker) -> Connection:
        process = self._processes[worker.rank]
        try:
            ray.get(process.last)
        except RayActorError as error:
            raise WorkerDied(str(error).splitlines()[0]) from error
        process.last = process.host.serve.remote()
        return Connection(process.endpoint)

    def check(self) -> None:
        pass

    def kill(self, worker: Worker) -> None:
        """Take its process back, or start one in its place: it has hung up, or is dead."""
        process = self._processes.pop(worker.rank)
        try:
            ray.get(process.last, timeout=DEADLINE)
            self._hosts.free.append(process.host)
        except RayActorError:
            self._hosts.add()

    def close(self) -> None:
        pass
