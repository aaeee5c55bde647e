"""The worker groups of a run: whose clients each worker of each node trains."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fedray.cluster.place.placement import (
    GroupSpec,
    Node,
    Size,
    Slot,
    held_by_others,
    place_of,
    reserved,
    worker_counts,
)
from fedray.cluster.place.spans import Places, spans
from fedray.config.sections import ClusterSection
from fedray.core.errors import counted, listed

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Silo:
    """The place where the clients of a silo are trained.

    Args:
        where: ``label=value`` or a custom resource of its node.
        size: of a worker of its own, with all of its ranks; ``None``: it uses the node's.
        ranks: the processes of that one.
    """

    where: str
    size: Size | None = None
    ranks: int = 1


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


def group_specs(
    nodes: Sequence[Node],
    args: WorkerArgs,
    here: str,
    others: Sequence[Node] = (),
    groups: Sequence[GroupSpec] = (),
) -> list[GroupSpec]:
    """Decide the worker groups of some nodes; a node without room for any worker gets none, which is told.

    Args:
        nodes: the nodes that may have groups.
        args: the placement of workers.
        here: id of the driver's node.
        others: further nodes, which may have ranks of a worker on several nodes.
        groups: the groups there are.
    """
    ours = reserved(groups)
    ours.setdefault(here, Counter()).update(args.driver.resources())
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
                own[node.id].append(Slot(silo.size, frozenset([name]), silo.ranks))
                taken[node.id].update(silo.size.resources())
    # The clients of a silo are trained where their data are: by a worker of that node alone.
    shared = sorted([*nodes, *others], key=place_of) if args.ranks > 1 and not args.silos else []
    held = held_by_others(shared or nodes, ours) if args.workers == "auto" else {}
    for node in nodes:
        if busy := held.get(node.id):
            _log.info("node %s (%s): others hold %s", node.name, node.size, Size.of(busy))
    specs = [_spanning(args, places) for places in spans(shared, args.size, args.ranks, here, ours, held)]
    used = frozenset[str]().union(*(spec.nodes for spec in specs))
    nodes = [node for node in nodes if node.id not in used]
    counts = worker_counts(nodes, args.workers, args.size, args.placement, taken, ours, held)
    for node in nodes:
        slots = [Slot(args.size, frozenset(pins[node.id]), args.ranks)] * counts.get(node.id, 0) + own[node.id]
        if slots:
            specs.append(GroupSpec(node.id, node.name, slots, args.patience, args.block_timeout))
        if node.id not in counts and (args.workers == "auto" or args.placement == "spread"):
            _log.warning("node %s (%s) has no room for %s, and gets none", node.name, node.size, wanted(args))
    return specs


def _spanning(args: WorkerArgs, places: Places) -> GroupSpec:
    """Return the group of a worker that is on several nodes, on the node of its first rank."""
    counts = Counter(name for _, name in places)
    _log.info(
        "no node of these has room for all ranks of a worker (%s): %s",
        args.size,
        listed(f"{count} on {name}" for name, count in counts.items()),
    )
    slot = Slot(args.size, ranks=args.ranks, places=places)
    return GroupSpec(*places[0], [slot], args.patience, args.block_timeout)
