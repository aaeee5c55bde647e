"""FedIT and FFA-LoRA against loops from their papers, and against FedAvg on the same tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fedray
from fedray.algorithms import FedAvg, FedIT, FFALoRA
from fedray.core.layout import Layout
from fedray.core.regions import Regions
from tests.algorithms.adapters import AdaptedSquares, Factors
from tests.algorithms.loops import ROUNDS, assert_equal_models, trained
from tests.helpers import class_problem, federation, with_adapters


def test_fedit_is_the_papers_loop(tmp_path: Path) -> None:
    squares = AdaptedSquares()
    at = Factors(squares.a, squares.b)
    for _ in range(ROUNDS):
        ends = [squares.descend(client, at) for client in range(4)]
        at = squares.mean(ends)
    assert_equal_models(trained(squares, FedIT(), tmp_path), at.flat())
    # The product of means is not the mean of products.
    assert np.abs(at.product - squares.exact(ends)).max() > 1e-3 * np.abs(at.product).max()


def test_ffalora_is_the_papers_loop(tmp_path: Path) -> None:
    squares = AdaptedSquares()
    at = Factors(squares.a, squares.b)
    for _ in range(ROUNDS):
        ends = [squares.descend(client, at, fixed=True) for client in range(4)]
        at = squares.mean(ends)
    # With one A the product of means is the mean of products.
    np.testing.assert_allclose(at.product, squares.exact(ends), rtol=1e-12)
    assert_equal_models(trained(squares, FFALoRA(), tmp_path), at.b.ravel())


def test_fedit_is_fedavg_of_the_adapters_bitwise(tmp_path: Path) -> None:
    problem = class_problem()
    adapters = class_problem(model_fn=with_adapters(problem.model_fn))
    runs = [federation(adapters, tmp_path / str(i), one) for i, one in enumerate((FedIT(), FedAvg()))]
    for run in runs:
        run.run()
    assert torch.equal(runs[0].vector, runs[1].vector)


def test_of_ffalora_a_is_in_no_vector_and_none_is_left_beside_the_base() -> None:
    module = with_adapters(lambda: nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)))()
    layout = Layout.of(module, Regions(FFALoRA().region, prepare=FFALoRA().prepare))
    assert [entry.name for entry in layout.entries] == ["0.lora_B.weight", "1.lora_B.weight"]
    assert {"0.lora_A.weight", "1.lora_A.weight", "0.base_layer.weight"} <= set(layout.frozen)


@pytest.mark.parametrize("algorithm", [FedIT(), FFALoRA()], ids=lambda one: one.name)
def test_a_model_without_adapters_is_refused(algorithm: FedIT, tmp_path: Path) -> None:
    model, data = fedray.FederatedModel("mlp", fedray.optim.SGD(0.1)), class_problem().data
    args = fedray.TrainArgs(rounds=1, tracking=[])
    words = f"^algorithm: {algorithm.name} averages low-rank adapters, and this model has none .* fedray.parts.adapted"
    with pytest.raises(fedray.ConfigError, match=words):
        fedray.train(model, data, args, cluster="inline", run_dir=tmp_path / "run", progress=False, algorithm=algorithm)
    assert not (tmp_path / "run").exists()


def test_ffalora_trains_evaluates_and_loads_with_the_a_of_its_seed(tmp_path: Path) -> None:
    problem = class_problem(holdout=0.3)
    model = fedray.FederatedModel(with_adapters(problem.model_fn), fedray.optim.SGD(0.1))
    args = fedray.TrainArgs(rounds=2, tracking=[])
    result = fedray.train(
        model, problem.data, args, cluster="inline", run_dir=tmp_path / "run", progress=False, algorithm=FFALoRA()
    )
    first = model.model_fn().state_dict()  # type: ignore[operator]
    last = result.model.state_dict()
    assert torch.equal(last["1.lora_A.weight"], first["1.lora_A.weight"])
    assert not torch.equal(last["1.lora_B.weight"], first["1.lora_B.weight"])
    x = problem.data.rows(np.array([0])).take(np.arange(4)[None])[0][0]
    loaded = fedray.load(tmp_path / "run", model=model.model_fn)
    with torch.no_grad():
        np.testing.assert_allclose(loaded.predict_proba(x.numpy()), result.model(x).softmax(1), rtol=1e-5)
