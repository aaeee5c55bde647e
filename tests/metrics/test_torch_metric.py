"""Metrics of torchmetrics: by sums over clients what the library makes of all examples at once."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedray
from fedray.core.errors import ConfigError
from fedray.data.spec import DataSpec
from fedray.metrics import TorchMetric
from fedray.metrics.measures import together
from fedray.metrics.sums import on_host
from fedray.tasks import Binary, Classification, Regression, Segmentation, Task

DRAW = torch.Generator().manual_seed(1)
NUMBERS = torch.rand(90, 1, generator=DRAW) + 1, torch.rand(90, 1, generator=DRAW) + 1
LOGITS, CLASSES = torch.randn(90, 3, generator=DRAW), torch.randint(3, (90,), generator=DRAW)
PIXELS, MASKS = torch.randn(90, 3, 2, 2, generator=DRAW), torch.randint(3, (90, 2, 2), generator=DRAW)
THREE, ONE = DataSpec((4,), 3), DataSpec((4,), 1, "regression")

CASES: dict[str, tuple[str, dict[str, Any], Task, Any, Any]] = {
    "mape": ("MeanAbsolutePercentageError", {}, Regression().of(ONE), *NUMBERS),
    "r2": ("R2Score", {}, Regression().of(ONE), *NUMBERS),
    "f1": ("F1Score", {"task": "multiclass", "num_classes": 3}, Classification().of(THREE), LOGITS, CLASSES),
    "auroc": (
        *("AUROC", {"task": "binary", "thresholds": 20}),
        *(Binary().of(DataSpec((4,), 2)), LOGITS[:, :1], (CLASSES > 1).long()),
    ),
    "kappa": ("CohenKappa", {"task": "multiclass", "num_classes": 3}, Segmentation().of(THREE), PIXELS, MASKS),
}


def made(name: str, **options: Any) -> Any:
    """Make a metric of torchmetrics, whose import takes seconds."""
    return getattr(importlib.import_module("torchmetrics"), name)(**options)


@pytest.mark.parametrize("name", CASES)
def test_the_sums_of_clients_give_what_the_library_gives_of_all(name: str) -> None:
    title, options, task, output, target = CASES[name]
    original = made(title, **options)
    metric = TorchMetric(original).of(task)
    rows, groups = on_host(metric.update(output, target)), np.repeat([2, 0, 1], [40, 49, 1])
    states = metric.states(rows, groups, 3)
    whole = together([{"it": state} for state in states])["it"]
    original.set_dtype(torch.float64)
    taken = output.reshape(target.shape) if output.numel() == target.numel() else output
    target = target.double() if target.is_floating_point() else target
    original.update(taken.double(), target)
    assert metric.compute(whole) == pytest.approx(float(original.compute()), abs=1e-9)
    first = np.flatnonzero(groups == 2)
    original.reset()
    original.update(taken[first].double(), target[first])
    assert metric.compute(states[2]) == pytest.approx(float(original.compute()), abs=1e-9)


def test_single_classes_have_their_names_and_tables_are_tables() -> None:
    named = Classification().of(DataSpec((4,), 3, classes=("low", "mid", "St. Gallen")))
    each = TorchMetric(made("F1Score", task="multiclass", num_classes=3, average=None), "f1")
    numbers = each.of(named).numbers(each.of(named).state(LOGITS, CLASSES))
    assert list(numbers) == ["f1_low", "f1_mid", "f1_St_Gallen"]
    matrix = TorchMetric(made("ConfusionMatrix", task="multiclass", num_classes=3)).of(named)
    state = matrix.state(LOGITS, CLASSES)
    assert matrix.numbers(state) == {}
    table = matrix.table(state)
    assert table is not None
    assert np.array(table).sum() == 90


@pytest.mark.parametrize(
    ("name", "options"),
    [("SpearmanCorrCoef", {}), ("AUROC", {"task": "binary"}), ("MaxMetric", {})],
    ids=["every example", "without thresholds", "the largest"],
)
def test_states_that_are_no_sums_are_refused(name: str, options: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own, of the memory that such states take
        metric = made(name, **options)
    with pytest.raises(ConfigError, match=r"metrics\[0\]: .* of torchmetrics: its states .* are no sums"):
        run([metric])


def run(metrics: list[Any], **options: Any) -> fedray.Result:
    x = NUMBERS[0].numpy()
    y = NUMBERS[1].numpy()
    data = fedray.FederatedData.from_arrays(x, y, np.repeat([0, 1, 2], 30), test=(x, y)).with_holdout(0.3, 1)
    model = fedray.FederatedModel(lambda: torch.nn.Linear(1, 1))
    args = fedray.TrainArgs(rounds=1, evaluate_clients_every=1)
    return fedray.train(model, data, args, metrics=metrics, cluster="inline", progress=False, **options)


def test_a_run_has_them_by_name_or_as_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    named = {"name": "torchmetrics.MeanAbsolutePercentageError", "label": "mape"}
    result = run([named, made("MeanSquaredLogError"), "mae"], run_dir=tmp_path / "run")
    assert result.history[-1].test.keys() == {"loss", "mape", "mean_squared_log_error", "mae"}
    clients = result.clients().to_pylist()[-1]
    assert 0 < clients["mape"] < 2
    assert "name: torchmetrics:MeanAbsolutePercentageError" in (tmp_path / "run" / "config.yaml").read_text()
    assert (
        "MeanAbsolutePercentageError is a metric of torchmetrics, imported from"
        in (tmp_path / "run" / "log.txt").read_text()
    )
    assert "label: mape" in (tmp_path / "run" / "config.yaml").read_text()


def test_a_wrong_name_or_option_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="module 'torchmetrics' has no 'R3Score'"):
        run(["torchmetrics.R3Score"], run_dir=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"MeanSquaredError failed: .* Unexpected keyword arguments: `bins`"):
        run([{"name": "torchmetrics.MeanSquaredError", "bins": 3}], run_dir=tmp_path / "run")


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs torchmetrics; install it: pip install 'fedray\[metrics\]'"):
        run(["torchmetrics.R2Score"], run_dir=tmp_path / "run")


@pytest.mark.slow
def test_the_library_is_imported_only_where_it_is_named() -> None:
    code = "import sys, fedray.metrics, fedray.api; sys.exit('torchmetrics' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
