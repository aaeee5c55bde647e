"""A node that has left is named; a group on one node asks nobody, and nobody is asked all the time."""

from __future__ import annotations

import pytest

from fedray.cluster.place import presence
from fedray.cluster.place.placement import GroupSpec, Node, Size, Slot
from fedray.cluster.place.presence import Presence

A, B, C = (("a", "na"), ("b", "nb"), ("c", "nc"))
SPEC = GroupSpec("a", "na", [Slot(Size(4.0), ranks=4, places=(A, A, B, C))])


class Cluster:
    """The nodes there are; each look at them is counted."""

    def __init__(self, *ids: str) -> None:
        self.ids, self.looks = ids, 0

    def alive(self) -> list[Node]:
        self.looks += 1
        return [Node(id, f"n{id}") for id in self.ids]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """All three, looked at whenever somebody asks."""
    found = Cluster("a", "b", "c")
    monkeypatch.setattr(presence, "alive", found.alive)
    monkeypatch.setattr(presence, "_LOOK", 0.0)
    return found


def test_nodes_with_ranks_that_left_are_named(cluster: Cluster) -> None:
    here = Presence(SPEC)
    assert here.gone() is None
    cluster.ids = ("a", "b")
    assert here.gone() == "node nc left the cluster"
    cluster.ids = ()
    assert here.gone() == "node nb, node nc left the cluster", "its own node is where it asks"


def test_a_group_of_one_node_asks_nobody_and_others_do_not_ask_at_once_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Presence(GroupSpec("x", "nx", [Slot(Size(2.0), ranks=2)])).gone() is None
    assert cluster.looks == 0
    monkeypatch.setattr(presence, "_LOOK", 1e9)
    here = Presence(SPEC)
    cluster.ids = ("a",)
    assert here.gone() is not None
    assert here.gone() is None
    assert cluster.looks == 1


def test_a_cluster_that_does_not_answer_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent() -> list[Node]:
        raise ConnectionError

    monkeypatch.setattr(presence, "alive", silent)
    assert Presence(SPEC).gone() is None
