"""FedEx-LoRA against a loop from the paper, and its base through resume, evaluation, prediction and export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fedray
from fedray.algorithms import FedExLoRA, FedIT
from fedray.core.adapters import adapters_of
from fedray.core.layout import Layout
from fedray.core.messages import Aggregate
from fedray.core.regions import Regions
from fedray.predict.exported import export
from fedray.rundir.folder import RunFolder
from fedray.server import Server
from tests.algorithms.adapters import SCALE, AdaptedSquares, Factors
from tests.algorithms.loops import ROUNDS, assert_equal_models, trained
from tests.helpers import class_problem, federation, with_adapters


def test_fedexlora_is_the_papers_loop(tmp_path: Path) -> None:
    squares = AdaptedSquares()
    at, w = Factors(squares.a, squares.b), squares.w
    for _ in range(ROUNDS):
        ends = [squares.descend(client, at, w) for client in range(4)]
        mean = sum(p * (w + SCALE * one.product) for p, one in zip(squares.share, ends, strict=True))
        at = squares.mean(ends)
        w = w + SCALE * (squares.exact(ends) - at.product)
        # The model is the mean of the clients' models.
        np.testing.assert_allclose(w + SCALE * at.product, mean, rtol=1e-9)
    ours = trained(squares, FedExLoRA(), tmp_path)
    assert_equal_models(ours[: len(at.flat())], at.flat())
    assert_equal_models(ours[len(at.flat()) :], ((w - squares.w) / SCALE).ravel())


def server(outputs: int = 3) -> Server:
    algorithm = FedExLoRA()
    regions = Regions(algorithm.region, prepare=algorithm.prepare)
    module = regions.freeze(with_adapters(lambda: nn.Sequential(nn.Linear(4, outputs)))())
    layout = Layout.of(module, regions)
    vector = layout.pack(dict(module.state_dict()))
    vector[: layout.shared] = torch.randn(layout.shared, generator=torch.Generator().manual_seed(1))
    return Server(vector, layout, clients=5)


def whole(s: Server, vector: Tensor) -> Tensor:
    """Return what is added to the frozen weight, ``[out, in]``."""
    (one,) = adapters_of(s.layout)
    a, b = one.factors(vector.double())
    return b @ a + one.change(vector).double()


def test_the_product_form_is_the_mean_of_the_products_over_rounds_and_absent_clients() -> None:
    s, draw = server(), torch.Generator().manual_seed(2)
    for round in range(1, 4):
        deltas = 0.3 * torch.randn(5, s.layout.shared, generator=draw)
        shares = torch.tensor([0.1, 0.0, 0.4, 0.5, 0.0])
        rows = [torch.cat([s.params + delta, s.vector[s.layout.shared :]]) for delta in deltas]
        expected = sum(float(p) * whole(s, row) for p, row in zip(shares, rows, strict=True))
        s.enter(round)
        told = FedExLoRA().step(s, Aggregate({"delta": deltas}, 10.0, 3, shares={"delta": shares}))
        assert isinstance(expected, Tensor)
        assert float((whole(s, s.vector) - expected).abs().max() / expected.abs().max()) <= 1e-6
        assert told is not None
        assert told["error"] > 1e-2


def test_with_one_a_for_all_the_mean_is_exact_and_nothing_is_added() -> None:
    s, draw = server(), torch.Generator().manual_seed(2)
    (one,) = adapters_of(s.layout)
    deltas = 0.3 * torch.randn(5, s.layout.shared, generator=draw)
    one.factors(deltas)[0].zero_()
    shares = torch.full((5,), 0.2)
    told = FedExLoRA().step(s, Aggregate({"delta": deltas}, 5.0, 5, shares={"delta": shares}))
    assert told is not None
    assert told["error"] <= 1e-6
    assert float(one.change(s.vector).abs().max()) <= 1e-6


def test_a_round_of_nobody_changes_nothing() -> None:
    s = server()
    before = s.vector.clone()
    FedExLoRA().step(s, Aggregate({"delta": torch.zeros(5, s.layout.shared)}, 0.0, 0, shares={"delta": torch.zeros(5)}))
    assert torch.equal(s.vector, before)


def test_the_change_of_the_base_goes_down_and_never_up(tmp_path: Path) -> None:
    run = federation(class_problem(), tmp_path, FedExLoRA())
    layout, plan = run.plan.layout, run.plan.algorithm
    changes = sum(one.shape[0] * one.shape[1] for one in layout.rest)
    assert changes == 8 * 6 + 3 * 8 == layout.size - layout.trained
    assert plan.sends(layout) == {"delta": layout.shared}
    assert plan.download(layout) == 4 * (layout.shared + changes)
    assert plan.upload(layout) == 4 * (layout.shared + 1)
    plain = federation(class_problem(), tmp_path / "plain", FedIT())
    assert plain.plan.algorithm.download(plain.plan.layout) == 4 * layout.shared


def started(folder: Path) -> tuple[fedray.Result, fedray.FederatedModel]:
    problem = class_problem(test=20)
    model = fedray.FederatedModel(with_adapters(problem.model_fn), fedray.optim.SGD(0.5))
    args = fedray.TrainArgs(rounds=3, tracking=[], epochs=3)
    made = fedray.train(
        model, problem.data, args, cluster="inline", run_dir=folder, progress=False, algorithm=FedExLoRA()
    )
    return made, model


def test_the_changed_base_is_evaluated_predicted_with_and_exported(tmp_path: Path) -> None:
    result, model = started(tmp_path / "run")
    test = class_problem(test=20).data.test
    assert test is not None
    x, y = torch.as_tensor(test.x), test.y
    with torch.no_grad():
        output = result.model(x)
        loss = nn.functional.cross_entropy(output, y)
        assert result.history[-1].test["loss"] == pytest.approx(float(loss), rel=1e-5)
        changes = [b for name, b in result.model.named_buffers() if name.endswith("base_residual")]
        assert min(float(change.abs().max()) for change in changes) > 1e-5
        for change in changes:
            change.zero_()
        assert not torch.allclose(result.model(x), output, rtol=1e-4)
    expected = output.softmax(1).numpy()
    loaded = fedray.load(tmp_path / "run", model=model.model_fn)
    np.testing.assert_allclose(loaded.predict_proba(x.numpy()), expected, rtol=1e-5)
    export(RunFolder(tmp_path / "run"), tmp_path / "model.safetensors")
    alone = fedray.load(tmp_path / "model.safetensors", model=model.model_fn)
    np.testing.assert_allclose(alone.predict_proba(x.numpy()), expected, rtol=1e-5)


@pytest.mark.parametrize("options", [{"buffers": "keep"}, {"buffers": "local"}])
def test_a_policy_that_would_hide_the_change_is_refused(options: dict[str, str], tmp_path: Path) -> None:
    problem = class_problem()
    model = fedray.FederatedModel(with_adapters(problem.model_fn), fedray.optim.SGD(0.5))
    args = fedray.TrainArgs(rounds=1, tracking=[], **options)  # type: ignore[arg-type]
    with pytest.raises(
        fedray.ConfigError, match=r"^local\.buffers=\w+: fedexlora changes .*base_residual on the server"
    ):
        fedray.train(
            model, problem.data, args, cluster="inline", run_dir=tmp_path / "run", progress=False, algorithm=FedExLoRA()
        )
