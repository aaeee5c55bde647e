"""The face of a worker group: what it can do follows from the workers that it still has, here and elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hypothesis import given
from hypothesis import strategies as st

from fedray.cluster.place.placement import GroupSpec, Size, Slot
from fedray.cluster.work.base import Group
from fedray.cluster.work.group import WorkerGroup
from fedray.cluster.work.remote import RemoteWorkerGroup
from fedray.run.usage import Reading
from fedray.run.worker import Item, Report

PINS = (None, "north", "south")


class Some(Group):
    """A group of which some workers are left."""

    def __init__(self, spec: GroupSpec, left: list[int]) -> None:
        super().__init__(spec)
        self._left = left

    @property
    def ranks(self) -> list[int]:
        return self._left

    @property
    def up(self) -> int:
        return 0

    @property
    def retries(self) -> int:
        return 0

    def readings(self) -> list[Reading]:
        return []

    def work(self, items: Mapping[int, Item], stopping: Callable[[], bool]) -> dict[int, Report] | None:
        return {}

    def abandon(self) -> None:
        pass

    def close(self) -> None:
        pass


@given(st.lists(st.frozensets(st.sampled_from(PINS), min_size=1), min_size=1, max_size=5), st.data())
def test_it_takes_what_a_worker_that_is_left_does_and_counts_those(
    slots: list[frozenset[str | None]], data: st.DataObject
) -> None:
    left = data.draw(st.lists(st.integers(0, len(slots) - 1), unique=True))
    group = Some(GroupSpec("id", "n", [Slot(Size(), silos) for silos in slots]), left)
    for pin in PINS:
        assert group.capacity(pin) == sum(pin in slots[rank] for rank in left)
        assert (pin in group.pins) == (group.capacity(pin) > 0)


def test_a_group_here_and_one_elsewhere_have_it() -> None:
    for kind in (WorkerGroup, RemoteWorkerGroup):
        assert issubclass(kind, Group)
        assert not kind.__abstractmethods__
        assert "capacity" not in vars(kind), "who hands out work asks both the same"
