"""HeteroFL and FedRolex against loops over smaller models, and what they cost."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fedray
from fedray import optim
from fedray.algorithms import FedRolex, HeteroFL
from fedray.config.sections import EvaluateSection, LocalSection
from fedray.core.errors import ConfigError
from fedray.local.stacking import Stack
from tests.algorithms.classes import CLASSES, LR, ROUNDS, STEPS, Classes, assert_is_the_loop
from tests.helpers import class_problem, federation

RATES = [1.0, 0.5, 0.25] * 4  # of which the four clients draw all


def rates_of(algorithm: HeteroFL, classes: Classes) -> list[float]:
    """The clients' rates."""
    keys = classes.problem.data.keys(np.arange(4))
    return [algorithm.variants()[number].rate for number in algorithm.variant_of(7, keys).tolist()]


def hidden(algorithm: HeteroFL, rate: float, round: int) -> list[int]:
    """The units of a layer of 8 that a client of a rate has."""
    first = round if isinstance(algorithm, FedRolex) else 0
    return sorted((first + unit) % 8 for unit in range(math.ceil(rate * 8)))


def descent(classes: Classes, client: int, weights: list[Tensor]) -> list[Tensor]:
    """A client's local steps on a small model ``[W1, b1, W2, b2]``."""
    for _ in range(STEPS):
        w1, b1, w2, b2 = leaves = [w.clone().requires_grad_() for w in weights]
        logits = torch.tanh(classes.x[client] @ w1.T + b1) @ w2.T + b2
        gradients = torch.autograd.grad(nn.functional.cross_entropy(logits, classes.y[client]), leaves)
        weights = [w.detach() - LR * g for w, g in zip(leaves, gradients, strict=True)]
    return weights


def loop(algorithm: HeteroFL, classes: Classes, rates: list[float]) -> Tensor:
    """Three rounds with models that are really smaller."""
    shapes = [(8, 6), (8,), (CLASSES, 8), (CLASSES,)]
    whole = [w.view(s) for w, s in zip(classes.initial().split([48, 8, 8 * CLASSES, CLASSES]), shapes, strict=True)]
    for round in range(ROUNDS):
        sums, held = [torch.zeros_like(w) for w in whole], [torch.zeros_like(w) for w in whole]
        for client, rate in enumerate(rates):
            units = hidden(algorithm, rate, round)
            places = [(units,), (units,), (slice(None), units), (slice(None),)]
            ends = descent(classes, client, [w[place] for w, place in zip(whole, places, strict=True)])
            weight = 1.0 if algorithm.weight == "uniform" else float(classes.sizes[client])
            for total, mass, place, end in zip(sums, held, places, ends, strict=True):
                total[place] += weight * end
                mass[place] += weight
        whole = [torch.where(m > 0, s / m.clamp(min=1e-9), w) for s, m, w in zip(sums, held, whole, strict=True)]
    return torch.cat([w.flatten() for w in whole])


@pytest.mark.parametrize(
    "algorithm",
    [HeteroFL(RATES), FedRolex(RATES), HeteroFL(RATES, weight="uniform"), HeteroFL([0.25, 0.5] * 6), FedRolex([0.3])],
    ids=str,
)
@pytest.mark.one_in(2)
def test_it_is_the_loop_over_smaller_models(algorithm: HeteroFL, tmp_path: Path) -> None:
    classes = Classes()
    rates = rates_of(algorithm, classes)
    if len(algorithm.rates) > 1:
        assert len(set(rates)) > 1
    assert_is_the_loop(classes, algorithm, loop(algorithm, classes, rates), tmp_path)


@pytest.mark.parametrize("stack", [3, "off"])
@pytest.mark.parametrize("algorithm", [HeteroFL([0.5]), FedRolex([0.25])], ids=str)
def test_entries_that_nobody_holds_stay(algorithm: HeteroFL, stack: Stack, tmp_path: Path) -> None:
    run = federation(class_problem(), tmp_path, algorithm, stack=stack, rounds=1)
    before = run.vector.clone()
    run.run()
    assert run.plan.task.submodels is not None
    held = run.plan.task.submodels.places(0, 1)
    still = torch.ones(len(before), dtype=torch.bool).index_fill(0, held, False)
    assert 0 < int(still.sum()) < len(before)
    assert torch.equal(run.vector[still], before[still])
    assert (run.vector[held] != before[held]).float().mean() > 0.9


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.GroupNorm(2, 16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 12),
        nn.LayerNorm(12),
        nn.Linear(12, 3),
    )


@pytest.mark.parametrize("buffers", ["mean", "keep"])
@pytest.mark.parametrize("kind", [HeteroFL, FedRolex])
@pytest.mark.one_in(2)
def test_bytes_and_accumulators_are_the_small_models(kind: type[HeteroFL], buffers: str, tmp_path: Path) -> None:
    """With batch statistics, averaged over those who have them, or seen by evaluations alone."""
    problem = class_problem((7, 3, 12, 9, 4, 5), (1, 4, 4), model_fn=cnn, test=12)
    whole = federation(problem, tmp_path / "whole", kind([1.0]), stack="off", buffers=buffers)  # type: ignore[arg-type]
    half = federation(problem, tmp_path / "half", kind([0.5]), stack="off", buffers=buffers)  # type: ignore[arg-type]
    records = [run.run()[-1] for run in (whole, half)]
    for way in ("up", "down"):
        assert 0.2 < records[1].bytes[way] / records[0].bytes[way] < 0.4
    sums = [sum(part.numel() for part in run.executor(run.job).collect().values()) for run in (whole, half)]
    widths = [sum(run.plan.algorithm.widths(run.plan.layout).values()) for run in (whole, half)]
    assert widths[1] < 0.4 * widths[0], sums
    assert np.isfinite(records[1].test["loss"])
    (part,) = half.plan.task.parts()
    module = part.model_fn()
    assert sum(p.numel() for p in module.parameters()) == part.layout.trained < 0.4 * half.plan.layout.trained
    assert module(torch.zeros(2, 1, 4, 4)).shape == (2, 3)


@pytest.mark.parametrize("stack", [4, "off"])
@pytest.mark.parametrize("algorithm", [HeteroFL([0.5, 1.0]), FedRolex([0.25, 0.5])], ids=str)
def test_clients_are_evaluated_with_the_models_that_they_would_receive(
    algorithm: HeteroFL, stack: Stack, tmp_path: Path
) -> None:
    problem = class_problem((9, 12, 8, 15, 9, 11), holdout=0.3)
    run = federation(problem, tmp_path, algorithm, rounds=2, stack=stack, evaluate=EvaluateSection(clients_every=2))
    record = run.run()[-1]
    task = run.plan.task
    assert task.submodels is not None
    losses, rows = 0.0, 0
    for client, number in enumerate(task.variants(np.arange(6)).tolist()):
        small = task.submodels.module(number)
        places = task.submodels.places(number, 3)
        task.submodels.layouts[number].load(small, run.vector[places])
        x, y, _ = problem.data.holdout(np.array([client]))
        losses += float(nn.functional.cross_entropy(small(x).detach(), y, reduction="sum"))
        rows += len(x)

    assert record.clients_personal["loss"]["mean"] == pytest.approx(losses / rows, rel=1e-5)


@pytest.mark.parametrize("algorithm", [HeteroFL(), FedRolex()], ids=str)
@pytest.mark.slow
def test_blocks_have_one_rate_and_every_rate_learns(algorithm: HeteroFL, tmp_path: Path) -> None:
    run = federation(
        class_problem((9,) * 24, test=60),
        tmp_path,
        algorithm,
        rounds=20,
        args=LocalSection(2, 4),
        optimizer=optim.SGD(0.2),
    )
    rates = run.plan.task.variants(np.arange(24))
    assert sorted(set(rates.tolist())) == [0, 1, 2]
    for block in run.plan.blocks(1, np.arange(24), run.state.store):
        assert len(set(rates[block.clients].tolist())) == 1
    losses = [record.test["loss"] for record in run.run()]
    assert losses[-1] < 0.75 * losses[0]


def test_a_rate_listed_twice_has_twice_the_chance() -> None:
    rates = HeteroFL([1.0, 0.5, 0.5])
    found = np.bincount(rates.variant_of(1, np.arange(30_000)))
    assert len(rates.variants()) == len(found) == 2
    assert found[1] / 30_000 == pytest.approx(2 / 3, abs=0.02)


@pytest.mark.parametrize("rates", [[], [0.0, 1.0], [1.5], [float("nan")]])
def test_rates_out_of_range(rates: list[float]) -> None:
    with pytest.raises(ValueError, match="each above 0 and at most 1"):
        FedRolex(rates)


def train(model: nn.Module, **options: Any) -> fedray.Result:
    x = np.random.default_rng(1).standard_normal((8, 3)).astype("f4")
    data = fedray.FederatedData.from_arrays(x, np.arange(8) % 2, clients=[0, 0, 0, 0, 1, 1, 1, 1])
    given = {"algorithm": HeteroFL([0.5]), "args": fedray.TrainArgs(rounds=1), "cluster": "inline", **options}
    return fedray.train(fedray.FederatedModel(lambda: copy.deepcopy(model)), data, progress=False, **given)


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def tied() -> nn.Module:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    return nn.Sequential(first, second, nn.Linear(3, 2))


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


PRIVATE = [fedray.Clip(1.0), fedray.Gaussian(1.0)]


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (plain(), {"aggregator": fedray.Median()}, r"^aggregator: heterofl .* use mean in the place of median$"),
        (plain(), {"transforms": PRIVATE}, r"^transforms: heterofl .*, and gaussian"),
        (plain(), {"transforms": [fedray.TopK(0.5)]}, r"^transforms: heterofl .*, and topk keeps"),
        (plain(), {"attack": fedray.ALIE(0.5)}, r"^attack: "),
        (tied(), {}, r"^algorithm: heterofl .*no weights can be tied, as 1\.weight and 0\.weight are here$"),
        (normed(), {"args": fedray.TrainArgs(buffers="local")}, r"^algorithm: heterofl .*as 1\.running_mean does here"),
    ],
)
def test_what_cannot_be_beside_it(model: nn.Module, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        train(model, **options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("algorithm", ["heterofl", "fedrolex"])
def test_it_is_a_name_in_a_config_and_takes_codecs(algorithm: str, tmp_path: Path) -> None:
    result = train(plain(), algorithm=algorithm, transforms=[fedray.Int8("nearest", "both")], run_dir=tmp_path / "r")
    assert result is not None
