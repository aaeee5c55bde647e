"""Runs a round's work items on the teams of all nodes: dealt out as they ask, retried when one is lost, each counted
once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import ray
import torch
from torch import Tensor

from fedray.aggregators.base import Accumulator
from fedray.cluster.place.placement import Node, Post, Seat, Size, alive, held_by_others, reserve, seats
from fedray.cluster.work.deal import Deal
from fedray.cluster.work.exchange import Collective, ObjectStore
from fedray.cluster.work.node import NodeUnfit, Parcel, RemoteTeam, TeamLost
from fedray.cluster.work.team import Team
from fedray.cluster.work.worker import Announcement
from fedray.core.cpus import usable_cpus
from fedray.core.errors import RunFailed, listed
from fedray.core.messages import Block, Broadcast
from fedray.run.failure_policy import give_up, unseen
from fedray.run.usage import Usage
from fedray.run.worker import HoldoutChunk, Item, Job, Report, TestChunk

_log = logging.getLogger("fedray")

_LARGE = 1 << 22
_PATIENCE = 0.2
_WATCH = 2.0


@dataclass(frozen=True)
class Silo:
    """Where the clients of a silo are trained.

    Args:
        where: ``label=value`` or a custom resource of its node.
        size: of a worker of its own; ``None``: it uses the node's.
    """

    where: str
    size: Size | None = None


@dataclass(frozen=True)
class WorkerArgs:
    """How workers are placed.

    Args:
        workers: on each node, or ``auto``: as many as have room.
        size: what each reserves.
        placement: ``spread`` over all nodes that have room, or ``pack`` on few.
        silos: by name.
        reduce: how vectors cross from node to node: ``object_store`` or ``collective``.
        driver: what the driver reserves.
        min_workers: with fewer, the run gives up.
        start_timeout: seconds to wait for the first worker, and for each that is replaced.
        block_timeout: seconds a work item may take; ``None``: for ever.
    """

    workers: int | Literal["auto"] = "auto"
    size: Size = field(default_factory=Size)
    placement: Literal["pack", "spread"] = "spread"
    silos: Mapping[str, Silo] = field(default_factory=dict)
    reduce: Literal["object_store", "collective"] = "object_store"
    driver: Size = field(default_factory=lambda: Size(0.0))
    min_workers: int = 1
    start_timeout: float = 120.0
    block_timeout: float | None = None


class RayExecutor:
    """Executes on a Ray cluster that this process is connected to.

    The teams start while the caller goes on, and take part as soon as they have a worker; nodes that join later get
    a team before the next round.
    """

    def __init__(self, job: Job, args: WorkerArgs) -> None:
        self._args, self._job = args, job
        self._threads = torch.get_num_threads()
        self._aggregator = job.algorithm.aggregator
        self._here = ray.get_runtime_context().get_node_id()
        self._own: list[Team] = []
        self._others: list[RemoteTeam] = []
        self._parcel: Any = None
        self._known: set[str] = set()
        self._unfit: set[str] = set()
        self._start = Announcement(0, 0, 1.0)
        widths = job.algorithm.widths(job.task.layout)
        self._exchange = (
            Collective(self._aggregator, widths, args.driver.gpus)
            if args.reduce == "collective"
            else ObjectStore(self._aggregator, widths)
        )
        self._banked: Accumulator = {}
        self._lost = self._network = 0
        self._last_lost = ""
        self._pool = ThreadPoolExecutor(thread_name_prefix="fedray-team")
        self._ended = threading.Event()
        self._settle(alive())
        self._watch = threading.Thread(target=self._look_for_nodes, daemon=True)
        self._nodes: list[Node] = []
        self._watch.start()

    # Teams

    def _settle(self, nodes: Sequence[Node]) -> list[RemoteTeam]:
        """Set up teams on nodes that are new; returns those on other nodes."""
        before = len(self._others)
        new = [node for node in nodes if node.id not in self._known]
        for post in self._posts(new):
            if post.node == self._here:
                self._own += self._team_here(post)
            else:
                if self._parcel is None:
                    self._parcel = ray.put(Parcel.of(self._job))
                self._others.append(RemoteTeam(self._parcel, post))
        self._known |= {node.id for node in new}
        return self._others[before:]

    def _team_here(self, post: Post) -> list[Team]:
        """The team of the driver's node; none, as on any other node, if others hold its room."""
        try:
            return [Team(self._job, post, reserve(post.node, post.sizes), pinned=self._args.driver.gpus > 0)]
        except RunFailed as error:
            if len(alive()) == 1:
                raise
            self._unfit.add(post.node)
            self._tell(post, error)
            return []

    def _posts(self, nodes: Sequence[Node]) -> list[Post]:
        args = self._args
        driver = {self._here: args.driver.resources()}
        taken: dict[str, Counter[str]] = {node.id: Counter() for node in nodes}
        own: dict[str, list[Seat]] = {node.id: [] for node in nodes}
        pins: dict[str, set[str | None]] = {node.id: {None} for node in nodes}
        for name, silo in args.silos.items():
            for node in nodes:
                if not node.holds(silo.where):
                    continue
                if silo.size is None:
                    pins[node.id].add(name)
                elif silo.size.fits(node.resources):
                    own[node.id].append(Seat(silo.size, frozenset([name])))
                    taken[node.id].update(silo.size.resources())
        held = held_by_others(nodes, driver) if nodes and args.workers == "auto" else {}
        for node in nodes:
            if busy := held.get(node.id):
                _log.info("node %s (%s): others hold %s", node.name, node.size, Size.of(busy))
        counts = seats(nodes, args.workers, args.size, args.placement, taken, driver, held) if nodes else {}
        posts = []
        for node in nodes:
            everybody = [Seat(args.size, frozenset(pins[node.id]))] * counts.get(node.id, 0) + own[node.id]
            if everybody:
                posts.append(Post(node.id, node.name, everybody, args.start_timeout, args.block_timeout))
            if node.id not in counts and (args.workers == "auto" or args.placement == "spread"):
                _log.warning("node %s (%s) has no room for %s, and gets none", node.name, node.size, self._wanted())
        return posts

    def _look_for_nodes(self) -> None:
        while not self._ended.wait(_WATCH):
            try:
                self._nodes = alive()
            except Exception:
                continue  # if the connection is gone, the next call of anybody else will tell

    def _present(self) -> list[Team | RemoteTeam]:
        """The teams that can work now; those that are gone are forgotten."""
        here: list[Team | RemoteTeam] = [*self._own]
        for team in list(self._others):
            try:
                if team.look(0):
                    here.append(team)
            except TeamLost as error:
                self._forget(team, error)
        return here

    def _forget(self, team: RemoteTeam, error: TeamLost) -> None:
        if team not in self._others:
            return
        self._tell(team.post, error)
        self._others.remove(team)
        if isinstance(error, NodeUnfit):
            self._unfit.add(team.post.node)
        else:
            self._known.discard(team.post.node)
        # A node whose actor died and that is itself alive is settled again, when the watch has seen it after this.
        self._nodes = []
        team.abandon()

    def _tell(self, post: Post, error: Exception) -> None:
        # Its text, as a handler that keeps the error keeps all memory of the frames it passed.
        _log.warning("round %d: node %s is lost (%s)", self._start.round, post.name, str(error))
        self._last_lost = f"; last was lost: {post.name} ({error})"

    def wait(self) -> None:
        """Return when a worker is up; the others join in the round after they are."""
        # Small vectors are added by one thread, as a second one costs more than it saves; large ones by every core,
        # while the workers wait.  What the driver does to vectors is elementwise, so the bits do not depend on it.
        torch.set_num_threads(1 if self._job.task.layout.size < _LARGE else usable_cpus().count)
        if self._own:
            self._own[0].wait()
        else:
            self._await_team([], lambda: False)

    def _await_team(self, items: Sequence[Item], stopping: Callable[[], bool]) -> list[Team | RemoteTeam]:
        """The teams that can work, waiting for the first, for those of silos with items, and for as many workers as
        there must be.
        """
        patience = time.monotonic() + self._args.start_timeout
        while True:
            teams = self._present()
            workers = sum(len(team.post.seats) for team in teams)
            enough = bool(teams) and workers >= self._args.min_workers
            if stopping() or (enough and not self._coming(items, teams)):
                return teams
            # When all that are there have been tried in vain there is nothing to wait for.
            hopeless = bool(self._nodes) and {node.id for node in self._nodes} <= self._unfit
            if not enough and (hopeless or time.monotonic() > patience):
                raise RunFailed(f"round {self._start.round}: {self._too_few(teams, workers)}{self._last_lost}")
            for team in self._settle(self._nodes):
                self._exchange.welcome(team)
            if self._others and not teams:
                ray.wait([team.ready for team in self._others], timeout=_PATIENCE)
            else:
                self._ended.wait(_PATIENCE)

    def _too_few(self, teams: Sequence[Team | RemoteTeam], workers: int) -> str:
        if teams or self._others or self._unfit:
            least = self._args.min_workers
            left = f"{workers} workers are left on {len(teams)} nodes, cluster.min_workers is {least}"
            return f"{left}; add nodes and resume"
        there = listed((f"{node.name} ({node.size})" for node in alive()), none="")
        advice = "lower cluster.workers or what the worker section asks for"
        return f"no node has room for {self._wanted()}; there is {there}; {advice}"

    def _wanted(self) -> str:
        args = self._args
        spread = args.workers != "auto" and args.placement == "spread"
        return f"{args.workers} workers of {args.size}" if spread else f"a worker of {args.size}"

    def _coming(self, items: Sequence[Item], teams: Sequence[Team | RemoteTeam]) -> bool:
        """Whether items are pinned to where a team is still starting, and none can work."""
        pins = {item.pin for item in items if not any(team.takers(item.pin) for team in teams)}
        return any(team.takers(pin) for team in self._others for pin in pins)

    # A round

    def global_vector(self, size: int) -> Tensor:
        """On the driver's GPU if it has one, else the own workers' view of it, if there are any."""
        if self._args.driver.gpus:
            return torch.zeros(size, device="cuda")
        return self._own[0].down.tensors["model"] if self._own else torch.zeros(size)

    def publish(self, down: Broadcast) -> None:
        """Make the broadcast known: in this node's shared memory, and once to each other node."""
        self._settle(self._nodes)
        self._start = Announcement(self._start.number + 1, down.round, down.weight)
        self._banked, self._lost = {}, 0
        for team in self._own:
            team.begin(self._start, down.parts)
        self._network = self._exchange.publish(self._start, down.parts, self._others)

    def run(self, items: Sequence[Item], stopping: Callable[[], bool]) -> list[Report] | None:
        """Let the teams do the items, longest first, each taking more when it is done.

        An item is done when its report is here and what was folded is in the memory of a team that is alive, or here.
        """
        deal = Deal(items)
        while not deal.complete:
            teams = self._await_team(items, stopping)
            if stopping() or not self._work(deal, teams, stopping):
                return None
            if any(isinstance(item, Block) for item in items):
                self._network += self._exchange.fetch(
                    deal, list(self._others), self._banked, lambda team, error: self._drop(deal, team, error)
                )
        self._lost += deal.lost
        return deal.reports()

    def _work(self, deal: Deal, teams: Sequence[Team | RemoteTeam], stopping: Callable[[], bool]) -> bool:
        """All teams work until nothing is left to hand out; False if it was stopped."""
        for position, item in deal.open(teams).items():
            assert not isinstance(item, TestChunk), "any team may do it"
            deal.accept(None, {position: self._nobody(item)})
        broken = threading.Event()

        def halt() -> bool:
            return broken.is_set() or stopping()

        # The first team of this node is served by this thread, without a detour through another.
        first, *others = sorted(teams, key=lambda team: isinstance(team, RemoteTeam))
        futures = [self._pool.submit(self._serve, deal, team, halt, broken) for team in others]
        try:
            self._serve(deal, first, halt, broken)
        finally:
            results = [future.exception() for future in futures]
        for error in results:
            if error is not None:
                raise error
        return not stopping() or deal.complete

    def _serve(self, deal: Deal, team: Team | RemoteTeam, halt: Callable[[], bool], broken: threading.Event) -> None:
        try:
            while not halt() and (share := deal.take(team)):
                reports = team.work(share, halt)
                if reports is None:
                    return
                deal.accept(team, reports)
        except TeamLost as error:
            self._drop(deal, team, error)
        except BaseException:
            broken.set()
            raise

    def _drop(self, deal: Deal, team: Any, error: TeamLost) -> None:
        deal.lose(team)
        self._forget(team, error)

    def _nobody(self, item: Block | HoldoutChunk) -> Report:
        silo = self._args.silos.get(item.pin or "")
        reason = f"no node with {silo.where if silo else item.pin} is there"
        match item:
            case Block():
                return give_up(self._job, item, "worker", reason)
            case HoldoutChunk():
                return unseen(self._job, item, self._start.round - 1, reason)

    def collect(self) -> Accumulator:
        """What all teams have folded, merged: O(P) for a linear aggregator."""
        totals = [total for team in self._own if (total := team.collect())]
        totals += [self._banked] if self._banked else []
        first, *others = totals
        for other in others:
            self._aggregator.merge(first, other)
        return first

    # What it took

    @property
    def workers(self) -> int:
        """How many workers took part in the last round."""
        return len(self.usage().readings)

    def usage(self) -> Usage:
        """What the last round took."""
        teams: list[Team | RemoteTeam] = [*self._own, *self._others]
        readings = [reading for team in teams for reading in team.readings()]
        return Usage(
            readings=tuple(readings),
            nodes=len({team.post.node for team in teams if team.readings()}),
            gpus=sum(size.gpus for team in teams for size in team.post.sizes) + self._args.driver.gpus,
            retries=self._lost + sum(team.retries for team in teams),
            network=self._network + sum(team.network for team in self._others),
        )

    def close(self) -> None:
        """End the workers; a second call does nothing."""
        self._ended.set()
        own, others, self._own, self._others = self._own, self._others, [], []
        torch.set_num_threads(self._threads)
        for other in others:
            other.close()
        for team in own:
            team.close()
        self._pool.shutdown(wait=False)
