"""A model is measured as a run measures it, and on whatever test set it is given."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from torch import nn

from fedray.core.errors import ConfigError
from fedray.core.losses import cross_entropy, mse
from fedray.data import Examples
from fedray.experiment.evaluate import checkpoint_of, evaluate_model
from fedray.metrics import measured
from fedray.rundir.checkpoint import rounds_in
from fedray.rundir.folder import RunFolder
from fedray.tasks import Classification, Regression
from tests.cli.command import Cli

EARLIER = Path(__file__).resolve().parents[1] / "rundir" / "earlier"


def test_evaluate_says_what_the_last_record_said(cli: Cli, small: Path) -> None:
    cli("run", small, "run.dir=out", "checkpoint.every=1")
    final = json.loads(Path("out/summary.json").read_text())["final"]["test"]
    outcome = cli("evaluate", "out")
    said = {line.split()[0]: float(line.split()[1]) for line in outcome.out.splitlines()}
    assert outcome.status == 0
    assert said["examples"] == 30
    assert {name: said[name] for name in final} == pytest.approx(final, rel=1e-4)
    earlier = cli("evaluate", "out", "--round", 2)
    assert earlier.status == 0
    assert earlier.out != outcome.out


def test_evaluate_takes_another_test_set(cli: Cli, small: Path) -> None:
    rows = {
        "a": "0,1,no\n5,6,yes\n",
        "b": "1,0,no\n6,6,yes\n",
        "test": "1,1,no\n",
        "later": "5,5,yes\n6,5,no\n7,7,yes\n",
    }
    for name, text in rows.items():
        Path(f"{name}.csv").write_text("u,v,y\n" + text)
    data = "data={name: csv, train: [a.csv, b.csv], test: test.csv, target: y}"
    assert cli("run", small, "run.dir=out", data, "-q").status == 0
    assert float(cli("evaluate", "out").out.split()[1]) == 1
    assert float(cli("evaluate", "out", "--data", "later.csv").out.split()[1]) == 3
    cli("evaluate", "out", "--data", "latter.csv").refused("latter.csv does not exist")
    (Path("later.csv")).write_text("u,v,y\n5,yes\n")
    cli("evaluate", "out", "--data", "later.csv").refused("later.csv, line 2: 2 cells")
    assert Path("out/config.yaml").read_text().count("test.csv") == 1


def test_a_table_of_the_training_is_no_test(cli: Cli, small: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b", "test"):
        Path(f"{name}.csv").write_text("u,v,y\n" + f"0,{len(name)},no\n5,6,yes\n" * 5)
    data = "data={name: csv, train: [a.csv, b.csv], target: y, test: test.csv}"
    assert cli("run", small, "run.dir=out", data, "-q").status == 0
    assert cli("run", small, "run.dir=held", data, "data.holdout=0.2", "-q").status == 0
    shutil.copy("b.csv", "new.csv")
    caplog.clear()
    assert cli("evaluate", "out").status == 0
    assert "no test" not in caplog.text
    assert cli("evaluate", "out", "--data", "new.csv").status == 0
    assert "new.csv has the rows of 'b' that the model was trained on: this is no test" in caplog.text
    assert "held out" not in caplog.text
    assert cli("evaluate", "held", "--data", "new.csv").status == 0
    assert "this is no test; only the rows that were held out are new to it" in caplog.text


def test_what_is_advised_where_there_is_no_test_set_can_be_done(cli: Cli, small: Path) -> None:
    for name in ("a", "b"):
        Path(f"{name}.csv").write_text("u,v,y\n" + f"0,{len(name)},no\n5,6,yes\n" * 5)
    tables = ["data={name: csv, train: [a.csv, b.csv], target: y}"]
    for data, folder in ((tables, "tables"), (["data.test=0"], "arrays")):
        assert cli("run", small, f"run.dir={folder}", *data, "-q").status == 0
        cli("evaluate", folder).refused("this run has no test set", "a new run, by data.holdout=0.2")
        assert cli("run", small, f"run.dir={folder}2", *data, "data.holdout=0.2", "-q").status == 0
        cli("evaluate", f"{folder}2").refused(
            f"evaluate the clients, each on held-out rows of its own: fedray evaluate {folder}2"
        )
        assert cli("evaluate", f"{folder}2", "--clients").status == 0


def linear(weights: list[list[float]]) -> nn.Linear:
    """A linear layer without a bias."""
    layer = nn.Linear(len(weights[0]), len(weights), bias=False)
    layer.weight.data = torch.tensor(weights)
    return layer


@given(st.integers(1, 40), st.integers(1, 7))
def test_how_it_is_cut_does_not_change_what_is_measured(rows: int, piece: int) -> None:
    """And it is what scikit-learn measures."""
    draw = np.random.default_rng(rows)
    x, y = draw.standard_normal((rows, 3)).astype("f4"), draw.integers(0, 2, rows)
    y[: min(2, rows)] = [0, 1][: min(2, rows)]
    module = linear([[1.0, -2.0, 0.5], [0.0, 1.0, 1.0]])
    test = Examples(torch.from_numpy(x), torch.from_numpy(y))
    found = evaluate_model(module, test, measured(cross_entropy, Classification()), rows=piece).numbers
    scores = x @ module.weight.detach().numpy().T
    assert found["examples"] == rows
    assert found["accuracy"] == pytest.approx(accuracy_score(y, scores.argmax(axis=1)))
    shares = np.exp(scores.astype("f8"))
    shares /= shares.sum(axis=1, keepdims=True)
    assert found["loss"] == pytest.approx(log_loss(y, shares, labels=[0, 1]), rel=1e-5)
    if rows > 1:
        assert found["auc"] == pytest.approx(roc_auc_score(y, scores[:, 1] - scores[:, 0]))


def test_a_model_is_measured_in_evaluation_mode_and_without_a_graph() -> None:
    seen: list[tuple[bool, bool]] = []

    class Watched(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append((self.training, torch.is_grad_enabled()))
            return super().forward(x)

    test = Examples(torch.zeros(3, 2), torch.zeros(3, 1))
    assert evaluate_model(Watched(2, 1), test, measured(mse, Regression())).numbers.keys() == {
        "examples",
        "loss",
        "mse",
    }
    assert seen == [(False, False)]


def test_a_checkpoint_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(ConfigError, match=r": no checkpoint; there are: none$"):
        checkpoint_of(folder, None)
    shutil.copytree(EARLIER / "run", tmp_path / "run")
    earlier = RunFolder(tmp_path / "run")
    known = rounds_in(earlier.checkpoints)
    assert checkpoint_of(earlier, None).round == max(known)
    with pytest.raises(ConfigError, match=rf"no checkpoint of round 99; there are: {known[0]}"):
        checkpoint_of(earlier, 99)
