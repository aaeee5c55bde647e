"""The engine over Ray: a round is published to the worker groups of all nodes, scheduled on them, and folded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
import torch
from torch import Tensor

from fedray.aggregators.base import Accumulator
from fedray.aggregators.stored import StoredRows
from fedray.cluster.place.placement import GroupSpec, Node, alive
from fedray.cluster.place.reservation import Reservation
from fedray.cluster.place.slots import WorkerArgs
from fedray.cluster.work.base import Group, GroupLost
from fedray.cluster.work.columns import NodeShare
from fedray.cluster.work.group import WorkerGroup
from fedray.cluster.work.ledger import Ledger
from fedray.cluster.work.node import worker_group
from fedray.cluster.work.nodes import Nodes
from fedray.cluster.work.payload import Payload
from fedray.cluster.work.remote import NodeShelf, RemoteWorkerGroup
from fedray.cluster.work.scheduler import Scheduler
from fedray.cluster.work.transport import Collective, ObjectStore
from fedray.cluster.work.worker import RoundHeader
from fedray.core.cpus import usable_cpus
from fedray.core.messages import Block, Broadcast
from fedray.run.evaluation import HoldoutChunk
from fedray.run.failure_policy import give_up, unseen
from fedray.run.profiling import Tracer
from fedray.run.usage import Usage
from fedray.run.worker import Item, Job, Report, without_room
from fedray.rundir.held_rows import HeldRows

_LARGE = 1 << 22


class RayExecutor:
    """The executor on the Ray cluster that this process is connected to.

    The worker groups start while the caller goes on, and take part as soon as they have a worker; nodes that join
    later get a group before the next round.

    Args:
        job: the workers' part of the run.
        args: their placement.
        stopping: asked often while this node's room for workers is waited for; once true, the start ends by
            ``StoppedEarly``.
    """

    def __init__(self, job: Job, args: WorkerArgs, stopping: Callable[[], bool] = lambda: False) -> None:
        self._args, self._job = args, job
        self._threads = torch.get_num_threads()
        self._tracer = Tracer(job.profile, "driver")
        self._header = RoundHeader(0, 0, 1.0)
        aggregator, widths = job.algorithm.aggregator, job.algorithm.widths(job.task.layout)
        self._widths = widths
        self._ledger: Ledger[Any] = Ledger({})
        self._transport = (
            Collective(aggregator, widths, args.driver.gpus)
            if args.reduce == "collective"
            else ObjectStore(aggregator, widths)
        )
        self._parts: Mapping[str, Tensor] = {}
        self._fetched: Accumulator = {}
        self._lost = self._network = 0
        self._scheduler = Scheduler(GroupLost)
        self._held: HeldRows | None = None
        self.nodes = Nodes(args, _RayStarter(job, args, stopping, self._filed))

    def wait(self, stopping: Callable[[], bool] = lambda: False) -> None:
        """Return when a worker is up, or ``stopping`` says so; the others join in the round after they are."""
        # Small vectors are added by one thread, as a second one costs more than it saves; large ones by every core,
        # while the workers wait.  What the driver does to vectors is elementwise, so the bits do not depend on it.
        torch.set_num_threads(1 if self._job.task.layout.size < _LARGE else usable_cpus().count)
        for group in self.nodes.own[:1]:
            try:
                group.wait(stopping)
            except GroupLost as error:
                self.nodes.forget(group, error)
        if not self.nodes.own:
            self.nodes.wait([], stopping)

    def global_vector(self, size: int) -> Tensor:
        """Return memory on the driver's GPU if it has one, else the own workers' view of it, if there are any."""
        if self._args.driver.gpus:
            return torch.zeros(size, device="cuda")
        return self.nodes.own[0].down.tensors["model"] if self.nodes.own else torch.zeros(size)

    def hold(self) -> HeldRows | None:
        """Return memory that this process shares with the workers of its node, if there are any: it outlives them."""
        state = self.nodes.own[0].state if self.nodes.own else None
        self._held = None if state is None else HeldRows(state.memory)
        return self._held

    def _filed(self, item: Item) -> Item:
        """Return an item whose rows of client state another node can read."""
        if self._held is None or not isinstance(item, Block | HoldoutChunk):
            return item
        return replace(item, state=self._held.filed(item.state))

    def publish(self, down: Broadcast) -> None:
        """Make the broadcast known: in this node's shared memory, and once to each other node."""
        self._tracer.enter(down.round)
        self.nodes.round = down.round
        self.nodes.settle()
        self._header = RoundHeader(self._header.number + 1, down.round, down.weight)
        self._fetched, self._lost = {}, 0
        for group in self.nodes.own:
            group.begin(self._header, down.parts)
        self._parts = down.parts
        self._network = self._transport.publish(self._header, down.parts, self.nodes.others, down.moved)

    def _welcome(self, group: Group) -> None:
        """Make the broadcast of the round, if one has begun, known to one more group."""
        if isinstance(group, RemoteWorkerGroup):
            self._transport.welcome(group)
        elif self._parts:
            assert isinstance(group, WorkerGroup)
            group.begin(self._header, self._parts)

    def run(self, items: Sequence[Item], stopping: Callable[[], bool]) -> list[Report] | None:
        """Let the groups do the items, longest first, each taking more when it is done.

        An item is done when its report is here and what was folded is in the memory of a group that is alive, or here.
        """
        if (
            self.nodes.others
        ):  # what one node writes to memory is to be written to a file for the next one that reads it
            items = [without_room(item) for item in items]
        ledger = self._ledger = Ledger[Any](dict(enumerate(items)))
        blocks = any(isinstance(item, Block) for item in items)

        def drop(group: Any, error: Exception) -> None:
            assert isinstance(error, GroupLost)
            self.nodes.forget(group, error)

        def fetch(ledger: Ledger[Any]) -> None:
            def lose(group: RemoteWorkerGroup, error: GroupLost) -> None:
                ledger.lose(group)
                drop(group, error)

            if blocks:
                self._network += self._transport.fetch(ledger, list(self.nodes.others), self._fetched, lose)

        done = self._scheduler.run(
            ledger,
            lambda: self.nodes.wait(items, stopping, self._welcome),
            self._nobody,
            fetch,
            drop,
            stopping,
        )
        if self._held is not None and any(group.retries for group in self.nodes.own):
            self._held.burn()
        if not done:
            return None
        self._lost += ledger.lost
        return ledger.reports()

    def _nobody(self, item: Item) -> Report:
        reason = self.nodes.why_nobody(item.pin)
        match item:
            case Block():
                return give_up(self._job, item, "worker", reason)
            case HoldoutChunk():
                return unseen(self._job, item, self._header.round - 1, reason)
        raise AssertionError("any group may evaluate on the test set")

    def collect(self) -> Mapping[str, Tensor]:
        """Return what all groups have folded: merged, O(P), or the rows where they lie."""
        totals = [total for group in self.nodes.own if (total := group.collect())]
        if not self._job.algorithm.aggregator.linear:
            others = [group for group in self.nodes.others if self._ledger.has_unkept(group)]
            shelves = [NodeShelf(group, self.nodes.forget) for group in others]
            own = [shelf for total in totals if isinstance(total, StoredRows) for shelf in total.shelves]
            # Those of one node open each other's files; where rows lie on several, this process reads them all.
            share = NodeShare(self.nodes.own[0], len(self._ledger.items)) if own and not shelves else None
            return StoredRows([*own, *shelves], self._widths, share)
        totals += [self._fetched] if self._fetched else []
        first, *more = map(dict, totals)
        for other in more:
            self._job.algorithm.aggregator.merge(first, other)
        return first

    @property
    def workers(self) -> int:
        """The number of workers that took part in the last round."""
        return len(self.usage().readings)

    def usage(self) -> Usage:
        """Return what the last round took."""
        groups: list[Group] = [*self.nodes.own, *self.nodes.others]
        return Usage(
            readings=tuple(reading for group in groups for reading in group.readings()),
            nodes=len({node for group in groups if group.readings() for node in group.spec.nodes}),
            gpus=sum(slot.size.gpus for group in groups for slot in group.spec.slots) + self._args.driver.gpus,
            retries=self._lost + sum(group.retries for group in groups),
            network=self._network + sum(group.network for group in self.nodes.others),
        )

    def close(self) -> None:
        """End the workers; a second call does nothing."""
        self._tracer.close()
        torch.set_num_threads(self._threads)
        self.nodes.close()
        self._scheduler.close()
        self._ledger = Ledger({})  # it knows who did what, and would keep their memory
        self._held, self._parts = None, {}


class _RayStarter:
    """The starter of worker groups on the nodes of the connected cluster."""

    def __init__(self, job: Job, args: WorkerArgs, stopping: Callable[[], bool], filed: Callable[[Item], Item]) -> None:
        self._job, self._pinned, self._stopping, self._filed = job, args.driver.gpus > 0, stopping, filed
        self.here: str = ray.get_runtime_context().get_node_id()
        self._payload: Any = None

    def alive(self) -> list[Node]:
        return alive()

    def own(self, spec: GroupSpec) -> WorkerGroup:
        return worker_group(self._job, spec, Reservation.of(spec), self._pinned, self._stopping, holds=True)

    def remote(self, spec: GroupSpec) -> RemoteWorkerGroup:
        if self._payload is None:
            self._payload = ray.put(Payload.of(self._job))
        return RemoteWorkerGroup(self._payload, spec, self._filed)
