"""The worker groups of a run: whose clients each worker of each node trains."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fedray.cluster.place.placement import GroupSpec, Node, Size, Slot, held_by_others, worker_counts
from fedray.core.errors import counted

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Silo:
    """The place where the clients of a silo are trained.

    Args:
        where: ``label=value`` or a custom resource of its node.
        size: of a worker of its own; ``None``: it uses the node's.
    """

    where: str
    size: Size | None = None


@dataclass(frozen=True)
class WorkerArgs:
    """The placement of workers.

    Args:
        workers: on each node, or ``auto``: as many as have room.
        size: the resources that each reserves, with all of its ranks.
        placement: ``spread`` over all nodes that have room, or ``pack`` on few.
        silos: by name.
        reduce: the way of vectors from node to node: ``object_store`` or ``collective``.
        driver: the resources that the driver reserves.
        min_workers: with fewer, the run gives up.
        start_timeout: seconds to wait for the first worker, and for each that is replaced.
        block_timeout: seconds a work item may take; ``None``: for ever.
        ranks: the processes of each worker, which train a client together.
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
    ranks: int = 1


def wanted(args: WorkerArgs) -> str:
    """Return in words what each node should have room for."""
    if args.workers == "auto" or args.placement != "spread":
        return f"a worker of {args.size}"
    return f"{counted(args.workers, 'worker')} of {args.size}"


def group_specs(nodes: Sequence[Node], args: WorkerArgs, here: str) -> list[GroupSpec]:
    """Decide the worker groups of some nodes; a node without room for any worker gets none, which is told.

    Args:
        nodes: the nodes that may have groups.
        args: the placement of workers.
        here: id of the driver's node.
    """
    driver = {here: args.driver.resources()}
    taken: dict[str, Counter[str]] = {node.id: Counter() for node in nodes}
    own: dict[str, list[Slot]] = {node.id: [] for node in nodes}
    pins: dict[str, set[str | None]] = {node.id: {None} for node in nodes}
    for name, silo in args.silos.items():
        for node in nodes:
            if not node.holds(silo.where):
                continue
            if silo.size is None:
                pins[node.id].add(name)
            elif silo.size.fits(node.resources):
                own[node.id].append(Slot(silo.size, frozenset([name])))
                taken[node.id].update(silo.size.resources())
    held = held_by_others(nodes, driver) if args.workers == "auto" else {}
    for node in nodes:
        if busy := held.get(node.id):
            _log.info("node %s (%s): others hold %s", node.name, node.size, Size.of(busy))
    counts = worker_counts(nodes, args.workers, args.size, args.placement, taken, driver, held)
    specs = []
    for node in nodes:
        slots = [Slot(args.size, frozenset(pins[node.id]), args.ranks)] * counts.get(node.id, 0) + own[node.id]
        if slots:
            specs.append(GroupSpec(node.id, node.name, slots, args.start_timeout, args.block_timeout))
        if node.id not in counts and (args.workers == "auto" or args.placement == "spread"):
            _log.warning("node %s (%s) has no room for %s, and gets none", node.name, node.size, wanted(args))
    return specs
