"""What a GPU does is what a CPU does, up to the rounding of float32; and it does it twice alike, bit for bit."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fedray.aggregators import Aggregator
from fedray.algorithms import Scaffold
from fedray.algorithms.base import Algorithm
from fedray.config.sections import EvaluateSection, LocalSection
from fedray.data.spec import DataSpec
from fedray.models import CNN, LSTM, MLP, Logistic, Model, ResNet18GN, Transformer
from fedray.run.executor import InlineExecutor
from fedray.sampling import Uniform
from fedray.transforms import Transform
from tests.helpers import Federation, class_problem, federation, relative
from tests.laws.parts import AGGREGATORS, ALGORITHMS, TRANSFORMS, every

pytestmark = pytest.mark.gpu

SIZES = (7, 3, 12, 9, 1, 5, 8)
IMAGE = DataSpec(shape=(1, 8, 8), outputs=3)
SEQUENCE = DataSpec(shape=(5, 3), outputs=3)
TOKENS = DataSpec(shape=(5,), outputs=3, vocabulary=7)
FEATURES = DataSpec(shape=(6,), outputs=3)
MODELS: dict[str, tuple[DataSpec, Model]] = {
    "logistic": (FEATURES, Logistic()),
    "mlp": (FEATURES, MLP([8, 5])),
    "cnn": (IMAGE, CNN([3, 4], 6)),
    "resnet18gn": (IMAGE, ResNet18GN(width=2, groups=1)),
    "transformer": (SEQUENCE, Transformer(dim=8, heads=2, layers=1)),
    "transformer of tokens with dropout": (TOKENS, Transformer(dim=8, heads=2, layers=1, dropout=0.3)),
    "lstm": (TOKENS, LSTM(embedding=3, hidden=4)),
}
STACKS = pytest.mark.parametrize("stack", [4, "off"], ids=["stacked", "alone"])


def run_on(device: str, folder: Path, model: str, *args: Any, **options: Any) -> Federation:
    """A run of a few rounds whose clients train on ``device``."""
    spec, config = MODELS[model]
    problem = class_problem(
        SIZES,
        spec.shape,
        spec.outputs,
        partial(config.build, spec),
        test=1500,
        holdout=0.3,
        vocabulary=spec.vocabulary,
    )
    run = federation(
        problem,
        folder,
        *args,
        **{"sampler": Uniform(5), "args": LocalSection(2, 4), "evaluate": EvaluateSection(1, 1), **options},
    )
    run.executor = partial(InlineExecutor, devices=[torch.device(device)])
    return run


def alike(folder: Path, model: str, *args: Any, **options: Any) -> None:
    """The path of a run on a GPU is that of one on a CPU; two on a GPU are the same."""
    runs = [
        run_on(device, folder / name, model, *args, **options)
        for name, device in (("cpu", "cpu"), ("gpu", "cuda"), ("again", "cuda"))
    ]
    start = runs[0].vector.clone()
    records = [run.run() for run in runs]
    cpu, gpu, again = (run.vector - start for run in runs)
    assert float(cpu.norm()) > 1e-3
    assert float((gpu - cpu).norm() / cpu.norm()) <= 1e-3
    for one, other in zip(records[0], records[1], strict=True):
        assert other.train["loss"] == pytest.approx(one.train["loss"], rel=1e-3)
        assert other.test["loss"] == pytest.approx(one.test["loss"], rel=1e-3)
        assert other.clients_test["loss"] == pytest.approx(one.clients_test["loss"], rel=1e-3)
        assert other.clients == one.clients
    assert torch.equal(again, gpu)
    assert [record.model_sha256 for record in records[2]] == [record.model_sha256 for record in records[1]]
    assert [record.test for record in records[2]] == [record.test for record in records[1]]


@STACKS
@every("algorithm", ALGORITHMS)
def test_an_algorithm(algorithm: Algorithm, stack: Any, tmp_path: Path) -> None:
    alike(tmp_path, "mlp", algorithm, stack=stack)


@every("transforms", TRANSFORMS)
def test_transforms(transforms: list[Transform], tmp_path: Path) -> None:
    alike(tmp_path, "mlp", transforms=transforms, stack=4)


@every("aggregator", AGGREGATORS)
def test_an_aggregator(aggregator: Aggregator, tmp_path: Path) -> None:
    alike(tmp_path, "mlp", Scaffold(), aggregator=aggregator, stack=4)


@STACKS
@pytest.mark.parametrize("model", MODELS)
def test_a_model(model: str, stack: Any, tmp_path: Path) -> None:
    alike(tmp_path, model, stack=stack)


def test_a_model_whose_kernels_may_add_in_any_order(tmp_path: Path) -> None:
    """The gradients of an embedding and of an interpolation are sums that CUDA's fast kernels make by atomic adds."""

    class Scattering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(7, 16)
            self.head = nn.Linear(16 * 64, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            image = self.embedding(x).transpose(1, 2).unsqueeze(2)
            wide = nn.functional.interpolate(image, (1, 64), mode="bilinear").flatten(1)
            output: torch.Tensor = self.head(wide)
            return output

    problem = class_problem((64,) * 4, (50,), 3, Scattering, vocabulary=7)
    runs = [federation(problem, tmp_path, args=LocalSection(3, 32), stack="off") for _ in range(3)]
    for run in runs:
        run.executor = partial(InlineExecutor, devices=[torch.device("cuda")])
        run.run()
    assert all(torch.equal(run.vector, runs[0].vector) for run in runs)
    cpu = federation(problem, tmp_path, args=LocalSection(3, 32), stack="off")
    cpu.run()
    assert relative(runs[0].vector, cpu.vector) <= 1e-4
