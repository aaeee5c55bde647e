"""Worker processes as actors: reached when they are up, replaced when another may do better, given up when not."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError

from fedray.cluster.place.placement import GroupSpec, Size, Slot
from fedray.cluster.work import spawn
from fedray.cluster.work.base import GroupLost
from fedray.cluster.work.connections import WorkerDied
from fedray.cluster.work.memory import Handle
from fedray.cluster.work.rows import RowFile
from fedray.cluster.work.spawn import CannotStart, RaySpawner, Worker, raised
from tests.cluster.rayless import FakeRay

HANDLE = Handle("/nowhere", torch.float32, {})


def worker_of(rank: int) -> Worker:
    """A worker with memory for rows."""
    return Worker(rank, 0, RowFile({}))


class FakeWorker:
    """A worker process."""

    def __init__(self, job: Any, channel: Any, name: str, gpus: float) -> None:
        self.name, self.channel = name, channel

    def ready(self) -> bool:
        return True

    def serve(self) -> None:
        pass


def at_birth(cause: Exception) -> ActorDiedError:
    traceback = f"Traceback\nfedray.core.errors.RunFailed: {cause}"
    return ActorDiedError(RayTaskError("__init__", traceback, cause, proctitle="w", ip="127.0.0.1"))


class Room:
    """What was reserved."""

    bundles = (("group", 0), ("group", 1))
    closed = 0

    def close(self) -> None:
        self.closed += 1


Make = Callable[..., tuple[RaySpawner, FakeRay]]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a spawner; keywords say what happens to the calls of its actors, and how long it waits."""

    def begin(start_timeout: float = 1e9, **fails: list[Any]) -> tuple[RaySpawner, FakeRay]:
        ray = FakeRay(dict(fails))
        monkeypatch.setattr(spawn, "ray", ray)
        monkeypatch.setattr(spawn, "WorkerActor", FakeWorker)
        monkeypatch.setattr(spawn, "Connection", lambda endpoint: SimpleNamespace(endpoint=endpoint))
        spec = GroupSpec("id", "n", [Slot(Size(0.5, memory=7)), Slot(Size(2.0, 1.0))], start_timeout)
        return RaySpawner("job", spec, Room(), HANDLE, HANDLE), ray  # type: ignore[arg-type]

    return begin


def test_each_process_gets_what_was_reserved_for_its_rank(make: Make) -> None:
    spawner, ray = make()
    for rank in range(2):
        spawner.start(worker_of(rank))
    options = [actor.options for actor in ray.made]
    assert [(one["num_cpus"], one["num_gpus"], one["memory"]) for one in options] == [(0.5, 0.0, 7), (2.0, 1.0, None)]
    assert [one["scheduling_strategy"].placement_group_bundle_index for one in options] == [0, 1]
    assert [actor.behind.name for actor in ray.made] == ["n/0", "n/1"]


def test_ranks_on_other_nodes_are_given_the_data_and_no_memory_of_this_one(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One and the same payload; each rank knows the name of its node, and the first one who is elsewhere.

    They are left to end by themselves, as they take their data away then.
    """
    given: list[tuple[Any, ...]] = []

    def following(*arguments: Any) -> Any:
        given.append(arguments)
        return SimpleNamespace(follow=lambda: None)

    monkeypatch.setattr(spawn, "FollowingRank", following)
    monkeypatch.setattr("fedray.cluster.work.payload.Payload.of", lambda job: f"{job} and data")
    monkeypatch.setattr("fedray.cluster.work.collective.get_node_ip_address", lambda: "127.0.0.1")
    spawner, ray = make()
    places = (("id", "n"), ("id", "n"), ("2", "m"), ("3", "o"))
    spawner._spec = GroupSpec("id", "n", [Slot(Size(4.0, memory=8), ranks=4, places=places)])
    spawner.start(worker_of(0))
    jobs, ranks, downs, ups, names, _ = zip(*(one[:6] for one in given), strict=True)
    assert jobs == ("job", "job and data", "job and data")
    assert [down is None for down in downs] == [up is None for up in ups] == [False, True, True]
    assert [(rank.rank, rank.node) for rank in ranks] == [(1, "n"), (2, "m"), (3, "o")]
    assert names == ("n/0",) * 3
    assert ray.made[0].behind.channel.first.away == (2, 3)
    assert [actor.options["num_cpus"] for actor in ray.made] == [1.0] * 4
    assert [actor.options["scheduling_strategy"].placement_group_bundle_index for actor in ray.made] == [0, 1, 2, 3]
    waited: list[tuple[int, int]] = []
    monkeypatch.setattr(ray, "wait", lambda ends, **_: waited.append((len(ends), len(ray.killed))))
    spawner.kill(worker_of(0))
    assert waited == [(2, 1)], "for both, when the first rank is gone"
    assert ray.killed == ray.made


def test_a_node_with_ranks_that_left_takes_the_group_along(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    spawner, _ = make()
    spawner.check()
    monkeypatch.setattr(spawner._presence, "gone", lambda: "node m left the cluster")
    with pytest.raises(GroupLost, match=r"^node m left the cluster$"):
        spawner.check()


def test_a_process_is_reached_at_its_own_endpoint_and_sent_to_serve(make: Make) -> None:
    spawner, ray = make()
    worker = worker_of(1)
    spawner.start(worker)
    assert spawner.up([worker], 0.0) == [worker]
    connection: Any = spawner.connect(worker)
    assert connection.endpoint == ray.made[0].behind.channel.endpoint
    assert ray.calls[-1] == "serve"


def test_all_that_are_up_are_named_and_who_is_late_cannot_start(make: Make) -> None:
    workers = [worker_of(rank) for rank in range(2)]
    for timeout, named in ((1e9, workers[1:]), (-1.0, workers)):
        spawner, _ = make(timeout, ready=["late"])
        for worker in workers:
            spawner.start(worker)
        assert spawner.up(workers, 0.0) == named
    with pytest.raises(CannotStart, match=r"one of 0\.5 CPUs .* did not come up in -1 s"):
        spawner.connect(workers[0])


@pytest.mark.parametrize(
    ("fate", "kind", "words"),
    [
        (lambda: at_birth(OSError("no such device")), CannotStart, "^no such device$"),
        (ActorDiedError, WorkerDied, "The actor died unexpectedly"),
    ],
)
def test_what_it_raised_while_it_was_made_it_would_raise_again_and_a_death_it_would_not(
    fate: Callable[[], Exception], kind: type[Exception], words: str, make: Make
) -> None:
    spawner, _ = make(ready=[fate()])
    spawner.start(worker_of(0))
    with pytest.raises(kind, match=words):
        spawner.connect(worker_of(0))


def test_a_lost_answer_is_asked_for_again(make: Make) -> None:
    spawner, _ = make(ready=[ActorUnavailableError("by hand", None)])
    worker = worker_of(0)
    spawner.start(worker)
    assert spawner.connect(worker) is None
    assert spawner.connect(worker) is not None


def test_a_process_is_killed_once_and_what_was_reserved_given_back(make: Make) -> None:
    spawner, ray = make()
    worker = worker_of(0)
    spawner.start(worker)
    spawner.kill(worker)
    spawner.kill(worker)
    spawner.close()
    assert len(ray.killed) == 1
    assert spawner._reservation.closed == 1  # type: ignore[attr-defined]


def test_of_a_traceback_only_what_was_raised_is_said() -> None:
    assert raised(at_birth(OSError("no such device"))) == "no such device"
