"""An eager class of torch.optim takes the same steps, and leaves torch's compiler alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.optim import Optimizer

from fedray.optim import ELEMENTWISE
from fedray.optim._eager import eager


@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_an_eager_class_takes_the_steps_of_torchs_bit_for_bit(kind: type[Optimizer]) -> None:
    """Also from a saved state, and with a second group of parameters."""
    start = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0))
    sides = []
    for each in (eager(kind), kind):
        first, second = (one.clone().requires_grad_() for one in start)
        optimizer = each([first])  # type: ignore[call-arg]
        optimizer.add_param_group({"params": [second], "lr": 0.5})
        for step in range(6):
            if step == 3:
                saved = optimizer.state_dict()
                optimizer = each([{"params": [first]}, {"params": [second]}])  # type: ignore[call-arg]
                optimizer.load_state_dict(saved)
            for number, param in enumerate((first, second)):
                param.grad = torch.randn(3, 50, generator=torch.Generator().manual_seed(10 * step + number))
            optimizer.step()
            optimizer.zero_grad()
            assert first.grad is None
        sides.append(torch.stack([first, second]).detach())
    assert torch.equal(*sides)
    assert not torch.equal(sides[0], start)


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
