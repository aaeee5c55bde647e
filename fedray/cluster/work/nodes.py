"""The worker groups of all nodes: set up where there is room, also on nodes that join, and forgotten when lost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import ray

from fedray.cluster.place.placement import GroupSpec, Node
from fedray.cluster.place.slots import WorkerArgs, group_specs, wanted
from fedray.cluster.work.base import Group, GroupLost
from fedray.cluster.work.group import WorkerGroup
from fedray.cluster.work.remote import NodeUnfit, RemoteWorkerGroup
from fedray.core.errors import RunFailed, counted, listed
from fedray.run.interrupt import StoppedEarly
from fedray.run.worker import Item

_log = logging.getLogger(__name__)

_PATIENCE = 0.2
_WATCH = 2.0


class Starter(Protocol):
    """A starter of worker groups: Ray, or a test."""

    @property
    def here(self) -> str:
        """Id of the driver's node."""

    def alive(self) -> list[Node]:
        """Return the nodes of the cluster."""

    def own(self, spec: GroupSpec) -> WorkerGroup:
        """Start the group of the driver's node; RunFailed if it has no room for it."""

    def remote(self, spec: GroupSpec) -> RemoteWorkerGroup:
        """Start a group on another node."""


class Nodes:
    """The worker groups there are.

    Args:
        args: the placement of workers.
        starter: the one that starts them.
    """

    def __init__(self, args: WorkerArgs, starter: Starter) -> None:
        self._args, self._starter = args, starter
        self.own: list[WorkerGroup] = []
        self.others: list[RemoteWorkerGroup] = []
        self.round = 0
        self.seen: list[Node] = []
        self._known: set[str] = set()
        self._unfit: set[str] = set()
        self._last_lost = ""
        self._ended = threading.Event()
        self.settle(starter.alive())
        threading.Thread(target=self._watch, daemon=True).start()

    def settle(self, nodes: Sequence[Node] | None = None) -> list[Group]:
        """Set up groups on nodes that are new, or were those of a group that is lost; return these groups.

        Args:
            nodes: the nodes there are; default: those last seen.
        """
        there = self.seen if nodes is None else nodes
        if all(node.id in self._known for node in there):
            return []
        groups: list[Group] = [*self.own, *self.others]
        # A node has one group at most, as its workers are named after it.
        homes = self._unfit.union(group.spec.node for group in groups)
        new = [node for node in there if node.id not in self._known | homes]
        idle = [node for node in there if node.id in self._known - homes]
        specs = [group.spec for group in groups]
        self._known |= {node.id for node in there}
        for spec in group_specs(new, self._args, self._starter.here, idle, specs) if new else ():
            if spec.node == self._starter.here:
                self._set_up_own(spec)
            else:
                self.others.append(self._starter.remote(spec))
        return [group for group in [*self.own, *self.others] if group not in groups]

    def _set_up_own(self, spec: GroupSpec) -> None:
        """Set up the group of the driver's node; none, as on any other node, if others hold its room."""
        try:
            self.own.append(self._starter.own(spec))
        except StoppedEarly:
            raise
        except RunFailed as error:
            if len(self._starter.alive()) == len(spec.nodes) == 1:
                raise
            self._tell(spec, error)
            self._give_up(spec)

    def _give_up(self, spec: GroupSpec) -> None:
        """Try nodes no more that cannot hold a group, unless one of them has left: the others may be in another one."""
        here = {node.id for node in self._starter.alive()}
        if spec.nodes <= here:
            self._unfit |= spec.nodes
        else:
            self._known -= spec.nodes
            self.seen = []

    def _watch(self) -> None:
        while not self._ended.wait(_WATCH):
            try:
                self.seen = self._starter.alive()
            except Exception:
                continue  # if the connection is gone, the next call of anybody else will tell

    def ready(self) -> tuple[int, int]:
        """Return how many workers are up, and how many there are with those that still start."""
        groups: list[Group] = [*self.own, *self.others]
        return sum(group.up for group in groups), sum(len(group.ranks) for group in groups)

    def present(self) -> list[Group]:
        """Return the groups that can work now; those that are gone are forgotten."""
        here: list[Group] = [*self.own]
        for group in list(self.others):
            try:
                if group.look(0):
                    here.append(group)
            except GroupLost as error:
                self.forget(group, error)
        return here

    def forget(self, group: Group, error: GroupLost) -> None:
        """Do without a group that is lost."""
        groups: list[Any] = self.own if group in self.own else self.others
        if group not in groups:
            return
        self._tell(group.spec, error)
        groups.remove(group)
        if isinstance(error, NodeUnfit):
            self._give_up(group.spec)
        else:
            self._known -= group.spec.nodes
        # A node whose actor died and that is itself alive is settled again, when the watch has seen it after this.
        self.seen = []
        group.abandon()

    def _tell(self, spec: GroupSpec, error: Exception) -> None:
        # Its text, as a handler that keeps the error keeps all memory of the frames it passed.
        _log.warning("round %d: %s is lost (%s)", self.round, spec.where, str(error))
        self._last_lost = f"; last was lost: {spec.where.removeprefix('node ')} ({error})"

    def wait(
        self,
        items: Sequence[Item],
        stopping: Callable[[], bool],
        welcome: Callable[[Group], None] = lambda group: None,
    ) -> list[Group]:
        """Return the groups that can work: the first, those that items are pinned to, and as many as there must be.

        Args:
            items: the work.
            stopping: asked often; once true, nobody is waited for.
            welcome: is told of each group that is set up meanwhile.

        Raises:
            RunFailed: there are too few workers, and no more come.
        """
        patience = time.monotonic() + self._args.patience
        while True:
            groups = self.present()
            workers = sum(len(group.ranks) for group in groups)
            enough = bool(groups) and workers >= self._args.min_workers
            if stopping() or (enough and not self._coming(items, groups)):
                return groups
            # When all that are there have been tried in vain there is nothing to wait for.
            hopeless = bool(self.seen) and {node.id for node in self.seen} <= self._unfit
            if not enough and (hopeless or time.monotonic() > patience):
                raise RunFailed(f"round {self.round}: {self._too_few(groups, workers)}{self._last_lost}")
            for group in self.settle():
                welcome(group)
            if self.others and not groups:
                ray.wait([group.ready for group in self.others], timeout=_PATIENCE)
            else:
                self._ended.wait(_PATIENCE)

    def _too_few(self, groups: Sequence[Group], workers: int) -> str:
        if groups or self.others or self._unfit:
            least = self._args.min_workers
            left = f"only {counted(workers, 'worker')} left on {counted(len(groups), 'node')}"
            return f"{left}, cluster.min_workers is {least}; add nodes and resume"
        there = listed((f"{node.name} ({node.size})" for node in self._starter.alive()), none="")
        advice = "lower cluster.workers or what the worker section asks for"
        return f"no node has room for {wanted(self._args)}; there is {there}; {advice}"

    def _coming(self, items: Sequence[Item], groups: Sequence[Group]) -> bool:
        """Return True if items are pinned to where a group is still starting, and none can work."""
        pins = {pin for pin in {item.pin for item in items} if not any(group.capacity(pin) for group in groups)}
        return any(group.capacity(pin) for group in self.others if group not in groups for pin in pins)

    def why_nobody(self, pin: str | None) -> str:
        """Return why no worker does items of a pin."""
        groups: list[Group] = [*self.own, *self.others]
        for group in groups:
            if any(pin in slot.silos for slot in group.spec.slots):
                return f"its own worker could not start on node {group.spec.name}; see the log"
        silo = self._args.silos.get(pin or "")
        return f"no node with {silo.where if silo else pin} is there"

    def close(self) -> None:
        """End all groups; a second call does nothing."""
        self._ended.set()
        own, others, self.own, self.others = self.own, self.others, [], []
        for other in others:
            other.close()
        for group in own:
            group.close()
