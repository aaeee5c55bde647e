"""Metrics of runs: in records, tables of clients and checkpoints, against scikit-learn on the final models."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rich.console
import torch
from sklearn import metrics as oracle
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

import fedray
from fedray.core.errors import ConfigError
from fedray.core.record import RoundRecord
from fedray.metrics import F1, Metric
from fedray.tracking import Console, RunInfo
from tests.helpers import Problem, class_problem

PROBLEM = class_problem((9, 14, 12, 20, 11), classes=2, test=40, holdout=0.4)
CHOSEN: list[Any] = [
    "accuracy",
    {"name": "f1", "average": "macro"},
    {"name": "recall", "average": "none"},
    "auroc",
    "calibration_error",
    "confusion_matrix",
]
ARGS = {"rounds": 2, "batch_size": 4, "evaluate_clients_every": 1, "optimizer": {"name": "sgd", "lr": 0.3}}


def trained(folder: Path, metrics: Any = CHOSEN, problem: Problem = PROBLEM, **options: Any) -> fedray.Result:
    model = fedray.FederatedModel(problem.model_fn)
    args = fedray.TrainArgs(**{**ARGS, **options})
    algorithm = fedray.Ditto(lam=0.5)
    place: dict[str, Any] = {"cluster": "inline", "run_dir": folder, "progress": False}
    return fedray.train(model, problem.data, args, algorithm=algorithm, metrics=metrics, **place)


def outputs(result: fedray.Result, x: Tensor) -> Tensor:
    with torch.no_grad():
        output: Tensor = result.model(x)
    return output


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> fedray.Result:
    """A run with metrics of all kinds."""
    return trained(tmp_path_factory.mktemp("metrics") / "run")


def test_the_test_set_is_measured_as_scikit_learn_does(run: fedray.Result) -> None:
    test = PROBLEM.data.test
    assert test is not None
    x, y = test.slice(0, len(test))
    output, found = outputs(run, x), run.history[-1].test
    said, margin = output.argmax(dim=1), output[:, 1] - output[:, 0]
    assert list(found) == ["loss", "accuracy", "f1", "recall_0", "recall_1", "auroc", "calibration_error"]
    assert found["accuracy"] == pytest.approx(oracle.accuracy_score(y, said))
    assert found["f1"] == pytest.approx(oracle.f1_score(y, said, average="macro"))
    assert [found["recall_0"], found["recall_1"]] == pytest.approx(oracle.recall_score(y, said, average=None))
    assert found["auroc"] == pytest.approx(oracle.roc_auc_score(y, margin), abs=1e-2)
    matrix = run.history[-1].tables["test"]["confusion_matrix"]
    assert matrix == {"classes": ["0", "1"], "counts": oracle.confusion_matrix(y, said).tolist()}


def test_each_client_is_measured_and_all_together(run: fedray.Result) -> None:
    data, record = PROBLEM.data, run.history[-1]
    table = run.clients().to_pylist()
    last = {row["client"]: row for row in table if row["round"] == 2 and row["view"] == "global"}
    x, y, segment = data.holdout(np.arange(len(data)))
    said = outputs(run, x).argmax(dim=1).numpy()
    for client in range(len(data)):
        own = segment == client
        found = last[data.client_id(client)]
        labels = sorted({*y[own].tolist(), *said[own].tolist()})
        expected = oracle.f1_score(y[own], said[own], average="macro", labels=labels, zero_division=0.0)
        assert found["f1"] == pytest.approx(expected)
        if len(set(y[own].tolist())) == 1:
            assert np.isnan(found["auroc"])
        cells = {(int(one["true"]), int(one["predicted"])): one["count"] for one in found["confusion_matrix"]}
        matrix = oracle.confusion_matrix(y[own], said[own], labels=[0, 1])
        assert cells == {place: count for place, count in np.ndenumerate(matrix) if count}
    assert all(row["confusion_matrix"] for row in table if row["view"] != "train")
    sent = json.loads((run.run_dir / "sent.json").read_text())["told"]["evaluation"]
    assert {"global.confusion_matrix", "personal.confusion_matrix"} <= set(sent)
    whole = record.clients_test["f1"]
    assert whole["mean"] == pytest.approx(oracle.f1_score(y, said, average="macro"))
    assert whole["p50"] == pytest.approx(np.median([row["f1"] for row in last.values()]))
    counts = record.tables["clients_test"]["confusion_matrix"]["counts"]
    assert counts == oracle.confusion_matrix(y, said).tolist()
    assert record.clients_personal.keys() == record.clients_test.keys()


def test_one_by_one_and_in_blocks_of_any_size_it_is_the_same(run: fedray.Result, tmp_path: Path) -> None:
    alone = trained(tmp_path / "run", stack="off")
    for one, other in zip(run.history, alone.history, strict=True):
        assert one.test == pytest.approx(other.test, abs=1e-4)
        for section in ("clients_test", "clients_personal"):
            for name, values in getattr(one, section).items():
                assert values == pytest.approx(getattr(other, section)[name], abs=1e-4, nan_ok=True)


def test_the_record_on_disk_has_them(run: fedray.Result) -> None:
    lines = (run.run_dir / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert last["test"]["f1"] == run.history[-1].test["f1"]
    assert last["tables"] == run.history[-1].tables
    config = (run.run_dir / "config.yaml").read_text()
    assert "metrics:\n- name: accuracy\n" in config
    assert "average: macro" in config


def test_without_a_choice_two_classes_have_the_metrics_of_yes_or_no(run: fedray.Result, tmp_path: Path) -> None:
    plain = trained(tmp_path / "run", None)
    expected = ["loss", "accuracy", "auroc", "f1", "sensitivity", "specificity"]
    assert [list(record.test) for record in plain.history] == [expected] * 2
    test, found = PROBLEM.data.test, plain.history[-1].test
    assert test is not None
    x, y = test.slice(0, len(test))
    said = outputs(plain, x).argmax(dim=1)
    assert [found["specificity"], found["sensitivity"]] == pytest.approx(oracle.recall_score(y, said, average=None))
    assert found["f1"] == pytest.approx(oracle.f1_score(y, said))
    assert "support" in plain.clients().column_names
    for one, other in zip(run.history, plain.history, strict=True):
        assert one.model_sha256 == other.model_sha256
        for name in ("loss", "accuracy"):
            assert one.test[name] == other.test[name]
            assert one.clients_personal[name] == other.clients_personal[name]
    assert "metrics" not in (plain.run_dir / "config.yaml").read_text()
    counts = [int((y == number).sum()) for number in (0, 1)]
    answers = [int((said == number).sum()) for number in (0, 1)]
    table = {"classes": ["0", "1"], "counts": counts, "said": answers, "examples": len(y)}
    assert plain.history[-1].tables["test"] == {"support": table}


def test_without_a_choice_three_classes_have_accuracy_alone(tmp_path: Path) -> None:
    problem = class_problem((9, 14, 12), classes=3, test=40, holdout=0.4)
    plain = trained(tmp_path / "run", None, problem)
    assert [list(record.test) for record in plain.history] == [["loss", "accuracy"]] * 2
    assert list(plain.history[-1].clients_test) == ["loss", "accuracy"]
    assert "support" not in plain.clients().column_names
    assert not plain.history[-1].tables


def test_a_run_stops_and_keeps_its_best_by_them(tmp_path: Path) -> None:
    result = trained(tmp_path / "run", ["f1"], rounds=3, checkpoint_best="clients_personal.f1", stop_metric="test.f1")
    assert result.best is not None
    values = [record.clients_personal["f1"]["mean"] for record in result.history]
    summary = json.loads((result.run_dir / "summary.json").read_text())
    assert summary["best"]["value"] == max(values)


def worst(output: Tensor, target: Tensor) -> Tensor:
    """The probability that an example's class was not given."""
    return 1 - output.softmax(dim=1).gather(1, target[:, None])[:, 0]


def test_functions_and_metrics_made_in_python_are_measured(tmp_path: Path) -> None:
    result = trained(tmp_path / "run", [worst, F1(label="mine")])
    assert list(result.history[-1].test) == ["loss", "worst", "mine"]
    assert (
        "tests.metrics.test_runs.worst" in (result.run_dir / "config.yaml").read_text()
        or "worst" in (result.run_dir / "config.yaml").read_text()
    )


class Broken(Metric):
    """Raises."""

    def update(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        raise RuntimeError("no such thing")


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ([Broken()], r"metrics: broken fails on outputs \(2, 2\) and targets \(2,\): RuntimeError: no such thing"),
        (["mse"], r"metrics\[0\]: mse is a metric of numbers, and the task is classification"),
        ([lambda o, t: o], r"metrics: lambda: it must give one value for each example, \(2,\), got shape \(2, 2\)"),
    ],
)
def test_what_cannot_be_measured_is_told_before_the_run(metrics: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        trained(tmp_path / "run", metrics)
    assert not (tmp_path / "run").exists()


def test_tensorboard_has_each_of_them_by_its_name(run: fedray.Result) -> None:
    events = EventAccumulator(str(run.run_dir))
    events.Reload()
    tags, record = events.Tags()["scalars"], run.history[-1]
    for name, value in record.test.items():
        (last,) = (point.value for point in events.Scalars(f"test/{name}") if point.step == 2)
        assert last == pytest.approx(value)
        assert f"test_clients/{name}/p50" in tags
        assert any("personal" in tag and f"/{name}/mean" in tag for tag in tags)


@pytest.mark.parametrize("chosen", [["f1"], ["auroc", "calibration_error"]])
def test_the_terminal_shows_the_first_of_them(chosen: list[str], run: fedray.Result) -> None:
    out = io.StringIO()
    console = Console(console=rich.console.Console(file=out, width=120, _environ={}), every=0)
    console.start(RunInfo(Path("runs/x"), "metrics", 1, 0, clients=5, parameters=5))
    test = {name: run.history[-1].test[name] for name in ("loss", *chosen)}
    console.round(RoundRecord(1, test=test))
    console.close()
    assert f"test.{chosen[0]} {test[chosen[0]]:.4g}" in out.getvalue()


@pytest.mark.slow
def test_silos_measure_what_one_machine_with_their_tables_does(tmp_path: Path) -> None:
    for name, shift in (("north", 0.0), ("south", 1.5), ("test", 0.5)):
        rows = "".join(f"{i + shift},{i * shift},{'yes' if i % 3 == 0 else 'no'}\n" for i in range(12))
        (tmp_path / f"{name}.csv").write_text("u,v,y\n" + rows)
    files = {name: str(tmp_path / f"{name}.csv") for name in ("north", "south")}
    rest = {"target": "y", "test": str(tmp_path / "test.csv"), "holdout": 0.5}
    places = {name: {"node_label": f"site={name}", "path": path} for name, path in files.items()}
    calls = {"name": "torchmetrics.classification.MulticlassF1Score", "num_classes": 2, "label": "theirs"}
    args = fedray.TrainArgs(rounds=2, evaluate_clients_every=1, stack="off")
    found = [
        fedray.train(
            fedray.FederatedModel("logistic"),
            {**section, **rest},
            args,
            metrics=[{"name": "f1", "average": "macro"}, calls, "auroc", "confusion_matrix"],
            cluster="inline",
            run_dir=tmp_path / str(section["name"]),
            progress=False,
        ).history[-1]
        for section in ({"name": "silos", "silos": places}, {"name": "csv", "train": list(files.values())})
    ]
    assert found[0].test == found[1].test
    assert found[0].test["theirs"] == pytest.approx(found[0].test["f1"])
    assert found[0].tables == found[1].tables
    for name, values in found[0].clients_test.items():
        assert values == pytest.approx(found[1].clients_test[name], nan_ok=True)


class Tags(torch.nn.Module):
    """Logits ``[B, T, K]`` of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = torch.nn.Embedding(9, 5), torch.nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(self.embed(x))
        return found


def test_the_loss_of_an_evaluation_is_over_the_positions_that_count(tmp_path: Path) -> None:
    """Of each client, of all together and of the test set, as perplexity has it; and of the training."""
    draw = np.random.default_rng(2)
    owner = np.repeat(np.arange(4), (6, 9, 5, 7))
    x, length = draw.integers(0, 9, (len(owner), 8)), draw.integers(0, 9, len(owner))
    y = np.where(np.arange(8) < np.where(owner == 3, 0, length)[:, None], draw.integers(0, 3, x.shape), 3)
    data = fedray.FederatedData.from_arrays(x, y, owner, test=(x, y)).with_holdout(0.4, 1)
    torch.manual_seed(0)
    start = Tags()
    result = fedray.train(
        fedray.FederatedModel(lambda: copy.deepcopy(start), task={"name": "token_classification", "ignore_index": 3}),
        data,
        fedray.TrainArgs(1, epochs=1, batch_size="full", evaluate_clients_every=1),
        algorithm=fedray.Ditto(lam=0.5),
        metrics=["perplexity"],
        cluster="inline",
        run_dir=tmp_path / "run",
        progress=False,
    )
    record = result.history[-1]

    def by_hand(module: torch.nn.Module, inputs: Any, targets: Any) -> float:
        with torch.no_grad():
            logits, classes = module(torch.as_tensor(inputs)).double().flatten(0, 1), torch.as_tensor(targets).flatten()
            return float(torch.nn.functional.cross_entropy(logits, classes, ignore_index=3))

    assert record.test["loss"] == pytest.approx(by_hand(result.model, x, y), rel=1e-5)
    trained_on = [data.rows(np.array([c])).take(np.arange(data.sizes[c])[None]) for c in range(4)]
    rows = [torch.cat([pair[part][0] for pair in trained_on]) for part in (0, 1)]
    assert record.train["loss"] == pytest.approx(by_hand(start, *rows), rel=1e-5)
    for view in (record.clients_test, record.clients_personal):
        assert view["loss"]["mean"] == pytest.approx(np.log(view["perplexity"]["mean"]), rel=1e-6)
        assert np.isfinite(view["loss"]["client_mean"]), "one client has none, and is left out"
    for row in result.clients().to_pylist():
        if row["view"] == "train":
            assert np.isnan(row["loss"]) == (row["client"] == "3")
        else:
            assert np.log(row["perplexity"]) == pytest.approx(row["loss"], rel=1e-6, nan_ok=True)
