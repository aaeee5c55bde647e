"""Targets in standard units: trained on, and taken back wherever a person looks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import fedray
from fedray.core.errors import ConfigError
from fedray.core.losses import per_example
from fedray.experiment.export import export_model
from fedray.local.losses import loss_on
from fedray.rundir.folder import RunFolder
from fedray.tasks import Regression
from fedray.tasks.standardized import StandardizedLoss, target_moments

DRAW = np.random.default_rng(4)
X = DRAW.standard_normal((90, 3)).astype("f4")
Y = np.stack([5000 + 300 * X[:, 0], 0.01 * X[:, 1] - 0.2], axis=1).astype("f4")
CLIENTS = np.repeat([0, 1, 2], [50, 30, 10])
SECTION: dict[str, Any] = {"name": "regression", "standardize_target": True}


def data(y: Any = Y, clients: Any = CLIENTS) -> fedray.FederatedData:
    return fedray.FederatedData.from_arrays(X, y, clients, test=(X, y)).with_holdout(0.2, 0)


def linear() -> torch.nn.Module:
    return torch.nn.Linear(3, 2)


def run(folder: Path, task: Any, **options: Any) -> fedray.Result:
    resume, rounds, loss = options.pop("resume", False), options.pop("rounds", 4), options.pop("loss", None)
    given = options.pop("data", data())
    model = fedray.FederatedModel(linear, lambda p: torch.optim.SGD(p, lr=0.1), loss, task=task)
    args = fedray.TrainArgs(rounds=rounds, evaluate_clients_every=2, **options)
    metrics = ["mse", "mae", "r2"]
    return fedray.train(
        model, given, args, metrics=metrics, cluster="inline", run_dir=folder, resume=resume, progress=False
    )


def test_moments_are_those_of_all_training_rows_whatever_the_order_of_the_clients() -> None:
    held = data()
    mean, std = target_moments(held)
    rows = np.concatenate([held.targets(client).numpy() for client in range(3)]).astype(np.float64)
    assert mean == pytest.approx(rows.mean(axis=0), rel=1e-12)
    assert std == pytest.approx(rows.std(axis=0), rel=1e-9)
    plain = [fedray.FederatedData.from_arrays(X, Y, order[CLIENTS]) for order in np.array([[0, 1, 2], [2, 0, 1]])]
    first, other = (target_moments(one) for one in plain)
    assert np.array_equal(first, other)


def test_a_constant_target_is_only_centred_and_pictures_have_one_number_for_all() -> None:
    mean, std = target_moments(data(np.full(90, 7.0, "f4")))
    assert (mean.tolist(), std.tolist()) == ([7.0], [1.0])
    pictures = DRAW.random((90, 4, 4)).astype("f4")
    mean, _ = target_moments(data(pictures))
    assert mean.shape == (1,)


def test_a_function_of_clients_has_the_same_moments() -> None:
    def load(client: int) -> tuple[Any, Any]:
        return X[client == CLIENTS], Y[client == CLIENTS]

    lazy = fedray.FederatedData.from_function(load, range(3)).with_holdout(0.2, 0)
    assert np.array_equal(target_moments(lazy), target_moments(data()))


def test_the_loss_is_that_of_standardised_targets_and_moves_with_its_weights() -> None:
    output, target = torch.randn(5, 2), torch.randn(5, 2) * 300
    loss = StandardizedLoss(torch.nn.functional.smooth_l1_loss, [3.0, 4.0], [2.0, 8.0])
    wanted = torch.nn.functional.smooth_l1_loss(output, (target - torch.tensor([3.0, 4.0])) / torch.tensor([2.0, 8.0]))
    assert torch.equal(loss(output, target), wanted)
    assert per_example(loss, output, target).mean() == pytest.approx(float(wanted), rel=1e-6)
    moved = loss_on(loss, torch.device("meta"))
    assert isinstance(moved, StandardizedLoss)
    assert moved.mean.device == torch.device("meta")


@pytest.mark.parametrize("loss", [None, torch.nn.functional.smooth_l1_loss], ids=["the task's", "one's own"])
def test_it_is_a_run_on_targets_that_were_standardised_by_hand(loss: Any, tmp_path: Path) -> None:
    mean, std = target_moments(data())
    by_hand = run(tmp_path / "hand", None, loss=loss, data=data(((Y - mean) / std).astype("f4")))
    own = run(tmp_path / "own", SECTION, loss=loss)
    for mine, other in zip(own.history, by_hand.history, strict=True):
        assert mine.train["loss"] == pytest.approx(other.train["loss"], rel=1e-4)
    test, hand = own.history[-1].test, by_hand.history[-1].test
    assert test["loss"] == pytest.approx(hand["loss"], rel=1e-4)
    assert test["mae"] > 10 * hand["mae"]  # in the targets' own unit
    assert own.history[-1].clients_test["mae"]["mean"] > 10
    assert "task: regression: as the config says; the model learns targets in standard units of" in (
        (own.run_dir / "log.txt").read_text()
    )


def test_stacked_is_alone(tmp_path: Path) -> None:
    stacked, alone = (run(tmp_path / how, SECTION, stack=how) for how in ("auto", "off"))
    assert stacked.history[-1].test == pytest.approx(alone.history[-1].test, rel=1e-4)


def test_resumed_evaluated_predicted_and_exported_it_keeps_its_moments(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", SECTION)
    run(tmp_path / "parts", SECTION, rounds=2)
    again = run(tmp_path / "parts", SECTION, resume=True)
    assert again.history[-1].model_sha256 == whole.history[-1].model_sha256
    predictor = fedray.load(whole.run_dir, model=linear)
    predicted = predictor.predict(X).predicted
    error = np.abs(predicted - Y).mean()
    assert error == pytest.approx(whole.history[-1].test["mae"], rel=1e-5)
    export_model(RunFolder(whole.run_dir), tmp_path / "m.safetensors")
    told = json.loads((tmp_path / "outputs.json").read_text())
    module = linear()
    module.load_state_dict(load_file(tmp_path / "m.safetensors"))
    with torch.no_grad():
        by_hand = module(torch.from_numpy(X)).numpy() * told["std"] + told["mean"]
    assert np.allclose(by_hand, predicted, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"standardize_target": True, "mean": [1.0]}, "mean and std belong together"),
        ({"mean": [1.0], "std": [1.0]}, "mean and std are for standardize_target: true"),
        ({"standardize_target": True, "mean": [1.0], "std": [0.0]}, "each std above 0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Regression(**options)


def test_given_numbers_are_taken_and_must_be_as_many_as_targets(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"task\.mean: 3 numbers are given for targets \(2, 2\)"):
        run(tmp_path / "run", {**SECTION, "mean": [1.0] * 3, "std": [1.0] * 3})
    given = run(tmp_path / "given", {**SECTION, "mean": [5000.0, 0.0], "std": [300.0, 1.0]}, rounds=1)
    assert "standard units of 5000 ± 300, 0 ± 1" in (given.run_dir / "log.txt").read_text()


def test_silos_tell_the_sums_of_their_targets_and_sent_json_says_so(tmp_path: Path) -> None:
    silos = {}
    for client in range(3):
        path, own = tmp_path / f"{client}.csv", client == CLIENTS
        pairs = zip(X[own, 0].tolist(), Y[own, 0].tolist(), strict=True)
        path.write_text("u,y\n" + "".join(f"{x!r},{y!r}\n" for x, y in pairs))
        silos[f"s{client}"] = {"node_label": f"site={client}", "path": str(path)}
    section = {"name": "silos", "silos": silos, "target": "y", "task": "regression"}
    model, args = fedray.FederatedModel("logistic", task=SECTION), fedray.TrainArgs(rounds=1)
    found = fedray.train(model, section, args, cluster="inline", run_dir=tmp_path / "run", progress=False)
    asked = json.loads((found.run_dir / "sent.json").read_text())["before"]["1"]
    assert [one["question"] for one in asked][-2:] == ["target_sums", "target_sums"]
    assert asked[-1]["answer"].startswith("Sum the targets of the training rows")
    mean, std = Y[:, 0].astype(np.float64).mean(), Y[:, 0].astype(np.float64).std()
    assert f"standard units of {mean:.4g} ± {std:.4g}" in (found.run_dir / "log.txt").read_text()
