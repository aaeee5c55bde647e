"""What a config says of the cluster reaches the workers and the driver, and what was started is ended."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from fedray.cluster import launch
from fedray.cluster.place.placement import Node, Size
from fedray.cluster.place.slots import Silo, WorkerArgs
from fedray.cluster.start.connect import Cluster
from fedray.config.sections import ClusterSection, DriverSection, WorkerSection
from fedray.core.errors import ConfigError
from fedray.data.sites import Silo as DataSilo


@dataclass(frozen=True)
class FakeRun:
    """A run whose clients are at silos."""

    silos: dict[str, DataSilo]
    notes: tuple[str, ...] = ()

    @property
    def plan(self) -> Any:
        return SimpleNamespace(task=SimpleNamespace(data=SimpleNamespace(silos=self.silos)))


class Started:
    """What was started, and what of it was ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, started_here: bool) -> None:
        self.left: list[str] = []
        self.driver = Size()
        self.notes: tuple[str, ...] = ()
        self.args = WorkerArgs()
        monkeypatch.setattr(launch, "await_ahead", lambda: None)
        connection = SimpleNamespace(close=lambda: self.left.append("ray"), driver_cpus=int(started_here))
        monkeypatch.setattr(Cluster, "connect", lambda cpus, dashboard: connection)
        monkeypatch.setattr(launch, "driver_actor", self._actor)
        monkeypatch.setattr(launch, "stream", self._stream)
        monkeypatch.setattr(launch, "ask_to_stop", lambda actor: self.left.append("asked"))
        monkeypatch.setattr(launch, "alive", lambda: [Node("1", "a", {"CPU": 4.0}, {"site": "a"})])

    @contextlib.contextmanager
    def _actor(self, size: Size) -> Iterator[str]:
        self.driver = size
        try:
            yield "actor"
        finally:
            self.left.append("driver")

    def _stream(
        self,
        actor: Any,
        run: FakeRun,
        args: WorkerArgs,
        stopping: Callable[[], bool],
        ending: Callable[[], str | None],
    ) -> Iterator[str]:
        self.stopping, self.ending = stopping, ending
        self.args, self.notes = args, run.notes
        yield "record"


def records(
    run: FakeRun, cluster: ClusterSection, worker: WorkerSection, driver: DriverSection, stops: list[Any]
) -> Any:
    return launch.records_on_ray(run, cluster, worker, driver, 7.0, stops.append)  # type: ignore[arg-type]


def test_every_option_arrives_and_the_driver_is_ended_before_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    started = Started(monkeypatch, started_here=False)
    cluster = ClusterSection(workers=3, placement="pack", reduce="collective", min_workers=2, start_timeout=9.0)
    silos = {"a": DataSilo(path="a.csv", node_label="site=a", gpus=0.0)}
    stops: list[Any] = []
    running = records(FakeRun(silos), cluster, WorkerSection(2.0, 0.5, memory=1.5), DriverSection(cpus=1.0), stops)
    assert next(running) == "record"
    assert started.args == WorkerArgs(
        **vars(cluster),
        size=Size(2.0, 0.5, 1_500_000_000),
        silos={"a": Silo("site=a", Size(1.0, 0.0))},
        driver=Size(1.0),
        block_timeout=7.0,
    )
    assert started.ending() is None
    stops[0]("a callback said so")
    assert started.ending() == "a callback said so"
    assert not started.stopping(), "the reason goes with the answer to a record"
    stops[0]()
    assert started.stopping()
    running.close()
    assert started.left == ["asked", "driver", "ray"]
    assert started.notes == ()


def test_a_ray_of_ones_own_keeps_a_cpu_for_the_driver_and_says_what_bounds_the_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = Started(monkeypatch, started_here=True)
    assert list(records(FakeRun({}), ClusterSection(), WorkerSection(), DriverSection(), [])) == ["record"]
    assert (started.driver, started.args.workers, started.args.start_timeout) == (Size(1.0), "auto", 120.0)
    assert started.notes[0].startswith("CPUs for workers: ")


def test_a_silos_worker_that_has_room_nowhere_is_refused_and_one_whose_node_may_come_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = Started(monkeypatch, started_here=True)
    far = DataSilo(path="a.csv", node_label="site=far", cpus=64)
    assert list(records(FakeRun({"f": far}), ClusterSection(), WorkerSection(), DriverSection(), []))
    big = DataSilo(path="a.csv", node_label="site=a", cpus=8)
    with pytest.raises(ConfigError, match=r"silo 'b': its worker wants 8 CPUs .* where site=a is, there is a \(4 CPUs"):
        list(records(FakeRun({"b": big}), ClusterSection(), WorkerSection(), DriverSection(), []))
    assert started.left == ["driver", "ray", "ray"], "Ray is ended where the run could not begin, too"
