"""The threshold of a decision between two classes, for metrics and predictions alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle

import fedray
from fedray.config.registry import bind_part
from fedray.core.errors import ConfigError
from fedray.data import DataSpec
from fedray.metrics import F1, CalibrationError, Metric, Sensitivity, Specificity
from fedray.tasks import Binary, Classification, Multilabel, Regression, Segmentation, Task, tasks
from tests.helpers import class_problem

DRAW = torch.Generator().manual_seed(2)
MARGIN, YES = torch.randn(300, generator=DRAW), torch.randint(0, 2, (300,), generator=DRAW)
PAIRS = torch.stack([torch.zeros(300), MARGIN], dim=1) + torch.randn(300, 1, generator=DRAW)
SPEC = DataSpec((4,), 2, classes=("well", "ill"))
OUTPUTS = {"binary": MARGIN[:, None], "classification": PAIRS}


def task_of(name: str, **options: Any) -> Task:
    found: Task = bind_part(tasks, {"name": name, **options}, "task")
    return found.of(SPEC)


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.8])
def test_the_second_class_is_the_answer_above_it(name: str, threshold: float) -> None:
    task, output = task_of(name, threshold=threshold), OUTPUTS[name]
    p = torch.sigmoid(MARGIN.double())
    said = (p > threshold).long()
    assert torch.equal(task.predicted(output), said)
    assert torch.equal(task.answers(output, YES).predicted, said[:, None])
    cases: list[tuple[Metric, float]] = [
        (Sensitivity(), oracle.recall_score(YES, said)),
        (Specificity(), oracle.recall_score(YES, said, pos_label=0)),
        (F1(), oracle.f1_score(YES, said)),
    ]
    for metric, expected in cases:
        assert metric.on(output, YES, task) == pytest.approx(expected)
    torch.testing.assert_close(task.confidence(output)[:, 0], torch.where(said > 0, p, 1 - p).float())
    assert "; ill is the answer above a probability of" in task.targets


@pytest.mark.parametrize("name", OUTPUTS)
def test_one_half_changes_no_bit(name: str) -> None:
    output, task = OUTPUTS[name], task_of(name)
    same, said = task_of(name, threshold=0.5), (MARGIN > 0).long()
    likeliest = output.argmax(dim=1) if name == "classification" else said
    largest = output.softmax(dim=1).amax(dim=1) if name == "classification" else torch.sigmoid(MARGIN.abs())
    for one in (task, same, task.at(0.3).at(0.5)):
        assert torch.equal(one.predicted(output), likeliest)
        assert torch.equal(one.confidence(output)[:, 0], largest)
        assert CalibrationError().on(output, YES, one) == CalibrationError().on(output, YES, task)
    assert same.targets == task.targets
    assert torch.equal(task.at(0.3).loss_fn(output, YES), task.loss_fn(output, YES))


@pytest.mark.parametrize("threshold", [0, 1, 1.5, -0.1])
def test_what_is_no_probability_between_0_and_1_is_refused(threshold: float) -> None:
    for name in OUTPUTS:
        with pytest.raises(ConfigError, match=r"threshold=.*a probability above 0 and below 1 is needed, such as 0\.3"):
            task_of(name, threshold=threshold)
        with pytest.raises(ConfigError, match=r"threshold=.*a probability above 0 and below 1"):
            task_of(name).at(threshold)


@pytest.mark.parametrize("name", ["multilabel", "regression", "segmentation", "causal_lm"])
def test_other_tasks_have_none(name: str) -> None:
    with pytest.raises(ConfigError, match=r"threshold"):
        bind_part(tasks, {"name": name, "threshold": 0.3}, "task")
    with pytest.raises(ConfigError, match=f"of two classes.*, and the task is {name}; leave it out"):
        tasks[name]().at(0.3)


def test_there_are_two_classes_and_two_outputs() -> None:
    with pytest.raises(ConfigError, match="the second of two classes, and there are 3; leave it out"):
        Classification(threshold=0.3).of(DataSpec((4,), 3))
    with pytest.raises(ConfigError, match=r"has two outputs, or one with task: binary; it gives \(8, 5\)"):
        Classification(threshold=0.3).of(SPEC).check((8, 5), (8,))
    assert not any(hasattr(kind, "threshold") for kind in (Multilabel, Regression, Segmentation))
    assert Binary().threshold == 0.5


PROBLEM = class_problem((30, 40, 50), classes=2, test=120, holdout=0.3)


def trained(folder: Path, task: Any) -> fedray.Result:
    model = fedray.FederatedModel(PROBLEM.model_fn, task=task)
    args = fedray.TrainArgs(rounds=2, batch_size=8, evaluate_clients_every=1)
    return fedray.train(model, PROBLEM.data, args, cluster="inline", run_dir=folder, progress=False)


def test_a_run_and_its_predictions_have_one_threshold(tmp_path: Path) -> None:
    usual, low = (
        trained(tmp_path / "usual", None),
        trained(tmp_path / "low", {"name": "classification", "threshold": 0.2}),
    )
    one, other = usual.history[-1], low.history[-1]
    assert (one.model_sha256, one.test["loss"], one.test["auroc"]) == (
        other.model_sha256,
        other.test["loss"],
        other.test["auroc"],
    )
    test = PROBLEM.data.test
    assert test is not None
    x, y = test.slice(0, len(test))
    for record, folder, threshold in ((one, "usual", 0.5), (other, "low", 0.2)):
        found = fedray.load(tmp_path / folder, model=PROBLEM.model_fn).predict(x)
        assert found.probabilities is not None
        said = found.probabilities[:, 1] > threshold
        assert found.predicted.tolist() == said.astype(int).astype(str).tolist()
        assert record.test["sensitivity"] == pytest.approx(oracle.recall_score(y, said))
    assert other.test["sensitivity"] > one.test["sensitivity"]
    again = fedray.load(tmp_path / "usual", model=PROBLEM.model_fn, threshold=0.2).predict(x)
    assert np.array_equal(again.predicted, found.predicted)
    model = fedray.FederatedModel(PROBLEM.model_fn)
    evaluated = fedray.evaluate(tmp_path / "usual", model, PROBLEM.data, threshold=0.2)
    assert {name: evaluated[name] for name in other.test} == other.test
    assert "above a probability of 0.2" in (tmp_path / "low" / "log.txt").read_text()
    assert "above a probability" not in (tmp_path / "usual" / "log.txt").read_text()
