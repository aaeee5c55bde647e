"""Workers whose ranks are on several nodes, none of which has room for all: a pure function of what nodes have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedray.cluster.place.placement import Node, Size, room_for

Places = tuple[tuple[str, str], ...]
"""The id and the host name of the node of each rank of a worker."""


def spans(
    nodes: Sequence[Node],
    size: Size,
    ranks: int,
    here: str,
    *taken: Mapping[str, Mapping[str, float]],
) -> list[Places]:
    """Share out the ranks of workers over those nodes that have room for some, and not for all.

    Nodes are filled one after the other, that of the driver first, so that a worker is on as few as may be.  No
    two begin on the same node, as none has room for all ranks of the first.

    >>> nodes = [Node(name, name, {"CPU": 3.0}) for name in "abc"]
    >>> [[name for _, name in one] for one in spans(nodes, Size(4.0), 4, "b")]
    [['b', 'b', 'b', 'a'], ['a', 'a', 'c', 'c']]

    Args:
        nodes: the nodes there are, in a fixed order.
        size: the resources that a worker reserves, with all of its ranks.
        ranks: of a worker.
        here: id of the driver's node.
        taken: the resources that are reserved for others, by node id.
    """
    if ranks == 1:
        return []
    places = [
        (node.id, node.name)
        for node in sorted(nodes, key=lambda node: node.id != here)
        if room_for(size, node, *taken) < 1
        for _ in range(int(room_for(size.share(ranks), node, *taken)))
    ]
    return [tuple(places[ranks * number : ranks * (number + 1)]) for number in range(len(places) // ranks)]
