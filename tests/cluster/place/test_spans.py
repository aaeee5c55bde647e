"""Workers on several nodes: all of their ranks have room, and none is on a node that has room for all of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.cluster.place import placement
from fedray.cluster.place.placement import GroupSpec, Node, Size, Slot
from fedray.cluster.place.slots import Silo, WorkerArgs, group_specs
from fedray.cluster.place.spans import spans

cpus_ = st.lists(st.integers(0, 6), min_size=1, max_size=4)


def nodes_of(cpus: list[int]) -> list[Node]:
    return [Node(str(i), f"n{i}", {"CPU": float(count)}) for i, count in enumerate(cpus)]


@given(cpus_, st.integers(2, 5), st.integers(0, 2))
def test_each_rank_has_room_and_as_many_workers_as_have_some(cpus: list[int], ranks: int, driver: int) -> None:
    left = [max(0, count - (driver if i == 0 else 0)) for i, count in enumerate(cpus)]
    left = [count if count < ranks else 0 for count in left]
    found = spans(nodes_of(cpus), Size(float(ranks)), ranks, "0", {"0": {"CPU": float(driver)}})
    assert len(found) == sum(left) // ranks
    assert len({places[0] for places in found}) == len(found), "each begins on a node of its own"
    on = Counter(int(node) for places in found for node, _ in places)
    assert all(on[node] <= left[node] for node in on)
    assert all(len(places) == ranks and all(name == f"n{node}" for node, name in places) for places in found)
    for places in found:  # a node comes once
        assert sum(one != other for one, other in pairwise(places)) == len({*places}) - 1


def test_no_worker_of_one_process_is_on_several_nodes() -> None:
    assert spans(nodes_of([1, 1]), Size(2.0), 1, "0") == []


@pytest.mark.parametrize("workers", [1, "auto"])
def test_a_group_is_on_the_node_of_the_first_rank_and_that_of_the_driver_comes_first(
    workers: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "available_resources_per_node", dict)
    with caplog.at_level("INFO"):
        (spec,) = group_specs(nodes_of([1, 2]), WorkerArgs(workers=workers, size=Size(3.0), ranks=3), here="1")
    assert (spec.node, spec.name) == ("1", "n1")
    assert spec.nodes == {"0", "1"}
    (slot,) = spec.slots
    assert (slot.ranks, slot.places) == (3, (("1", "n1"), ("1", "n1"), ("0", "n0")))
    assert caplog.messages == [
        "no node of these has room for all ranks of a worker (3 CPUs and 0 GPUs): 2 on n1, 1 on n0"
    ]


def test_where_there_is_no_room_for_all_ranks_together_none_is_begun(caplog: pytest.LogCaptureFixture) -> None:
    assert group_specs(nodes_of([1, 1]), WorkerArgs(workers=1, size=Size(3.0), ranks=3), here="0") == []
    assert "has no room for 1 worker of 3 CPUs" in caplog.text


def test_nodes_without_room_for_all_ranks_have_a_worker_together_beside_one_that_has_room() -> None:
    found = group_specs(nodes_of([4, 2, 1, 1]), WorkerArgs(workers=1, size=Size(3.0), ranks=3), here="0")
    assert {spec.node: sorted(spec.nodes) for spec in found} == {"0": ["0"], "1": ["1", "2"]}


@pytest.mark.parametrize("workers", [1, "auto"])
def test_what_our_workers_hold_of_a_node_is_no_room_and_they_are_no_others(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = {"0": {"CPU": 0.0}, "1": {"CPU": 1.0}, "2": {"CPU": 2.0}}
    monkeypatch.setattr(placement, "available_resources_per_node", lambda: free)
    first, second, third = nodes_of([2, 2, 2])
    slot = Slot(Size(3.0), ranks=3, places=(("0", "n0"), ("0", "n0"), ("1", "n1")))
    there, args = [GroupSpec("0", "n0", [slot])], WorkerArgs(workers=workers, size=Size(3.0), ranks=3)
    (new,) = group_specs([third], args, "0", [second], there)
    assert new.slots[0].places == (("1", "n1"), ("2", "n2"), ("2", "n2"))
    assert group_specs([third], args, "0", [first], there) == []


def test_the_clients_of_a_silo_have_a_worker_of_its_node_or_none(caplog: pytest.LogCaptureFixture) -> None:
    """Their data are there alone."""
    nodes = [Node("0", "n0", {"CPU": 1.0, "scanner": 1.0}), Node("1", "n1", {"CPU": 2.0})]
    args = WorkerArgs(workers=1, size=Size(3.0), ranks=3)
    assert len(group_specs(nodes, args, here="1")) == 1
    assert group_specs(nodes, replace(args, silos={"north": Silo("scanner")}), here="1") == []
    assert "node n0 (1 CPUs and 0 GPUs) has no room for 1 worker of 3 CPUs" in caplog.text
