"""Workers whose ranks are on several nodes, as none has room for all of them: a pure function of what nodes have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedray.cluster.place.placement import Node, Size, room_for

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
    if ranks == 1 or any(room_for(size, node, *taken) >= 1 for node in nodes):
        return []
    places = [
        (node.id, node.name)
        for node in sorted(nodes, key=lambda node: node.id != here)
        for _ in range(int(room_for(size.share(ranks), node, *taken)))
    ]
    full = len(places) // ranks
    count = full if workers is None else min(workers, full)
    return [tuple(places[ranks * number : ranks * (number + 1)]) for number in range(count)]
