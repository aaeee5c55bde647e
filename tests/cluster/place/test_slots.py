"""Whose clients each worker of each node trains: every silo's, with no more than the node has."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.cluster.place import placement
from fedray.cluster.place.placement import Node, Size
from fedray.cluster.place.slots import Silo, WorkerArgs, group_specs, wanted

SITES = ("a", "b")
nodes_ = st.lists(st.tuples(st.integers(0, 6), st.sampled_from(SITES)), min_size=1, max_size=4).map(
    lambda found: [Node(str(i), f"n{i}", {"CPU": float(cpus)}, {"site": site}) for i, (cpus, site) in enumerate(found)]
)
silos_ = st.dictionaries(st.sampled_from("xyz"), st.tuples(st.sampled_from(SITES), st.none() | st.integers(1, 3)))


@given(nodes_, silos_, st.integers(1, 3) | st.just("auto"))
def test_a_silos_clients_are_trained_on_each_of_its_nodes_and_nowhere_else(
    nodes: list[Node], silos: dict[str, tuple[str, int | None]], workers: int | Literal["auto"]
) -> None:
    placed = {
        name: Silo(f"site={site}", None if cpus is None else Size(float(cpus))) for name, (site, cpus) in silos.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placement, "available_resources_per_node", dict)
        specs = {spec.node: spec for spec in group_specs(nodes, WorkerArgs(workers=workers, silos=placed), here="0")}
    for node in nodes:
        slots = specs[node.id].slots if node.id in specs else []
        shared = [slot for slot in slots if not slot.is_silos_own]
        for name, silo in placed.items():
            there = [slot for slot in slots if name in slot.silos]
            if not node.holds(silo.where):
                assert not there
            elif silo.size is None:
                assert there == shared, "all workers of the node train it"
            else:
                assert [slot.size for slot in there] == [silo.size] * (silo.size.fits(node.resources) >= 1)
        own = sum((Counter(slot.size.resources()) for slot in slots if slot.is_silos_own), Counter[str]())
        if shared and own["CPU"] <= node.resources["CPU"]:
            assert own["CPU"] + len(shared) <= node.resources["CPU"]
        if workers != "auto":
            assert len(shared) in (0, workers)


def test_a_node_without_room_gets_none_and_that_is_told(caplog: pytest.LogCaptureFixture) -> None:
    nodes = [Node("0", "big", {"CPU": 4.0}), Node("1", "small", {"CPU": 1.0})]
    (spec,) = group_specs(nodes, WorkerArgs(workers=2), here="0")
    assert (spec.name, len(spec.slots)) == ("big", 2)
    assert caplog.messages == [
        "node small (1 CPUs and 0 GPUs) has no room for 2 workers of 1 CPUs and 0 GPUs, and gets none"
    ]


def test_a_silos_own_worker_has_its_ranks_beside_the_nodes_of_one_process() -> None:
    nodes = [Node("0", "n0", {"CPU": 4.0, "scanner": 1.0})]
    args = WorkerArgs(workers=1, silos={"a": Silo("scanner", Size(2.0), 2), "b": Silo("scanner")})
    (spec,) = group_specs(nodes, args, here="0")
    assert [(slot.size.cpus, slot.ranks, slot.silos) for slot in spec.slots] == [(1.0, 1, {None, "b"}), (2.0, 2, {"a"})]


def test_packed_workers_are_wanted_one_by_one() -> None:
    assert wanted(WorkerArgs(workers=3, size=Size(2.0))) == "3 workers of 2 CPUs and 0 GPUs"
    assert wanted(WorkerArgs(workers=3, placement="pack")) == wanted(WorkerArgs()) == "a worker of 1 CPUs and 0 GPUs"


def test_the_driver_has_its_part_of_its_own_node_alone() -> None:
    nodes = [Node("0", "a", {"CPU": 2.0}), Node("1", "b", {"CPU": 2.0})]
    assert [spec.name for spec in group_specs(nodes, WorkerArgs(workers=2, driver=Size(1.0)), here="0")] == ["b"]
