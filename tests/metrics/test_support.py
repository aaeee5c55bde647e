"""The examples of each class, which metrics of single classes rest on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedray
from fedray.core.losses import cross_entropy
from fedray.core.one_answer import OneAnswer
from fedray.data.spec import DataSpec
from fedray.metrics import AUROC, Accuracy, ConfusionMatrix, Dice, Metric, Sensitivity, measured
from fedray.metrics.measures import together
from fedray.metrics.sums import on_host
from fedray.metrics.support import MOST_CLASSES, Support
from fedray.tasks import Multilabel, inferred
from tests.helpers import class_problem

OUTPUT, TARGET = torch.randn(30, 3, generator=torch.Generator().manual_seed(1)), torch.arange(30) % 2


def test_each_class_is_counted_also_one_without_examples() -> None:
    metric = Support().of(inferred(OUTPUT, TARGET))
    cells = metric.cells(metric.state(OUTPUT, TARGET))
    assert cells == [{"class": name, "count": count} for name, count in (("0", 15), ("1", 15), ("2", 0))]


def test_where_each_class_is_a_question_its_yes_is_counted() -> None:
    target = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    metric = Support().of(Multilabel().of(DataSpec((4,), 2, classes=("cough", "fever"))))
    cells = metric.cells(metric.state(torch.zeros(3, 2), target))
    assert cells == [{"class": "cough", "count": 3}, {"class": "fever", "count": 1}]


@pytest.mark.parametrize(
    ("chosen", "there"),
    [
        (AUROC(), True),
        (Sensitivity(average="macro"), True),
        (Accuracy(), False),
        (Dice(), False),
        (ConfusionMatrix(), False),
    ],
)
def test_it_goes_with_metrics_that_rest_on_single_classes(chosen: Metric, there: bool) -> None:
    measures = measured(cross_entropy, inferred(OUTPUT, TARGET), [chosen])
    assert ("support" in {metric.title for metric in measures.metrics}) == there
    assert "support" not in measures.trial(OUTPUT, TARGET)


def test_very_many_classes_are_not_counted() -> None:
    many = inferred(torch.zeros(2, MOST_CLASSES + 1), torch.zeros(2, dtype=torch.int64))
    assert [metric.title for metric in measured(cross_entropy, many, [AUROC()]).metrics] == ["auroc"]


def test_what_is_sent_of_each_client_are_counts_alone() -> None:
    measures = measured(cross_entropy, inferred(OUTPUT, TARGET), [AUROC()])
    states = measures.states(on_host(measures(OUTPUT, TARGET)), np.arange(30) % 3, 3)
    each = measures.apart(states)["support"]
    assert [set(state) for state in each] == [{"pairs"}] * 3
    assert [sum(cell["count"] for cell in measures.cells("support", state) or ()) for state in each] == [10] * 3
    whole = measures.tables(together(states))["support"]
    assert (whole["examples"], whole["counts"], sum(whole["said"])) == (30, [15, 15, 0], 30)


def test_one_answer_is_known_of_each_client() -> None:
    target, group = torch.tensor([0, 0, 1, 1, 1, 1]), np.array([0, 0, 0, 1, 1, 2])
    output = torch.stack([torch.tensor([1.0, 1.0, 1.0, 1.0, -1.0, -1.0]), torch.zeros(6)], dim=1)
    measures = measured(cross_entropy, inferred(output, target), [AUROC()])
    states = measures.states(on_host(measures(output, target)), group, 3)
    assert measures.only(measures.apart(states)["support"]) == [OneAnswer("0", 1, 3), None, None]
    assert measures.only([]) == []


def test_the_table_of_clients_has_the_counts_and_the_ledger_says_so(tmp_path: Path) -> None:
    problem = class_problem((9, 14, 12), classes=2, holdout=0.4)
    place: dict[str, Any] = {"cluster": "inline", "run_dir": tmp_path / "run", "progress": False}
    args = fedray.TrainArgs(rounds=1, batch_size=4, evaluate_clients_every=1)
    result = fedray.train(fedray.FederatedModel(problem.model_fn), problem.data, args, metrics=["auroc"], **place)
    rows = [row for row in result.clients().to_pylist() if row["view"] == "global"]
    _, y, segment = problem.data.holdout(np.arange(3))
    for client, row in enumerate(rows):
        counts = [cell["count"] for cell in row["support"]]
        assert counts == np.bincount(y[segment == client], minlength=2).tolist()
        assert np.isnan(row["auroc"]) == (min(counts) == 0)
    told = json.loads((tmp_path / "run" / "sent.json").read_text())["told"]["evaluation"]
    assert "global.support" in told
