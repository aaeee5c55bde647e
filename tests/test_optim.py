"""Optimizers by name are those of torch, without its compiler."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fedray.optim import optimizers

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "sgd": [{}, {"momentum": 0.9, "weight_decay": 0.01, "nesterov": True}],
    "adam": [{}, {"weight_decay": 0.01}],
    "adamw": [{}],
    "rmsprop": [{}, {"momentum": 0.5}],
    "adagrad": [{}, {"initial_accumulator_value": 0.1}],
}


def test_the_table_of_options_is_complete() -> None:
    assert sorted(OPTIONS) == sorted(optimizers)


@pytest.mark.parametrize(("name", "options"), [(name, options) for name, many in OPTIONS.items() for options in many])
def test_an_optimizer_by_name_takes_the_steps_of_torchs_class_bit_for_bit(name: str, options: dict[str, Any]) -> None:
    part = optimizers[name](**options)
    start = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    ours, theirs = (start.clone().requires_grad_() for _ in range(2))
    optimizer, oracle = part([ours]), part.kind([theirs], lr=part.lr, **options)
    assert isinstance(optimizer, part.kind)
    for step in range(5):
        grad = torch.randn(3, 50, generator=torch.Generator().manual_seed(1 + step))
        ours.grad, theirs.grad = grad.clone(), grad.clone()
        optimizer.step()
        oracle.step()
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, start)


TRAINS = """
import sys, numpy, torch, fedray
x, y = numpy.random.default_rng(0).normal(size=(20, 3)).astype("float32"), numpy.arange(20) % 2
data = fedray.FederatedData.from_arrays(x, y, numpy.arange(20) // 5)
model = fedray.FederatedModel(lambda: torch.nn.Linear(3, 2), {optimizer}, torch.nn.functional.cross_entropy)
args = fedray.TrainArgs(batch_size=5, epochs=1, rounds=2, stack="{stack}")
fedray.train(model, data, args, cluster=fedray.Cluster(name="inline"), run_dir=sys.argv[1])
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "stack", "imported"),
    [
        ("fedray.optim.SGD(lr=0.1)", "auto", False),
        ("fedray.optim.Adam()", "off", False),
        ("lambda params: torch.optim.SGD(params, lr=0.1)", "auto", True),
    ],
)
def test_only_an_optimizer_of_the_users_own_imports_the_compiler(
    optimizer: str, stack: str, imported: bool, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", TRAINS.format(optimizer=optimizer, stack=stack), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(imported)
