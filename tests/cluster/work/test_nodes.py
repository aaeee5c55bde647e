"""Which worker groups there are: new nodes get one, lost ones are forgotten, and too few of them end the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest

from fedray.cluster.place.placement import GroupSpec, Node, Size
from fedray.cluster.place.slots import Silo, WorkerArgs
from fedray.cluster.work import nodes as module
from fedray.cluster.work.base import GroupLost
from fedray.cluster.work.nodes import Nodes
from fedray.cluster.work.remote import NodeUnfit
from fedray.core.errors import RunFailed
from fedray.run.evaluation import HoldoutChunk
from tests.cluster.rayless import FakeRay, Reference


@dataclass(eq=False)
class Group:
    """A worker group: looked at, it is what comes next in ``looks``, and up from then on."""

    spec: GroupSpec
    looks: list[bool | Exception] = field(default_factory=list)
    ready: Reference = field(default_factory=Reference)
    ended: list[str] = field(default_factory=list)

    @property
    def ranks(self) -> list[int]:
        return list(range(len(self.spec.slots)))

    @property
    def up(self) -> int:
        return 0 if self.looks else len(self.ranks)

    def capacity(self, pin: str | None) -> int:
        return self.spec.capacity(pin, self.ranks)

    def look(self, seconds: float) -> bool:
        found = self.looks.pop(0) if self.looks else True
        if isinstance(found, Exception):
            raise found
        return found

    def abandon(self) -> None:
        self.ended.append("abandoned")

    def close(self) -> None:
        self.ended.append("closed")


class Starter:
    """Starts groups of the test on nodes of the test."""

    here = "0"

    def __init__(self, nodes: Sequence[Node], looks: dict[str, list[bool | Exception]] | None = None) -> None:
        self.nodes, self.looks = list(nodes), looks or {}
        self.no_room: str | None = None
        self.started: list[Group] = []

    def alive(self) -> list[Node]:
        return self.nodes

    def own(self, spec: GroupSpec) -> Group:
        if self.no_room is not None:
            raise RunFailed(self.no_room)
        return self.remote(spec)

    def remote(self, spec: GroupSpec) -> Group:
        self.started.append(Group(spec, self.looks.get(spec.node, [])))
        return self.started[-1]


def node(id: str, cpus: float = 2.0, site: str = "") -> Node:
    return Node(id, f"n{id}", {"CPU": cpus}, {"site": site})


Make = Callable[[Starter, WorkerArgs], Nodes]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes the groups of some nodes, without the thread that watches, or patience."""
    monkeypatch.setattr(module, "_PATIENCE", 0.0)
    monkeypatch.setattr(module, "_WATCH", 10**6)
    monkeypatch.setattr(module, "ray", FakeRay())
    made: list[Nodes] = []

    def begin(starter: Starter, args: WorkerArgs) -> Nodes:
        made.append(Nodes(args, starter))  # type: ignore[arg-type]
        return made[-1]

    yield begin
    for one in made:
        one.close()


def names(groups: Sequence[object]) -> list[str]:
    return [group.spec.name for group in groups if isinstance(group, Group)]


def test_too_few_workers_end_the_run_in_words_that_say_how_many_and_whom_it_lost(make: Make) -> None:
    """The law behind the slow test of the same name, where a real node is killed; here patience ends at once."""
    starter = Starter([node("0"), node("1")])
    nodes = make(starter, WorkerArgs(workers=1, min_workers=2, start_timeout=1e-9))
    assert names(nodes.wait([], lambda: False)) == ["n0", "n1"]
    nodes.round = 3
    starter.started[1].looks = [GroupLost("the node died")]
    with pytest.raises(RunFailed) as ended:
        nodes.wait([], lambda: False)
    assert str(ended.value) == (
        "round 3: only 1 worker left on 1 node, cluster.min_workers is 2; add nodes and resume; "
        "last was lost: n1 (the node died)"
    )
    assert starter.started[1].ended == ["abandoned"]


def test_a_node_that_was_lost_is_set_up_again_when_it_is_seen_after_that_and_an_unfit_one_is_not(make: Make) -> None:
    starter = Starter([node("0"), node("1"), node("2")])
    nodes = make(starter, WorkerArgs(workers=1))
    starter.started[1].looks, starter.started[2].looks = [GroupLost("gone")], [NodeUnfit("no room")]
    assert names(nodes.present()) == ["n0"]
    assert nodes.settle() == [], "what was seen before its loss says nothing"
    nodes.seen = starter.nodes
    assert names(nodes.settle()) == ["n1"]
    assert names(nodes.present()) == ["n0", "n1"]


def test_a_run_is_over_when_every_node_was_tried_in_vain_however_long_it_may_wait(make: Make) -> None:
    starter = Starter([node("0"), node("1")], {"1": [NodeUnfit("no driver")]})
    starter.no_room = "others have it"
    nodes = make(starter, WorkerArgs(workers=1, start_timeout=1e9))
    assert nodes.present() == []
    nodes.seen = starter.nodes
    with pytest.raises(RunFailed, match=r"only 0 workers left on 0 nodes.*last was lost: n1 \(no driver\)"):
        nodes.wait([], lambda: False)


def test_without_room_on_the_only_node_the_reason_is_raised_as_it_is(make: Make) -> None:
    starter = Starter([node("0")])
    starter.no_room = "2 workers could not be started"
    with pytest.raises(RunFailed, match=r"^2 workers could not be started$"):
        make(starter, WorkerArgs(workers=1))


def test_where_no_node_has_room_what_there_is_is_told(make: Make) -> None:
    nodes = make(Starter([node("0", 1.0)]), WorkerArgs(workers=1, size=Size(64.0), start_timeout=1e-9))
    with pytest.raises(RunFailed, match=r"no node has room for 1 worker of 64 CPUs .*; there is n0 \(1 CPUs"):
        nodes.wait([], lambda: False)


def test_who_joins_in_the_middle_of_a_round_is_welcomed_once(make: Make) -> None:
    starter = Starter([node("0")])
    nodes = make(starter, WorkerArgs(workers=1, min_workers=2, start_timeout=1e9))
    nodes.seen = [*starter.nodes, node("1")]
    welcomed: list[object] = []
    assert names(nodes.wait([], lambda: False, welcomed.append)) == ["n0", "n1"]
    assert names(welcomed) == ["n1"]


def test_work_that_is_pinned_waits_for_its_silos_node_to_come_up_and_no_other_does(make: Make) -> None:
    args = WorkerArgs(workers=1, silos={"a": Silo("site=a"), "far": Silo("site=far")})
    starter = Starter([node("0"), node("1", site="a"), node("2")], {"1": [False, False], "2": [False] * 9})
    nodes = make(starter, args)
    item = HoldoutChunk(0, np.zeros(1, dtype=np.int64), "a")
    assert nodes.ready() == (1, 3)
    assert names(nodes.wait([item], lambda: False)) == ["n0", "n1"], "the third is still starting"
    assert nodes.ready() == (2, 3)
    assert nodes.why_nobody("far") == "no node with site=far is there"


def test_who_is_asked_to_stop_waits_for_nobody(make: Make) -> None:
    starter = Starter([node("0"), node("1")], {"1": [False]})
    nodes = make(starter, WorkerArgs(workers=1, min_workers=9, start_timeout=1e9))
    assert names(nodes.wait([], lambda: True)) == ["n0"]


RANKS = WorkerArgs(workers=1, size=Size(3.0), ranks=3, start_timeout=1e9)
"""Nodes of two CPUs have no room for one alone."""


def on(groups: Sequence[object]) -> list[set[str]]:
    """The nodes of groups."""
    return [set(group.spec.nodes) for group in groups if isinstance(group, Group)]


def test_a_node_that_is_lost_with_a_rank_costs_its_worker_and_the_nodes_left_have_one_with_one_that_comes(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    starter = Starter([node("0"), node("1"), node("2")])
    nodes = make(starter, RANKS)
    assert on(nodes.present()) == [{"0", "1"}, {"1", "2"}]
    nodes.round = 3
    # The node of a further rank of the second is lost; the first, a rank of which is on the same node, goes on.
    second, left = starter.started[1], starter.nodes.pop()
    nodes.forget(second, GroupLost(f"node {left.name} left the cluster"))  # type: ignore[arg-type]
    assert second.ended == ["abandoned"]
    assert "round 3: the worker on n1, n2 is lost (node n2 left the cluster)" in caplog.text
    nodes.seen = starter.nodes
    assert nodes.settle() == []
    assert "node n1 (2 CPUs and 0 GPUs) has no room for 1 worker of 3 CPUs and 0 GPUs, and gets none" in caplog.text
    assert on(nodes.present()) == [{"0", "1"}]
    nodes.seen = starter.nodes = [*starter.nodes, node("3")]
    assert on(nodes.settle()) == [{"1", "3"}]
    assert nodes.settle() == [], "once"


def test_the_worker_of_the_drivers_node_is_placed_anew_as_any_other(make: Make) -> None:
    starter = Starter([node("0"), node("1")])
    nodes = make(starter, RANKS)
    (own,) = nodes.own
    starter.nodes = [starter.nodes[0], node("2", 1.0)]
    nodes.forget(own, GroupLost("node n1 left the cluster"))
    assert nodes.own == []
    nodes.seen = starter.nodes
    welcomed: list[object] = []
    assert on(nodes.wait([], lambda: False, welcomed.append)) == on(welcomed) == [{"0", "2"}]
    assert nodes.own == welcomed


def test_without_any_room_left_the_run_ends_in_the_words_of_other_runs(make: Make) -> None:
    starter = Starter([node("0"), node("1")])
    nodes = make(starter, WorkerArgs(workers=1, size=Size(3.0), ranks=3, start_timeout=1e-9))
    nodes.round = 2
    starter.nodes.pop()
    nodes.forget(nodes.own[0], GroupLost("node n1 left the cluster"))
    nodes.seen = starter.nodes
    nodes.settle()
    with pytest.raises(RunFailed) as ended:
        nodes.wait([], lambda: False)
    assert str(ended.value).startswith(
        "round 2: no node has room for 1 worker of 3 CPUs and 0 GPUs; there is n0 (2 CPUs"
    )
    assert str(ended.value).endswith("; last was lost: the worker on n0, n1 (node n1 left the cluster)")


@pytest.mark.parametrize("leaves", [True, False])
def test_nodes_that_were_tried_in_vain_are_tried_with_others_if_one_of_them_has_left(leaves: bool, make: Make) -> None:
    class Trying(Starter):
        def own(self, spec: GroupSpec) -> Group:
            if leaves:
                self.nodes.pop(1)
            raise RunFailed("no room for all")

    starter = Trying([node("0"), node("1"), node("2", 1.0)])
    nodes = make(starter, RANKS)
    assert nodes.own == []
    starter.own = partial(Starter.own, starter)  # type: ignore[method-assign]
    nodes.seen = starter.nodes = [*starter.nodes, node("3", 1.0)]
    assert on(nodes.settle()) == ([{"0", "2"}] if leaves else [])
    assert nodes._unfit == (set() if leaves else {"0", "1"})


def test_a_node_has_one_group_at_most_as_workers_are_named_after_it(make: Make) -> None:
    starter = Starter([node("0"), node("1"), node("2")])
    nodes = make(starter, RANKS)
    # The first is lost: what it had of node 1 is free, but the second begins there.
    (own,) = nodes.own
    starter.nodes = starter.nodes[1:]
    nodes.forget(own, GroupLost("gone"))
    nodes.seen = starter.nodes = [*starter.nodes, node("3")]
    assert nodes.settle() == []
    nodes.seen = starter.nodes = [*starter.nodes, node("4", 1.0)]
    assert on(nodes.settle()) == [{"3", "4"}]


def test_all_groups_are_ended_once(make: Make) -> None:
    starter = Starter([node("0"), node("1")])
    nodes = make(starter, WorkerArgs(workers=1))
    nodes.close()
    nodes.close()
    assert [group.ended for group in starter.started] == [["closed"], ["closed"]]
