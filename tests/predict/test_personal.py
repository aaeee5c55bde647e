"""A client's own model predicts as evaluations of clients have it, with nothing but the run folder."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedray
from fedray.core.errors import ConfigError
from fedray.experiment.evaluate_clients import evaluate_clients
from fedray.predict.kept import Rest
from fedray.run.federation import Federation
from fedray.rundir.folder import RunFolder
from tests.experiment.test_evaluate_clients import ARGS, PROBLEM, config_of, normed
from tests.helpers import Problem, seeded

NORMED = replace(PROBLEM, model_fn=seeded(normed))
CASES: dict[str, tuple[Any, Problem, dict[str, Any]]] = {
    "a head of its own": (fedray.FedPer(), PROBLEM, {}),
    "a model of its own": (fedray.Ditto(lam=0.5), PROBLEM, {}),
    "an output of its own": (fedray.FedRoD(), PROBLEM, {}),
    "statistics of its own": (fedray.FedAvg(), NORMED, {"buffers": "local"}),
}
QUICK = replace(ARGS, rounds=2, evaluate_finetune=None)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_predictions_are_what_evaluations_of_clients_count(case: str, tmp_path: Path) -> None:
    algorithm, problem, options = CASES[case]
    config, folder = config_of(algorithm, problem, replace(QUICK, **options)), RunFolder(tmp_path / "run")
    list(config.experiment(folder).records())
    wanted = evaluate_clients(config, folder, None).clients_personal["accuracy"]
    elsewhere = shutil.move(folder.path, tmp_path / "elsewhere")
    right, count, shares = 0, 0, []
    for client in range(len(problem.data)):
        x, y, _ = problem.data.holdout(np.array([client]))
        if not len(x):
            continue
        found = fedray.load(elsewhere, client=str(client), model=problem.model_fn).predict(x)
        assert found.probabilities is not None
        right, count = right + int((found.predicted == y.numpy().astype(str)).sum()), count + len(x)
        shares.append(found.probabilities)
    assert right / count == pytest.approx(wanted["mean"])
    assert np.allclose(np.concatenate(shares).sum(axis=1), 1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of IFCA, whose clients find their model by their training rows."""
    folder = RunFolder(tmp_path_factory.mktemp("ifca") / "run")
    list(config_of(fedray.IFCA(clusters=2), args=QUICK).experiment(folder).records())
    return folder


def test_a_model_that_is_found_by_training_rows_needs_them(run: RunFolder) -> None:
    predictor = fedray.load(run.path, client="1", model=PROBLEM.model_fn)
    with pytest.raises(fedray.RunFailed, match="with ifca a client's model is found by its training rows"):
        predictor.predict(np.zeros((2, 6)))


def test_a_client_that_is_not_there_is_refused(run: RunFolder) -> None:
    with pytest.raises(ConfigError, match=r"--client: there is no '6'; clients are numbers from 0 to 5$"):
        fedray.load(run.path, client="6", model=PROBLEM.model_fn)


def test_clients_without_models_of_their_own_have_none(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    list(config_of(fedray.FedAvg(), args=replace(QUICK, rounds=1)).experiment(folder).records())
    assert Federation.read(folder.path) is None
    with pytest.raises(ConfigError, match="clients of this run have no models of their own"):
        fedray.load(folder.path, client="0", model=PROBLEM.model_fn)
    assert Rest.of(folder).python.keys() == {"data", "model"}
