"""A result is a function of config and seed: not of workers, or whether Ray is there at all.

Deaths have ``tests/faults``, and each algorithm ``tests/faults/test_algorithms.py``.
"""

from __future__ import annotations

import gzip
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn

import fedray
from fedray.cluster.place.placement import Size
from fedray.cluster.place.slots import WorkerArgs
from fedray.cluster.work.executor import RayExecutor
from fedray.config.sections import LocalSection
from fedray.core.messages import Block
from fedray.rundir.folder import RunFolder
from tests.cluster import problem
from tests.helpers import Federation, class_problem, federation

PARTS: dict[str, dict[str, Any]] = {
    "fedavg": {},
    # An optimizer of the user's own, too, which brings torch's compiler along.
    "scaffold": {"algorithm": fedray.Scaffold(), "optimizer": lambda params: torch.optim.SGD(params, lr=0.1)},
    "topk": {"transforms": [fedray.Clip(norm=0.5), fedray.TopK(fraction=0.2)]},
    "median": {"aggregator": fedray.Median()},
    "krum": {"aggregator": fedray.MultiKrum(byzantine=10, keep=5)},
    # Sums of other columns in each round, in the same memory.
    "fragments": {
        "algorithm": fedray.StreamingDiLoCo(fragments=3, alpha=0.5, keep=False),
        "transforms": [fedray.TopK(fraction=0.2)],
    },
    "fragments, median": {"algorithm": fedray.StreamingDiLoCo(keep=False), "aggregator": fedray.Median()},
    "alie": {"aggregator": fedray.TrimmedMean(0.1), "attack": fedray.ALIE(clients=0.3, z=1.0)},
}


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("fedavg", (2,)),
        pytest.param("fedavg", (1, 3, 4), marks=pytest.mark.slow),
        *(pytest.param(name, (3,), marks=pytest.mark.slow) for name in PARTS if name != "fedavg"),
    ],
)
def test_any_number_of_workers_and_inline(name: str, counts: Sequence[int], tmp_path: Path, four_cpus: None) -> None:
    """One worker, several, and no Ray at all give the same model after each round, and to each client the same."""
    parts = PARTS[name] | {"clients_every": 1}
    inline = problem.hashes(problem.train(tmp_path / "inline", "inline", **parts))
    assert len(set(inline)) == len(inline)
    tables = problem.tables(tmp_path / "inline")
    assert len(set(tables.values())) == len(tables) == len(inline)
    for workers in counts:
        result = problem.train(tmp_path / f"ray-{workers}", fedray.Cluster(workers=workers), **parts)
        assert problem.hashes(result) == inline, workers
        assert problem.tables(result.run_dir) == tables, workers


@pytest.mark.slow
def test_a_callback_stops_after_the_same_round_wherever_it_is_called(tmp_path: Path, four_cpus: None) -> None:
    """Here, with no Ray; and here, from the driver's process."""
    places: list[Any] = ["inline", fedray.Cluster(workers=2)]
    for number, place in enumerate(places):
        seen: list[float] = []

        def enough(record: fedray.RoundRecord, seen: list[float] = seen) -> bool:
            seen.append(record.test["loss"])
            return record.round == 3

        result = problem.train(tmp_path / str(number), place, rounds=10**6, callbacks=[enough])
        assert (result.stopped, len(result.history), len(seen)) == (True, 3, 3)
        assert seen == [record.test["loss"] for record in result.history]
        log = RunFolder(tmp_path / str(number)).log.read_text()
        assert log.count("enough ends the run, after round 3") == 1
        places[number] = problem.hashes(result), seen
    assert places[0] == places[1]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_metric_stops_after_the_same_round_for_any_number_of_workers(
    workers: int, tmp_path: Path, four_cpus: None
) -> None:
    """And the best model is the same."""
    args = fedray.TrainArgs(
        rounds=10**6,
        batch_size=8,
        seed=5,
        stop_metric="test.loss",
        stop_patience=2,
        stop_min_delta=0.02,
        checkpoint_best="test.accuracy",
    )
    ends: list[tuple[Any, ...]] = []
    for place in ("inline", fedray.Cluster(workers=workers)):
        folder = tmp_path / str(len(ends))
        result = fedray.train(problem.model(), problem.data(), args, cluster=place, run_dir=folder, progress=False)
        assert not result.stopped
        assert result.best is not None
        summary = RunFolder(folder).summary()
        assert summary["status"] == "early_stopped"
        best = {name: tensor.tolist() for name, tensor in result.best.state_dict().items()}
        ends.append((problem.hashes(result), summary["early_stopped"], summary["best"], best))
    assert ends[0] == ends[1]
    assert len(ends[0][0]) > 4


def blocks_of(one: Federation) -> list[Block]:
    """Of the first round."""
    return one.plan.blocks(1, one.plan.cohort(1), one.state.store)


@pytest.fixture
def scaffold(tmp_path: Path) -> Federation:
    """Two parts go up and two come down."""
    problem_data = class_problem(sizes=[*range(1, 31)])
    one = federation(problem_data, tmp_path, fedray.Scaffold(), args=LocalSection(2, 4), stack=2)
    one.job.state_folder.mkdir(exist_ok=True)
    return one


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_fn", "end"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "3 workers in a row died on node .* while they started"),
        (lambda: [].pop(), "a worker could not start on node .*: IndexError: pop from empty list"),
    ],
)
def test_workers_that_never_come_up_end_the_run(model_fn: Any, end: str, scaffold: Federation, four_cpus: None) -> None:
    """Neither is tried for ever."""
    executor = RayExecutor(
        replace(scaffold.job, task=replace(scaffold.job.task, model_fn=model_fn)), WorkerArgs(workers=1)
    )
    try:
        with pytest.raises(fedray.RunFailed, match=end):
            executor.wait()
    finally:
        executor.close()


@pytest.mark.slow
def test_how_workers_live(scaffold: Federation, four_cpus: None) -> None:
    """They see no GPU unasked, where torch's optimizers would open a context; nobody is nicer than others to them; Ray
    tells nobody about them.
    """
    model_fn, niceness = scaffold.job.task.model_fn, os.nice(0)

    def looking() -> nn.Module:
        assert os.environ.get("CUDA_VISIBLE_DEVICES") == ""
        assert os.nice(0) == niceness
        assert os.environ.get("RAY_USAGE_STATS_ENABLED") == "0"
        assert torch.get_num_threads() == 1
        return model_fn()

    executor = RayExecutor(
        replace(scaffold.job, task=replace(scaffold.job.task, model_fn=looking)), WorkerArgs(workers=1)
    )
    try:
        executor.wait()
    finally:
        executor.close()


def test_workers_that_are_packed_in_vain_fail_with_numbers(scaffold: Federation, four_cpus: None) -> None:
    with pytest.raises(fedray.RunFailed, match=r"64 CPUs.*has 5 CPUs"):
        RayExecutor(scaffold.job, WorkerArgs(workers=1, size=Size(cpus=64), placement="pack", start_timeout=2))


@pytest.mark.parametrize(("workers", "wanted"), [("auto", "a worker of 64 CPUs"), (2, "2 workers of 64 CPUs")])
@pytest.mark.slow
def test_too_many_workers_fail_with_numbers(
    workers: int | Literal["auto"], wanted: str, scaffold: Federation, four_cpus: None
) -> None:
    """Placement that cannot be satisfied ends in a message, not in silence."""
    executor = RayExecutor(scaffold.job, WorkerArgs(workers=workers, size=Size(cpus=64), start_timeout=1))
    try:
        with pytest.raises(fedray.RunFailed, match=rf"no node has room for {wanted}.*\(5 CPUs.*lower cluster.workers"):
            executor.wait()
        assert executor.run(blocks_of(scaffold), lambda: True) is None, "asked to stop, it does, with nobody to work"
    finally:
        executor.close()


@pytest.mark.slow
def test_the_driver_and_each_worker_write_a_trace(tmp_path: Path, four_cpus: None) -> None:
    """Of the rounds that are asked for, and the bits are those of a run that is not looked at."""
    plain = problem.hashes(problem.train(tmp_path / "plain", "inline", rounds=40))
    traced = problem.train(tmp_path / "traced", fedray.Cluster(workers=2), rounds=40, profile="20-38")
    assert problem.hashes(traced) == plain
    found = sorted(path.name for path in (tmp_path / "traced" / "profile").iterdir())
    assert found[0] == "driver.json.gz"
    assert len(found) == 1 + traced.history[37].workers
    for name in found:
        with gzip.open(tmp_path / "traced" / "profile" / name) as file:
            assert "round 38" in {event.get("name") for event in json.load(file)["traceEvents"]}, name


@pytest.mark.slow
def test_images_in_channels_last_order(tmp_path: Path, four_cpus: None) -> None:
    """Convolutions whose clients step one by one: inline, by one worker and by two, and after a resume."""
    data = class_problem((16,) * 8, (3, 10, 10)).data
    model = fedray.FederatedModel(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3)),
        fedray.optim.SGD(lr=0.1),
        nn.functional.cross_entropy,
    )

    def train(name: str, cluster: Any, rounds: int = 3, resume: bool = False) -> list[str | None]:
        args = fedray.TrainArgs(rounds=rounds, batch_size=8, stack="off", checkpoint_every=1, tracking=[])
        folder = tmp_path / name
        result = fedray.train(model, data, args, cluster=cluster, run_dir=folder, resume=resume, progress=False)
        assert "memory format: channels_last" in RunFolder(folder).log.read_text()
        return problem.hashes(result)

    inline = train("inline", "inline")
    assert len(set(inline)) == 3
    for workers in (1, 2):
        assert train(f"ray-{workers}", fedray.Cluster(workers=workers)) == inline
    train("stopped", fedray.Cluster(workers=2), rounds=1)
    assert train("stopped", "inline", resume=True)[-1] == inline[-1]
