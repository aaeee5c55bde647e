"""Workers whose ranks are on several nodes, as none has room for all of them: a pure function of what nodes have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fedray.cluster.place.placement import Node, Size

Places = tuple[tuple[str, str], ...]
"""The id and the host name of the node of each rank of a worker."""


def spans(
    nodes: Sequence[Node],
    workers: int | None,
    size: Size,
    ranks: int,
    here: str,
    *taken: Mapping[str, Mapping[str, float]],
) -> list[Places]:
    """Share out the ranks of workers over nodes, each of which has room for some; none where one node has room for all.

    Nodes are filled one after the other, that of the driver first, so that a worker is on as few as may be.

    >>> nodes = [Node(name, name, {"CPU": 3.0}) for name in "abc"]
    >>> [[name for _, name in one] for one in spans(nodes, None, Size(4.0), 4, "b")]
    [['b', 'b', 'b', 'a'], ['a', 'a', 'c', 'c']]

    Args:
        nodes: the nodes there are, in a fixed order.
        workers: the most of them; None: as many as have room.
        size: the resources that a worker reserves, with all of its ranks.
        ranks: of a worker.
        here: id of the driver's node.
        taken: the resources that are reserved for others, by node id.
    """
    left = {node.id: _left(node, taken) for node in nodes}
    if ranks == 1 or any(size.fits(room) >= 1 for room in left.values()):
        return []
    places: list[tuple[str, str]] = []
    for node in sorted(nodes, key=lambda node: node.id != here):
        room = size.share(ranks).fits(left[node.id])
        places += [(node.id, node.name)] * (0 if math.isinf(room) else int(room))
    full = len(places) // ranks
    count = full if workers is None else min(workers, full)
    return [tuple(places[ranks * number : ranks * (number + 1)]) for number in range(count)]


def _left(node: Node, taken: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, float]:
    """Return what of a node's resources is left."""
    return {
        name: max(0.0, amount - sum(one.get(node.id, {}).get(name, 0.0) for one in taken))
        for name, amount in node.resources.items()
    }
