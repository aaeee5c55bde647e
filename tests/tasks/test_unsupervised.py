"""Data without targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedray
from fedray.core.errors import ConfigError
from fedray.core.losses import per_example
from fedray.tasks import CausalLM, Unsupervised
from tests.tasks.test_runs import CLIENTS, IMAGES, TEXT, Language, X, run


def test_the_loss_is_the_mean_output_and_that_of_an_example_its_own() -> None:
    loss, output = Unsupervised().loss_fn, torch.tensor([[1.0, 3.0], [5.0, 7.0]])
    assert float(loss(output, torch.zeros(2, 0))) == 4.0
    assert per_example(loss, output, torch.zeros(2, 0)).tolist() == [2.0, 6.0]


class Reconstruction(torch.nn.Module):
    """An autoencoder that says how wrong it is."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = torch.nn.Linear(6, 2), torch.nn.Linear(2, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wrong: torch.Tensor = self.up(self.down(x)) - x
        return wrong.square().mean(dim=1)


def test_a_model_that_says_its_loss_is_one_that_gives_its_inputs_back(tmp_path: Path) -> None:
    own = run(tmp_path / "none", Reconstruction, X, None)
    given = run(tmp_path / "given", lambda: torch.nn.Sequential(torch.nn.Linear(6, 2), torch.nn.Linear(2, 6)), X, X)
    assert own.history[-1].test["loss"] == pytest.approx(given.history[-1].test["loss"], abs=1e-5)
    said = (own.run_dir / "log.txt").read_text()
    assert "an example: 6 to no target" in said
    assert "task: unsupervised: there are no targets" in said


def test_a_loss_of_ones_own_gets_the_output_alone(tmp_path: Path) -> None:
    result = run(tmp_path, lambda: torch.nn.Linear(6, 2), X, None, loss=lambda output, _: output.square().mean())
    assert result.history[-1].test["loss"] < result.history[0].train["loss"]


def test_tokens_are_their_own_targets(tmp_path: Path) -> None:
    found = [run(tmp_path / name, Language, TEXT, y, CausalLM()) for name, y in (("none", None), ("given", TEXT))]
    assert found[0].history[-1].model_sha256 == found[1].history[-1].model_sha256


def test_another_task_needs_targets(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="task: regression needs targets, and the data has none"):
        run(tmp_path, lambda: torch.nn.Linear(6, 2), X, None, "regression")


@pytest.mark.parametrize("loss", [None, torch.nn.functional.binary_cross_entropy_with_logits])
def test_targets_may_have_any_rank(loss: Any, tmp_path: Path) -> None:
    masks = (IMAGES > 0).astype("f4")
    result = run(tmp_path, lambda: torch.nn.Conv2d(1, 1, 3, padding=1), IMAGES, masks, loss=loss)
    assert ("mse" if loss is None else "auroc") in result.history[-1].test
    asked = "targets (regression)" if loss is None else "logits, each 0 or 1 (binary)"
    assert f"1 x 4 x 4 to 1 x 4 x 4 {asked}" in (result.run_dir / "log.txt").read_text()
    alone = run(tmp_path / "alone", lambda: torch.nn.Conv2d(1, 1, 3, padding=1), IMAGES, masks, loss=loss, stack="off")
    assert alone.history[-1].test == pytest.approx(result.history[-1].test, abs=2e-3)


def test_targets_of_another_shape_are_refused_with_both(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model's output \(2, 1, 2, 2\) \(inputs .*, targets \(2, 1, 4, 4\)"):
        run(tmp_path, lambda: torch.nn.Conv2d(1, 1, 3), IMAGES, IMAGES)
    with pytest.raises(ConfigError, match=r"float targets of shape \(1, 4, 4\) per row, got float32 of shape \(4, 4\)"):
        fedray.FederatedData.from_arrays(X, IMAGES, CLIENTS, test=(X, np.zeros((60, 4, 4))))
