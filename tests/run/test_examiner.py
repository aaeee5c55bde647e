"""Evaluations of clients, over every algorithm: the same numbers whoever does them, as often as it takes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import fedray
from fedray.algorithms.base import Algorithm
from fedray.config.sections import EvaluateSection
from fedray.core.record import VIEWS
from tests.helpers import class_problem

# Of more clients than are evaluated as one item, and 1 of them without held-out rows.
PROBLEM = class_problem((7, 3, 12, 9, 1, 6, 5, 8), test=20, holdout=0.3)
EVALUATE = EvaluateSection(1, 1, finetune={"epochs": 1}, before=True)


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
    assert [f"{section}.accuracy" in out for section in VIEWS.values()] == [True] * 3


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
