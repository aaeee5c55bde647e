"""The workers of each node, decided by a pure function of what the nodes have."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import ray
from ray._private.state import available_resources_per_node
from rich.filesize import decimal

from fedray.core.errors import listed

_BECOMES_FREE, _LONGEST, _LOOK = 1.0, 20.0, 0.05
"""The seconds in which nothing became free after which nothing will; those to look in all; those between two looks."""


@dataclass(frozen=True)
class Size:
    """The resources that one worker reserves.

    Args:
        cpus: CPUs.
        gpus: GPUs; a fraction shares one.
        memory: bytes; 0 reserves none.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int = 0

    @classmethod
    def of(cls, resources: Mapping[str, float]) -> Size:
        """Return the size that holds these resources, in Ray's words."""
        return cls(resources.get("CPU", 0.0), resources.get("GPU", 0.0), int(resources.get("memory", 0.0)))

    def resources(self) -> dict[str, float]:
        """Return it in Ray's words."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus, "memory": float(self.memory)}
        return {name: amount for name, amount in wanted.items() if amount > 0}

    def share(self, ranks: int) -> Size:
        """Return what each of so many ranks has of it."""
        return Size(self.cpus / ranks, self.gpus / ranks, self.memory // ranks)

    def fits(self, room: Mapping[str, float]) -> float:
        """Return how many workers of this size have room in these resources, infinite for a size of nothing."""
        shares = [room.get(name, 0.0) / amount for name, amount in self.resources().items()]
        return math.floor(min(shares) + 1e-9) if shares else math.inf

    def __str__(self) -> str:
        memory = f" and {decimal(self.memory)}" if self.memory else ""
        return f"{self.cpus:g} CPUs and {self.gpus:g} GPUs{memory}"


@dataclass(frozen=True)
class Node:
    """A node of the cluster.

    Args:
        id: Ray's name of it.
        name: its host name.
        resources: all it has, in Ray's words.
        labels: its Ray labels.
    """

    id: str
    name: str
    resources: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> Size:
        """Its CPUs and GPUs."""
        return replace(Size.of(self.resources), memory=0)

    def holds(self, pin: str) -> bool:
        """Return whether it is where ``pin`` says: ``label=value``, or the name of a custom resource.

        >>> Node("1", "a", {"scanner": 1.0}, {"site": "north"}).holds("site=north")
        True
        """
        label, equals, value = pin.partition("=")
        return self.labels.get(label) == value if equals else self.resources.get(pin, 0.0) > 0


@dataclass(frozen=True)
class Slot:
    """The place of one worker.

    Args:
        size: the resources that it reserves, with all of its ranks.
        silos: the silos of its clients; ``None``: it trains any that are not pinned to a silo.
        ranks: the processes that it has.
        places: the id and the host name of the node of each, where some are on another one than the group; the first
            never is.
    """

    size: Size
    silos: frozenset[str | None] = frozenset([None])
    ranks: int = 1
    places: tuple[tuple[str, str], ...] = ()

    def nodes(self, home: str) -> list[str]:
        """Return the id of the node of each rank, given that of the group's node."""
        return [node for node, _ in self.places] or [home] * self.ranks

    @property
    def is_silos_own(self) -> bool:
        """True for a silo's own worker, which the rest of the node can do without."""
        return None not in self.silos


@dataclass(frozen=True)
class GroupSpec:
    """The workers of a node.

    Args:
        node: Ray's id of the node.
        name: its host name.
        slots: of its workers, by rank; the silos of two of them are the same, or have none in common.
        start_timeout: seconds to wait for a worker to come up.
        block_timeout: seconds a work item may take before its worker is replaced; ``None``: for ever.
    """

    node: str
    name: str
    slots: Sequence[Slot]
    start_timeout: float = 120.0
    block_timeout: float | None = None

    @property
    def nodes(self) -> frozenset[str]:
        """Ids of the nodes that its workers are on."""
        return frozenset([self.node]).union(node for slot in self.slots for node, _ in slot.places)

    @property
    def where(self) -> str:
        """Its place in words."""
        names = {self.node: self.name} | {node: name for slot in self.slots for node, name in slot.places}
        return f"node {self.name}" if len(names) == 1 else f"the worker on {listed(names.values())}"

    def pins(self, ranks: Collection[int]) -> frozenset[str | None]:
        """Return the pins of the items that these of its workers do."""
        return frozenset().union(*(self.slots[rank].silos for rank in ranks))

    def capacity(self, pin: str | None, ranks: Collection[int]) -> int:
        """Return how many of these workers do items of a pin."""
        return sum(pin in self.slots[rank].silos for rank in ranks)


def reserved(groups: Iterable[GroupSpec]) -> dict[str, Counter[str]]:
    """Return what the workers of some groups reserve, by node id, in Ray's words.

    >>> reserved([GroupSpec("1", "a", [Slot(Size(3.0), ranks=3, places=(("1", "a"), ("1", "a"), ("2", "b")))])])
    {'1': Counter({'CPU': 2.0}), '2': Counter({'CPU': 1.0})}
    """
    found: dict[str, Counter[str]] = {}
    for group in groups:
        for slot in group.slots:
            for node in slot.nodes(group.node):
                found.setdefault(node, Counter()).update(slot.size.share(slot.ranks).resources())
    return found


def alive() -> list[Node]:
    """Return the nodes of the connected cluster, in a fixed order."""
    found = [
        Node(node["NodeID"], node["NodeManagerHostname"], node["Resources"], node["Labels"])
        for node in ray.nodes()
        if node["Alive"]
    ]
    return sorted(found, key=place_of)


def place_of(node: Node) -> tuple[str, str]:
    """Return what nodes are ordered by."""
    return node.name, node.id


def held_by_others(nodes: Sequence[Node], own: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Return what actors and tasks that are not ours hold, by node id, in Ray's words.

    What becomes free now, as the run before it in the same Ray has just ended, is waited for; where others come and go
    all the time, for ``_LONGEST`` seconds at most.

    Args:
        nodes: the nodes to look at.
        own: the resources that we hold ourselves, by node id.
    """
    before: dict[str, dict[str, float]] = {}
    begun = last_change = time.monotonic()
    while True:  # as Ray tells nobody that something has become free
        free = available_resources_per_node()
        found = {
            node.id: _held(node.resources, free.get(node.id, node.resources), own.get(node.id, {})) for node in nodes
        }
        now = time.monotonic()
        if found != before:
            before, last_change = found, now
        if not any(found.values()) or now > min(last_change + _BECOMES_FREE, begun + _LONGEST):
            return found
        time.sleep(_LOOK)


def _held(all: Mapping[str, float], free: Mapping[str, float], own: Mapping[str, float]) -> dict[str, float]:
    held = {name: all.get(name, 0.0) - free.get(name, 0.0) - own.get(name, 0.0) for name in ("CPU", "GPU", "memory")}
    return {name: amount for name, amount in held.items() if amount > 1e-6}


def worker_counts(
    nodes: Sequence[Node],
    workers: int | str,
    size: Size,
    placement: Literal["pack", "spread"],
    silos: Mapping[str, Mapping[str, float]],
    driver: Mapping[str, Mapping[str, float]],
    held: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, int]:
    """Decide how many workers each node gets, by node id; nodes without any are left out.

    Args:
        nodes: the nodes that may have workers.
        workers: on each node, or ``auto``: as many as have room.
        size: of one worker.
        placement: ``spread``: that many on every node that has room for them; ``pack``: as many in all as that on
            every node were, on as few nodes as have room.
        silos: the resources that their own workers reserve, by node id.
        driver: the resources that it reserves, by node id.
        held: the resources that others hold, see :func:`held_by_others`; ``auto`` leaves it to them.
    """
    room = {node.id: room_for(size, node, silos, driver) for node in nodes}
    if not isinstance(workers, int):
        left = {node.id: room_for(size, node, silos, driver, held or {}) for node in nodes}
        counts = {id: 1 if math.isinf(most) else int(most) for id, most in left.items()}
        # One worker of a machine with a single CPU shares it with the driver, who waits while it works; and where
        # others hold everything, one on each node waits for its turn.
        if not any(counts.values()):
            counts = {node.id: int(min(room_for(size, node, silos), 1)) for node in nodes}
    elif placement == "spread":
        counts = {id: workers for id, most in room.items() if most >= workers}
    else:
        counts, left_over = {}, workers * len(nodes)
        for id, most in sorted(room.items(), key=lambda entry: -entry[1]):
            counts[id] = int(min(most, left_over))
            left_over -= counts[id]
        if left_over:  # more than there is room for: let the reservation say what is wanted and what there is
            counts[nodes[0].id] += left_over
    return {id: count for id, count in counts.items() if count}


def room_for(size: Size, node: Node, *taken: Mapping[str, Mapping[str, float]]) -> float:
    """Return how many workers of a size have room on a node, infinite for a size of nothing.

    >>> room_for(Size(2.0), Node("1", "a", {"CPU": 7.0}), {"1": {"CPU": 2.0}})
    2

    Args:
        size: of one.
        node: the node.
        taken: the resources that are reserved for others, by node id.
    """
    left = {
        name: amount - sum(one.get(node.id, {}).get(name, 0.0) for one in taken)
        for name, amount in node.resources.items()
    }
    return max(0.0, size.fits(left))
