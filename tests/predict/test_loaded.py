"""What is predicted from a run folder alone are the numbers that evaluations measure."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow.csv
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from torch import nn

import fedray
from fedray.core.errors import ConfigError
from tests.predict.conftest import Trained


def test_predictions_are_what_evaluations_measure(hospitals: Trained) -> None:
    predictor = fedray.load(hospitals.folder)
    found, truth = predictor.predict(hospitals.test), pyarrow.csv.read_csv(hospitals.test)["diagnosis"].to_pylist()
    assert found.probabilities is not None
    assert found.classes == ("benign", "malignant")
    assert accuracy_score(truth, found) == hospitals.metrics["accuracy"]
    assert log_loss(truth, found.probabilities) == pytest.approx(hospitals.metrics["loss"], rel=1e-6)
    malignant = np.array(truth) == "malignant"
    assert roc_auc_score(malignant, found.outputs[:, 1] - found.outputs[:, 0]) == hospitals.metrics["auc"]
    assert predictor.round == 2


def test_an_earlier_round_is_another_model(hospitals: Trained) -> None:
    with pytest.raises(ConfigError, match="no checkpoint of round 7; there are"):
        fedray.load(hospitals.folder, round=7)
    with pytest.raises(ConfigError, match="is no run folder"):
        fedray.load(hospitals.folder / "checkpoints")


@pytest.mark.parametrize(
    ("name", "task", "y", "outputs"),
    [
        ("binary", "binary", np.arange(40) % 2, 1),
        ("multilabel", "multilabel", np.stack([np.arange(40) % 2, np.arange(40) % 3 > 0], axis=1).astype("f4"), 2),
        ("regression", None, np.linspace(90, 110, 40, dtype="f4"), 1),
    ],
)
def test_other_tasks(name: str, task: str | None, y: np.ndarray, outputs: int, tmp_path: Path) -> None:
    """A run from Python, whose module is given."""
    x = np.stack([np.arange(40) % 2, np.arange(40) % 3, np.linspace(-1, 1, 40)], axis=1).astype("f4")
    data = fedray.FederatedData.from_arrays(x, y, np.arange(40) // 20, test=(x, y))
    args = fedray.TrainArgs(rounds=1, optimizer={"name": "sgd", "lr": 0.01})

    def linear() -> nn.Module:
        return nn.Linear(3, outputs)

    model = fedray.FederatedModel(linear, task=task)
    result = fedray.train(model, data, args, cluster="inline", run_dir=tmp_path / "run", progress=False)
    with pytest.raises(ConfigError, match=r"model: this run was started from Python.*fedray predict --model"):
        fedray.load(tmp_path / "run")
    predictor = fedray.load(tmp_path / "run", model=linear)
    found = predictor.predict(x)
    with torch.no_grad():
        wanted = result.model(torch.from_numpy(x)).numpy()
    assert np.array_equal(found.outputs, wanted)
    record = result.history[-1].test
    if name == "regression":
        assert found.probabilities is None
        assert np.mean((found.predicted - y) ** 2) == pytest.approx(record["mse"], rel=1e-5)
        with pytest.raises(ConfigError, match="gives numbers, not classes"):
            predictor.predict_proba(x)
    elif name == "binary":
        assert (found.predicted == y.astype(str)).mean() == record["accuracy"]
        assert found.columns().keys() == {"predicted", "0", "1"}
    else:
        assert (found.predicted == y).mean() == pytest.approx(record["accuracy"])
        assert predictor.predict_proba(x).shape == (40, 2)


def test_code_of_ones_own_is_looked_for_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    monkeypatch.chdir(tmp_path / "own")
    Path("my_net.py").write_text("from torch import nn\n\ndef net(spec):\n    return nn.Linear(*spec.shape, 2)\n")
    data = fedray.FederatedData.from_arrays([[0.0], [1.0]], [0, 1], clients=["a", "b"])
    args = fedray.TrainArgs(rounds=1)
    fedray.train(
        fedray.FederatedModel("my_net:net"), data, args, cluster="inline", run_dir=tmp_path / "run", progress=False
    )
    assert len(fedray.load(tmp_path / "run").predict([[0.5]])) == 1
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("my_net")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not path.endswith("own")])
    with pytest.raises(ConfigError, match=r"\nmy_net:net is code of your own: start in the folder that has it"):
        fedray.load(tmp_path / "run")
