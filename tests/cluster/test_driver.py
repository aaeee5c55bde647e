"""The driver's records on their way to whoever asked for the run, and how its end is told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from fedray.cluster import driver
from fedray.cluster.driver import DriverActor, Ended, ask_to_stop, driver_actor, stream
from fedray.cluster.place.placement import Size
from fedray.cluster.place.slots import WorkerArgs
from fedray.core.errors import ConfigError, RunFailed
from fedray.core.stages import listening
from fedray.run.interrupt import StoppedEarly
from tests.cluster.rayless import HERE, Actor, FakeRay


class Behind:
    """A run of three rounds, which are numbers, and then perhaps an error."""

    def __init__(self, error: Exception | None = None, callbacks: tuple[str, ...] = ()) -> None:
        self.error, self.callbacks = error, callbacks
        self.threads = 1
        self.folder = SimpleNamespace(path=Path("runs/x"))
        self.plan = SimpleNamespace(task=None)
        self.stopping: Any = None

    def records(self, executor: Any, stopping: Any, ending: Any) -> Iterator[Any]:
        self.stopping = stopping
        yield from (1, 2, 3)
        if self.error is not None:
            raise self.error


@pytest.fixture(autouse=True)
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    """No Ray, and the environment put back that an actor without GPUs changes."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    fake = FakeRay()
    monkeypatch.setattr(driver, "ray", fake)
    return fake


def streamed(ray: FakeRay, run: Any) -> list[Any]:
    return list(stream(Actor(ray, DriverActor(0)), run, WorkerArgs(start_timeout=0.3), lambda: False))


@pytest.mark.parametrize("period", [0.0, 1e9])
def test_each_record_comes_once_and_in_order_however_many_at_a_time(
    period: float, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_PERIOD", period)
    messages = list(DriverActor(0).run(Behind(), WorkerArgs()))  # type: ignore[arg-type]
    assert messages[-1] == Ended()
    assert [record for some in messages[:-1] for record in some] == [1, 2, 3]  # type: ignore[union-attr]
    assert len(messages) == (2 if period else 5)
    assert streamed(ray, Behind()) == [1, 2, 3]


def test_workers_that_come_up_are_counted_until_the_first_record(ray: FakeRay) -> None:
    """Once for each count; nothing is said before it is known how many there are to be, nor of a driver that died."""
    behind = DriverActor(0)
    actor: Any = Actor(ray, behind)

    def are_up(up: int, of: int = 4) -> None:
        behind._executor = SimpleNamespace(nodes=SimpleNamespace(ready=lambda: (up, of)))  # type: ignore[assignment]

    ray.before = [lambda: None, lambda: are_up(0), lambda: are_up(3), lambda: are_up(3), lambda: are_up(4)]
    said: list[str] = []
    with listening(lambda stage: said.append(stage.words)):
        records: list[Any] = list(stream(actor, Behind(), WorkerArgs(), lambda: False))  # type: ignore[arg-type]
        assert records == [1, 2, 3]
        assert said[1:] == ["0 of 4 workers are ready", "3 of 4 workers are ready", "4 of 4 workers are ready"]
        ray.before, ray.fails["ready"] = (
            [lambda: are_up(0, 1), lambda: None, lambda: None],
            ["late", None, ActorDiedError()],
        )
        list(stream(actor, Behind(), WorkerArgs(), lambda: False))  # type: ignore[arg-type]
    assert said[5:] == []


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("last", [1, 2, 3])
def test_a_run_with_callbacks_goes_on_once_each_record_is_answered(last: int, ends: bool, ray: FakeRay) -> None:
    """By whoever asks for the next one; a stop, and a reason to end, are known before the run is asked for more."""
    events: list[Any] = []

    class Asked(Behind):
        def records(self, executor: Any, stopping: Any, ending: Any) -> Iterator[Any]:
            for number in (1, 2, 3):
                events.append(f"round {number}")
                yield number
                if (ending() == "m.f ends the run") if ends else stopping():
                    return

    def enough() -> bool:
        return bool(events[-1] == last)

    actor: Any = Actor(ray, DriverActor(0))
    run: Any = Asked(callbacks=("m.f",))
    asked: list[Any] = [lambda: False, lambda: "m.f ends the run" if enough() else None] if ends else [enough]
    for number in stream(actor, run, WorkerArgs(), *asked):
        events += [number]
    assert events == [event for number in range(1, last + 1) for event in (f"round {number}", number)]
    assert ray.calls.count("answer") == last


def test_what_callbacks_say_reaches_the_log_of_the_run_before_it_goes_on(
    ray: FakeRay, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once here, and once by the driver, with the traceback as it was here; of other times nothing is repeated."""
    here, events = logging.getLogger("fedray"), list[str]()

    class Run(Behind):
        def records(self, executor: Any, stopping: Any, ending: Any) -> Iterator[Any]:
            for number in (1, 2, 3):
                yield number
                events.extend(record.getMessage() for record in caplog.records)
                caplog.clear()

    run: Any = Run(callbacks=("m.f",))
    with caplog.at_level(logging.INFO, "fedray"):  # as it is where a run has a log
        here.warning("before")
        caplog.clear()
        records: Iterator[Any] = stream(Actor(ray, DriverActor(0)), run, WorkerArgs(), lambda: False)
        for number in records:
            if number == 2:
                here.info("m.f stops the run after round 2")
                try:
                    raise ZeroDivisionError("by hand")
                except ZeroDivisionError:
                    here.warning("callback m.g failed", exc_info=True)
    said = ["m.f stops the run after round 2", "callback m.g failed"]
    assert events[:3] == [*said, said[0]]
    assert events[3].startswith(f"{said[1]}\nTraceback ")
    assert len(events) == 4


def test_warnings_of_the_cluster_reach_whoever_asked_for_the_run(
    ray: FakeRay, caplog: pytest.LogCaptureFixture
) -> None:
    """Between the records, and before the end; what the run itself warns of was told before it began."""

    class Loses(Behind):
        def records(self, executor: Any, stopping: Any, ending: Any) -> Iterator[Any]:
            group.warning("worker %s died", "b")
            logging.getLogger("fedray").warning("the data are others")
            yield from super().records(executor, stopping, ending)

    group = logging.getLogger("fedray.cluster.work.group")
    for error in (None, RunFailed("no worker is left")):
        messages = [*DriverActor(0).run(Loses(error), WorkerArgs())]  # type: ignore[arg-type]
        assert [one for message in messages[:-1] for one in message] == ["worker b died", 1, 2, 3]  # type: ignore[union-attr]
    caplog.clear()
    assert streamed(ray, Loses()) == [1, 2, 3]
    told = [record.getMessage() for record in caplog.records if record.name == "fedray.cluster"]
    assert told == ["worker b died"]


@pytest.mark.parametrize("error", [RunFailed("no worker is left"), ConfigError("data.path: nothing is there")])
def test_a_failure_is_told_in_its_own_words_after_all_records(error: Exception, ray: FakeRay) -> None:
    actor = Actor(ray, DriverActor(0))
    records: Iterator[Any] = stream(actor, Behind(error), WorkerArgs(), lambda: False)  # type: ignore[arg-type]
    assert [next(records) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(type(error), match=f"^{error}$"):
        next(records)


def test_a_fault_of_fedrays_own_is_a_failed_run(ray: FakeRay) -> None:
    with pytest.raises(RunFailed, match=r"^the driver failed: "):
        streamed(ray, Behind(ZeroDivisionError("by hand")))


def test_a_driver_that_died_says_how_to_go_on(ray: FakeRay) -> None:
    ray.fails["run"] = [ActorDiedError()]
    with pytest.raises(RunFailed, match=r"the driver died \(The actor died .*\); go on with `.*fedray resume runs/x`"):
        streamed(ray, Behind())


def test_a_driver_that_does_not_come_up_says_what_it_wanted_and_what_is_free(ray: FakeRay) -> None:
    ray.fails["up"] = ["late"]
    with pytest.raises(RunFailed, match=r"of 0 CPUs and 0 GPUs, did not come up on this node in 0.3 s; in .* 0 CPUs"):
        streamed(ray, Behind())


def test_a_driver_that_does_not_come_up_is_waited_for_until_a_stop(ray: FakeRay) -> None:
    ray.fails["up"] = ["late"]
    actor = Actor(ray, DriverActor(0))
    with pytest.raises(StoppedEarly):
        next(stream(actor, Behind(), WorkerArgs(start_timeout=1e9), lambda: True))  # type: ignore[arg-type]


def test_a_run_stopped_before_there_was_room_for_a_worker_is_told_from_a_failed_one(ray: FakeRay) -> None:
    with pytest.raises(StoppedEarly, match=r"^no room yet$"):
        streamed(ray, Behind(StoppedEarly("no room yet")))


def test_it_is_on_this_node_can_be_stopped_and_is_ended_with_what_it_reserved(
    ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[str] = []
    monkeypatch.setattr(driver, "release", released.append)
    run = Behind()

    def use() -> None:
        with driver_actor(Size(2.0)) as actor:
            assert actor.options["num_cpus"] == 2.0
            assert actor.options["scheduling_strategy"].node_id == HERE
            list(actor.behind.run(run, WorkerArgs()))
            ask_to_stop(actor)
            assert run.stopping()
            ray.initialized = False
            ask_to_stop(actor)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use()
    assert ray.calls == ["stop"], "without a connection the call would start a Ray"
    assert (ray.killed, released) == (ray.made, ["a1"])
