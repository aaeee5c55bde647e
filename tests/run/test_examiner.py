"""Evaluations of clients, over every algorithm: the same numbers whoever does them, as often as it takes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedray
from fedray.algorithms.base import Algorithm
from fedray.config.sections import EvaluateSection
from fedray.core.messages import Block, Broadcast
from fedray.core.record import VIEWS, RoundRecord
from fedray.run.executor import InlineExecutor
from fedray.run.worker import Item, Job, Report, Worker
from fedray.sampling import Uniform
from tests.helpers import Federation, class_problem, federation, remembered
from tests.laws.parts import ALGORITHMS, every

# Of more clients than are evaluated as one item, and 1 of them without held-out rows.
PROBLEM = class_problem((7, 3, 12, 9, 1, 6, 5, 8), test=20, holdout=0.3)
EVALUATE = EvaluateSection(1, 1, finetune={"epochs": 1}, before=True)


class Several(InlineExecutor):
    """Several workers, each of which dies of its first evaluation: others do it again."""

    def __init__(self, job: Job, count: int) -> None:
        super().__init__(job)
        self._job = job
        self._others = [Worker(job, [torch.device("cpu")]) for _ in range(count)]
        self._down: Broadcast | None = None
        self._died = 0

    def publish(self, down: Broadcast) -> None:
        """Begin the round."""
        super().publish(down)
        self._down = down
        for worker in self._others:
            worker.begin(down)

    def run(self, items: Sequence[Item], stopping: Callable[[], bool]) -> list[Report] | None:
        """Do the blocks here, and evaluations by the others, in another order."""
        reports = super().run([item for item in items if isinstance(item, Block)], stopping)
        assert reports is not None
        assert self._down is not None
        for number, item in enumerate(reversed([item for item in items if not isinstance(item, Block)])):
            place = (self._down.round + number) % len(self._others)
            if self._died <= place:
                self._died += 1
                self._others[place].handle(item)  # nobody hears of it
                self._others[place].close()
                self._others[place] = Worker(self._job, [torch.device("cpu")])
                self._others[place].begin(self._down)
            reports.append(self._others[place].handle(item))
        return reports


def made(folder: Path, algorithm: Algorithm, **options: Any) -> Federation:
    wanted = {"sampler": Uniform(3), "rounds": 3, "evaluate": EVALUATE, "checkpoint_every": 1, **options}
    return federation(PROBLEM, folder, algorithm, **wanted)


def told(records: Sequence[RoundRecord]) -> list[Any]:
    sections = ("round", "test", *VIEWS.values(), "evaluated")
    return [[getattr(record, name) for name in sections] for record in records]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three clients are an item."""
    monkeypatch.setattr("fedray.run.plan._HOLDOUT_CLIENTS", 3)


@pytest.mark.usefixtures("small_chunks")
@every("algorithm", ALGORITHMS)
def test_views_are_the_same_for_any_workers_after_kills_and_resumes(algorithm: Algorithm, tmp_path: Path) -> None:
    whole = made(tmp_path / "whole", algorithm)
    records = whole.run()
    assert [record.round for record in records] == [0, 1, 2, 3]
    assert records[-1].clients_finetuned
    for count in (1, 2, 3):
        other = made(tmp_path / str(count), algorithm)
        other.executor = partial(Several, count=count)
        early = other.run(2)
        # The last round's record is told with its evaluation, which who goes on from the checkpoint does again.
        resumed = made(tmp_path / str(count), algorithm)
        resumed.executor = other.executor
        resumed.restore(other.saves[1])
        assert told(early) == told(records[:3])
        assert told(resumed.run()) == told(records[2:])
        assert torch.equal(resumed.vector, whole.vector)
        for name, part in remembered(resumed).items():
            assert torch.equal(part, remembered(whole)[name]), name


@every("algorithm", ALGORITHMS)
def test_views_of_stacked_clients_are_those_of_each_alone(algorithm: Algorithm, tmp_path: Path) -> None:
    stacked, alone = (made(tmp_path / str(stack), algorithm, stack=stack) for stack in (3, "off"))
    for one, other in zip(stacked.run(), alone.run(), strict=True):
        for section in VIEWS.values():
            found, expected = (getattr(record, section).get("loss", {}) for record in (one, other))
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert stacked.plan.task.stacking.stacked


def test_views_reach_everything_that_tells_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table of clients, the best checkpoint, trackers, and the end of the run in the terminal."""
    args = fedray.TrainArgs(
        rounds=3,
        evaluate_clients_every=1,
        evaluate_finetune={"steps": 2},
        evaluate_keep_clients=1,
        checkpoint_best="clients_personal.accuracy.p10",
        tracking=["csv"],
    )
    model = fedray.FederatedModel(PROBLEM.model_fn, loss_fn=PROBLEM.loss_fn)
    result = fedray.train(
        model, PROBLEM.data, args, algorithm=fedray.Ditto(), cluster="inline", run_dir=tmp_path / "run"
    )
    last = [row for row in result.clients().to_pylist() if row["round"] == 3]
    seen = {view: [row for row in last if row["view"] == view] for view in ("train", *VIEWS)}
    assert [row["view"] for row in last] == [view for view, rows in seen.items() for _ in rows]
    for view, section in VIEWS.items():
        assert [row["client"] for row in seen[view]] == [str(c) for c in np.flatnonzero(PROBLEM.data.holdout_sizes)]
        values, sizes = zip(*((row["accuracy"], row["examples"]) for row in seen[view]), strict=True)
        spread = getattr(result.history[-1], section)["accuracy"]
        assert spread["mean"] == pytest.approx(np.average(values, weights=sizes))
        assert spread["p10"] == pytest.approx(np.percentile(values, 10))
    best = [record.clients_personal["accuracy"]["p10"] for record in result.history]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["best"]["value"] == max(best)
    head = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0]
    told = set(re.split("[,/.]", head.replace('"', "")))
    assert {"clients_test", "clients_personal", "clients_finetuned", "worst"} <= told
    out = capsys.readouterr().out
    assert [f"{view} accuracy" in out for view in VIEWS] == [True] * 3


@pytest.mark.parametrize(
    ("finetune", "every", "said"),
    [
        ({"epochs": 1}, 0, "finetune: clients are not evaluated"),
        ({"epochs": 1, "steps": 1}, 1, "it must be either {epochs: n} or {steps: n}"),
        ({"rounds": 1}, 1, "it must be either {epochs: n} or {steps: n}"),
        ({"steps": 0}, 1, "it must be at least 1"),
    ],
)
def test_a_view_that_cannot_be_is_refused_where_it_is_given(finetune: dict[str, int], every: int, said: str) -> None:
    with pytest.raises(fedray.ConfigError, match=re.escape(said)):
        fedray.TrainArgs(evaluate_clients_every=every, evaluate_finetune=finetune)


@pytest.mark.parametrize(
    ("algorithm", "metric", "said"),
    [
        (fedray.FedAvg(), "clients_personal.loss", "there is clients_test"),
        (fedray.FedPer(), "clients_test.loss", "there is clients_personal"),
        (fedray.FedPer(), "test.loss", "the server has no whole model to test; take a metric of clients_personal"),
    ],
)
def test_nothing_waits_for_a_view_that_there_is_not(
    algorithm: Algorithm, metric: str, said: str, tmp_path: Path
) -> None:
    model = fedray.FederatedModel(PROBLEM.model_fn, loss_fn=PROBLEM.loss_fn)
    args = fedray.TrainArgs(evaluate_clients_every=1, stop_metric=metric)
    with pytest.raises(fedray.ConfigError, match=said):
        fedray.train(model, PROBLEM.data, args, algorithm=algorithm, cluster="inline", run_dir=tmp_path / "run")
