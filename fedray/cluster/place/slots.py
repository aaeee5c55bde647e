"""The worker groups of a run: whose clients each worker of each node trains."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fedray.cluster.place.placement import GroupSpec, Node, Size, Slot, held_by_others, worker_counts
from fedray.cluster.place.spans import Places, spans
from fedray.config.sections import ClusterSection
from fedray.core.errors import counted, listed

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
class WorkerArgs(ClusterSection):
    """The placement of workers: the section ``cluster``, and what other sections say of it.

    Args:
        size: the resources that each worker reserves, with all of its ranks.
        silos: by name.
        driver: the resources that the driver reserves.
        block_timeout: seconds a work item may take; ``None``: for ever.
        ranks: the processes of each worker, which train a client together.
    """

    size: Size = field(default_factory=Size)
    silos: Mapping[str, Silo] = field(default_factory=dict)
    driver: Size = field(default_factory=lambda: Size(0.0))
    block_timeout: float | None = None
    ranks: int = 1


def wanted(args: WorkerArgs) -> str:
    """Return in words what each node should have room for."""
    if not isinstance(args.workers, int) or args.placement != "spread":
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
    most = args.workers * len(nodes) if isinstance(args.workers, int) else None
    # The clients of a silo are trained where their data are: by a worker of that node alone.
    if not args.silos and (spanning := spans(nodes, most, args.size, args.ranks, here, driver, held)):
        return _spanning(nodes, args, spanning)
    counts = worker_counts(nodes, args.workers, args.size, args.placement, taken, driver, held)
    specs = []
    for node in nodes:
        slots = [Slot(args.size, frozenset(pins[node.id]), args.ranks)] * counts.get(node.id, 0) + own[node.id]
        if slots:
            specs.append(GroupSpec(node.id, node.name, slots, args.patience, args.block_timeout))
        if node.id not in counts and (args.workers == "auto" or args.placement == "spread"):
            _log.warning("node %s (%s) has no room for %s, and gets none", node.name, node.size, wanted(args))
    return specs


def _spanning(nodes: Sequence[Node], args: WorkerArgs, spanning: Sequence[Places]) -> list[GroupSpec]:
    """Return the groups of workers that are on several nodes, each on the node of its first rank."""
    workers: dict[str, list[Slot]] = {node.id: [] for node in nodes}
    for places in spanning:
        counts = Counter(name for _, name in places)
        _log.info(
            "no node has room for all ranks of a worker (%s): %s",
            args.size,
            listed(f"{count} on {name}" for name, count in counts.items()),
        )
        workers[places[0][0]].append(Slot(args.size, ranks=args.ranks, places=places))
    return [
        GroupSpec(node.id, node.name, slots, args.patience, args.block_timeout)
        for node in nodes
        if (slots := workers[node.id])
    ]
