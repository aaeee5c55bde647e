"""How many workers sit where."""

from __future__ import annotations

import math
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.cluster.place import placement
from fedray.cluster.place.placement import Node, Size, held_by_others
from fedray.cluster.place.placement import worker_counts as counts_of

Taken = dict[str, dict[str, float]]

sizes = st.builds(
    Size, st.sampled_from([0.5, 1.0, 2.0, 4.0]), st.sampled_from([0.0, 0.25, 1.0]), st.sampled_from([0, 1 << 30])
)
amounts = st.fixed_dictionaries({"CPU": st.integers(0, 16), "GPU": st.integers(0, 4), "memory": st.just(64 << 30)}).map(
    lambda found: {name: float(amount) for name, amount in found.items()}
)
clusters = st.lists(amounts, min_size=1, max_size=5).map(
    lambda found: [Node(str(index), f"node{index}", resources) for index, resources in enumerate(found)]
)


def used(size: Size, count: int) -> dict[str, float]:
    return {name: amount * count for name, amount in size.resources().items()}


def fits(size: Size, count: int, node: Node) -> bool:
    return all(node.resources.get(name, 0.0) >= amount - 1e-6 for name, amount in used(size, count).items())


@given(clusters, sizes)
def test_auto_fills_every_node(nodes: list[Node], size: Size) -> None:
    counts = counts_of(nodes, "auto", size, "spread", {}, {})
    for node in nodes:
        count = counts.get(node.id, 0)
        assert fits(size, count, node)
        assert not fits(size, count + 1, node)


@given(clusters, sizes, st.integers(1, 6))
def test_spread_is_the_same_wherever_there_is_room(nodes: list[Node], size: Size, workers: int) -> None:
    room = [node.id for node in nodes if fits(size, workers, node)]
    assert counts_of(nodes, workers, size, "spread", {}, {}) == dict.fromkeys(room, workers)


@given(clusters, sizes, st.integers(1, 6))
def test_pack_is_as_many_on_the_fewest_nodes(nodes: list[Node], size: Size, workers: int) -> None:
    wanted = workers * len(nodes)
    counts = counts_of(nodes, workers, size, "pack", {}, {})
    assert sum(counts.values()) == wanted
    room = sorted((int(size.fits(node.resources)) for node in nodes), reverse=True)
    if sum(room) < wanted:
        return  # the reservation will say so
    assert all(fits(size, counts.get(node.id, 0), node) for node in nodes)
    fewest = next(number for number in range(len(nodes) + 1) if sum(room[:number]) >= wanted)
    assert len(counts) == fewest


@pytest.mark.parametrize(
    "taken", [({"a": {"CPU": 3.0}}, {}), ({}, {"a": {"CPU": 3.0}}), ({"a": {"CPU": 2.0}}, {"a": {"CPU": 1.0}})]
)
def test_what_is_taken_is_not_given_again(taken: tuple[Taken, Taken]) -> None:
    nodes = [Node("a", "a", {"CPU": 4.0}), Node("b", "b", {"CPU": 4.0})]
    assert counts_of(nodes, "auto", Size(), "spread", *taken) == {"a": 1, "b": 4}
    assert counts_of(nodes, 2, Size(), "pack", *taken) == {"b": 4}
    assert counts_of(nodes, 2, Size(), "spread", *taken) == {"b": 2}


def test_a_single_cpu_is_shared_with_the_driver() -> None:
    laptop = [Node("a", "a", {"CPU": 1.0})]
    assert counts_of(laptop, "auto", Size(), "spread", {}, {"a": {"CPU": 1.0}}) == {"a": 1}
    assert counts_of(laptop, "auto", Size(), "spread", {"a": {"CPU": 1.0}}, {}) == {}, "a silo's worker does not wait"
    assert counts_of([Node("a", "a", {})], "auto", Size(), "spread", {}, {}) == {}


@pytest.mark.parametrize(
    ("pin", "there"), [("site=north", True), ("site=south", False), ("scanner", True), ("microscope", False)]
)
def test_a_node_is_named_by_a_label_or_a_resource(pin: str, there: bool) -> None:
    assert Node("1", "a", {"scanner": 1.0}, {"site": "north"}).holds(pin) == there


def test_a_size_of_nothing_fits_without_end() -> None:
    assert Size(0.0).fits({}) == math.inf
    assert Size(0.1).fits({"CPU": 0.3}) == 3


@given(clusters, sizes, st.data())
def test_auto_leaves_to_others_what_they_hold(nodes: list[Node], size: Size, data: st.DataObject) -> None:
    held = {node.id: {"CPU": float(data.draw(st.integers(0, 16)))} for node in nodes}
    held = {node.id: {"CPU": min(held[node.id]["CPU"], node.resources["CPU"])} for node in nodes}
    counts = counts_of(nodes, "auto", size, "spread", {}, {}, held)
    left = [
        Node(node.id, node.name, {**node.resources, "CPU": node.resources["CPU"] - held[node.id]["CPU"]})
        for node in nodes
    ]
    free = counts_of(left, "auto", size, "spread", {}, {})
    assert counts == (free or {node.id: 1 for node in nodes if fits(size, 1, node)})


def test_where_others_hold_everything_one_worker_waits_for_its_turn() -> None:
    nodes = [Node("a", "a", {"CPU": 4.0}), Node("b", "b", {"CPU": 4.0})]
    assert counts_of(nodes, "auto", Size(), "spread", {}, {}, {"a": {"CPU": 3.0}, "b": {"CPU": 4.0}}) == {"a": 1}
    assert counts_of(nodes, "auto", Size(), "spread", {}, {}, {"a": {"CPU": 4.0}, "b": {"CPU": 4.0}}) == {
        "a": 1,
        "b": 1,
    }


def test_what_a_run_before_lets_go_of_is_waited_for_and_what_others_keep_is_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = [Node("a", "a", {"CPU": 8.0, "GPU": 2.0}), Node("b", "b", {"CPU": 8.0})]
    looks = iter([{"a": {"CPU": 1.0}, "b": {"CPU": 8.0}}, {"a": {"CPU": 4.0, "GPU": 2.0}, "b": {"CPU": 8.0}}])
    seen: list[dict[str, dict[str, float]]] = []

    def free() -> dict[str, dict[str, float]]:
        seen.append(next(looks, seen[-1] if seen else {}))
        return seen[-1]

    monkeypatch.setattr(placement, "available_resources_per_node", free)
    monkeypatch.setattr(placement, "_BECOMES_FREE", 0.0)
    assert held_by_others(nodes, {"a": {"CPU": 1.0}}) == {"a": {"CPU": 3.0}, "b": {}}
    seen.clear()
    looks = iter([{"a": {"CPU": 7.0, "GPU": 2.0}, "b": {"CPU": 8.0}}])
    assert held_by_others(nodes, {"a": {"CPU": 1.0}}) == {"a": {}, "b": {}}
    assert len(seen) == 1, "a Ray of one's own is not waited for"


def test_others_who_come_and_go_all_the_time_are_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = ({"a": {"CPU": float(number % 3)}} for number in count())
    monkeypatch.setattr(placement, "available_resources_per_node", lambda: next(looks))
    monkeypatch.setattr(placement, "_LONGEST", 0.0)
    assert held_by_others([Node("a", "a", {"CPU": 8.0})], {})["a"]["CPU"] >= 6.0
