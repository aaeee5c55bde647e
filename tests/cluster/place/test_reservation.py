"""What workers reserve: together, but for the silos' own; told when it is not granted, and given back."""

from __future__ import annotations

import os
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from fedray.cluster.place import presence, reservation
from fedray.cluster.place.placement import GroupSpec, Node, Size, Slot
from fedray.cluster.place.reservation import Reservation, own_gpus, release
from fedray.core.errors import RunFailed
from fedray.run.interrupt import StoppedEarly
from tests.cluster.rayless import FakeRay


class Groups:
    """Ray's placement groups, by name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, granted: bool = True) -> None:
        self.made: list[Any] = []
        self.removed: list[Any] = []
        self.granted = granted
        for name in ("placement_group", "remove_placement_group", "get_placement_group", "placement_group_table"):
            monkeypatch.setattr(reservation, name, getattr(self, name))
        monkeypatch.setattr(reservation, "ray", FakeRay())
        monkeypatch.setattr(reservation, "alive", lambda: [Node("n1", "left", {"CPU": 2.0, "memory": 3e9})])

    def placement_group(self, bundles: list[dict[str, float]], **options: Any) -> Any:
        self.made.append(SimpleNamespace(bundles=bundles, wait=lambda seconds: self.granted, **options))
        return self.made[-1]

    def remove_placement_group(self, group: Any) -> None:
        self.removed.append(group)

    def get_placement_group(self, name: str) -> Any:
        return next(group for group in self.made if group.name == name)

    def placement_group_table(self) -> dict[str, Any]:
        return {
            str(i): {"name": group.name, "state": "REMOVED" if group in self.removed else "CREATED"}
            for i, group in enumerate(self.made)
        }


SPEC = GroupSpec("n1", "left", [Slot(Size(1.0)), Slot(Size(2.0), frozenset(["a"])), Slot(Size(0.0))], 0.05)


def test_a_silos_own_worker_waits_for_its_room_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that its node's others begin without it where there is none."""
    groups = Groups(monkeypatch)
    held = Reservation.of(SPEC)
    together, own = groups.made
    assert [(group, bundle) for group, bundle in held.bundles] == [(together, 0), (own, 0), (together, 1)]
    assert together.bundles == [{"CPU": 1.0}, {"CPU": 0.001}], "a bundle of nothing Ray refuses"
    assert own.bundles == [{"CPU": 2.0}]
    assert together.strategy == "STRICT_PACK"
    assert together.bundle_label_selector == [{"ray.io/node-id": "n1"}] * 2
    held.close()
    assert groups.removed == [together, own], "each once"


def test_ranks_of_a_worker_are_reserved_on_the_node_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = Groups(monkeypatch)
    places = (("n1", "left"), ("n1", "left"), ("n2", "right"))
    held = Reservation.of(GroupSpec("n1", "left", [Slot(Size(3.0), ranks=3, places=places), Slot(Size(2.0), ranks=2)]))
    (together,) = groups.made
    assert together.strategy == "PACK"
    assert together.bundles == [{"CPU": 1.0}] * 5
    assert together.bundle_label_selector == [{"ray.io/node-id": node} for node in ("n1", "n1", "n2", "n1", "n1")]
    assert held.bundles == [(together, 0), (together, 3)]


def test_each_rank_of_a_silos_own_worker_has_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = Groups(monkeypatch)
    Reservation.of(GroupSpec("n1", "left", [Slot(Size(2.0), frozenset(["a"]), ranks=2)]))
    (own,) = groups.made
    assert own.bundles == [{"CPU": 1.0}] * 2
    assert own.bundle_label_selector == [{"ray.io/node-id": "n1"}] * 2


def test_what_is_not_granted_is_said_with_numbers_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = Groups(monkeypatch, granted=False)
    with pytest.raises(RunFailed) as error:
        Reservation.of(SPEC).wait()
    for words in (
        "1 worker of 1 CPUs",
        "in 0.05 s",
        "node left has 2 CPUs, 0 GPUs and 3.0 GB",
        "lower cluster.workers",
    ):
        assert words in str(error.value)
    assert len(groups.removed) == 2
    gone = GroupSpec("n2", "right", [Slot(Size())], 0.05)
    with pytest.raises(RunFailed, match="the node has left the cluster"):
        Reservation.of(gone).wait()
    Reservation.of(GroupSpec("n1", "left", [Slot(Size(), frozenset(["a"]))])).wait()  # nothing that is waited for


def test_a_node_that_leaves_is_waited_for_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = Groups(monkeypatch, granted=False)
    monkeypatch.setattr(presence, "alive", lambda: [Node("n1", "left")])
    slot = Slot(Size(2.0), ranks=2, places=(("n1", "left"), ("n2", "right")))
    with pytest.raises(RunFailed, match=r"^node right left the cluster$"):
        Reservation.of(GroupSpec("n1", "left", [slot], 1e9)).wait()
    assert groups.removed == groups.made


def test_a_stop_is_heard_while_room_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = Groups(monkeypatch, granted=False)
    with pytest.raises(StoppedEarly):
        Reservation.of(replace(SPEC, start_timeout=1e9)).wait(lambda: True)
    assert len(groups.removed) == 2


def test_of_a_dead_actor_nothing_stays_and_of_others_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = Groups(monkeypatch)
    first, second = reservation.reserve("n1", [Size()]), reservation.reserve("n1", [Size()])
    other = groups.placement_group([], name="fedray-a12-x")
    groups.removed.append(first)
    release("a1")
    assert groups.removed == [first, second]
    assert other not in groups.removed


@pytest.mark.parametrize(("gpus", "sees"), [(0.0, ""), (0.5, "3"), (2.0, "3")])
def test_an_actor_sees_no_gpu_that_it_has_not_reserved(gpus: float, sees: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    own_gpus(gpus)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == sees
