"""A module is built once in a process, unless a copy of it would not stand for itself."""

from __future__ import annotations

import copy
import pickle
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fedray
from fedray.core.draws import named
from fedray.core.errors import ConfigError
from fedray.models.prototype import Prototype, forget, last_of, peek

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


class Holding(nn.Module):
    """Calls its layer through a function that holds on to the module, as a copy does not notice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.function: Callable[[Tensor], Tensor] = lambda x: self.layer(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Uncopied(nn.Linear):
    """Refuses to be copied."""

    def __deepcopy__(self, memo: Any) -> NoReturn:
        raise RuntimeError("not this one")


class Counting(nn.Module):
    """Scales by a buffer that a function reads from the module it was made for."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.register_buffer("calls", torch.zeros(()))
        self.scaled: Callable[[Tensor], Tensor] = lambda x: x * (1.0 + self.get_buffer("calls"))

    def forward(self, x: Tensor) -> Tensor:
        self.get_buffer("calls").add_(1.0)
        return self.scaled(self.layer(x))


class Marked(nn.Linear):
    """Keeps a factor with its weight."""

    def __init__(self) -> None:
        super().__init__(4, 2)
        setattr(self.weight, "factor", 3.0)  # noqa: B010

    def forward(self, x: Tensor) -> Tensor:
        factor: float = getattr(self.weight, "factor")  # noqa: B009
        return super().forward(x) * factor


def clamped() -> nn.Module:
    """A layer whose gradients are held to a bound by hooks."""
    module = nn.Linear(4, 2)
    for parameter in module.parameters():
        parameter.register_hook(lambda gradient: gradient.clamp(-1e-3, 1e-3))
    return module


def watched() -> nn.Module:
    """A layer whose hook looks at it, through a weak reference."""
    module = nn.Linear(4, 2)
    itself = weakref.ref(module)
    module.register_forward_hook(lambda *_: itself() and None)
    return module


def counted(make: Callable[[], nn.Module]) -> tuple[Prototype, list[int]]:
    calls: list[int] = []
    return Prototype(lambda: calls.append(1) or make()), calls  # type: ignore[func-returns-value]


def test_each_call_gives_a_module_of_its_own_with_the_same_parameters() -> None:
    prototype, calls = counted(lambda: nn.Linear(4, 2))
    prototype.check(X)
    first, second = prototype(), prototype()
    prototype.check(X)
    with torch.no_grad():
        first.get_parameter("weight").zero_()
    assert not second.get_parameter("weight").equal(first.get_parameter("weight"))
    assert prototype().get_parameter("weight").equal(second.get_parameter("weight"))
    assert peek(prototype) is peek(prototype)
    assert len(calls) == 1
    assert last_of(prototype).get_parameter("weight").equal(second.get_parameter("weight"))
    assert len(calls) == 1
    prototype()
    forget(prototype)
    last_of(prototype)
    assert len(calls) == 3
    peek(prototype)
    peek(prototype)
    assert len(calls) == 5  # none is kept by those who only read


@pytest.mark.parametrize(
    "make",
    [Holding, lambda: Uncopied(4, 2), Counting, clamped, watched],
    ids=["holding", "uncopied", "counting", "clamped", "watched"],
)
def test_what_a_copy_would_get_wrong_is_built_each_time(make: Callable[[], nn.Module]) -> None:
    prototype, calls = counted(make)
    prototype()
    prototype.check(X)
    again = [*(prototype() for _ in range(2)), peek(prototype)]  # a caller may have changed what it was given
    assert len(calls) == 4
    assert len({id(module) for module in again}) == 3


@pytest.mark.parametrize(
    "make",
    [
        Marked,
        lambda: nn.LSTM(4, 2),
        lambda: nn.TransformerEncoderLayer(4, 2),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 2)),
    ],
    ids=["marked", "lstm", "transformer", "weight_norm"],
)
def test_what_a_copy_gets_right_is_built_once(make: Callable[[], nn.Module]) -> None:
    prototype, calls = counted(make)
    prototype()
    prototype()
    assert len(calls) == 1


@pytest.mark.parametrize("make", [Counting, Marked, clamped])
@pytest.mark.parametrize("stack", [2, "off"])
def test_a_run_trains_the_model_as_it_was_built(make: Callable[[], nn.Module], stack: Any, tmp_path: Path) -> None:
    """Two clients, one step each, in torch alone."""
    draw = np.random.default_rng(0)
    x, y = draw.standard_normal((8, 4)).astype("f4"), np.arange(8) % 2
    result = fedray.train(
        fedray.FederatedModel(make, lambda p: torch.optim.SGD(p, lr=0.5)),
        fedray.FederatedData.from_arrays(x, y, np.repeat([0, 1], 4)),
        fedray.TrainArgs(rounds=1, stack=stack, batch_size=None, seed=3, tracking=[]),
        cluster="inline",
        run_dir=tmp_path / "run",
        progress=False,
    )
    trained = nn.utils.parameters_to_vector(result.model.parameters()).detach()
    expected = []
    for client in range(2):
        with named(3, "init"):
            module = make()
        rows = slice(4 * client, 4 * client + 4)
        nn.functional.cross_entropy(module(torch.from_numpy(x[rows])), torch.from_numpy(y[rows])).backward()
        torch.optim.SGD(module.parameters(), lr=0.5).step()
        expected.append(nn.utils.parameters_to_vector(module.parameters()).detach())
    torch.testing.assert_close(trained, torch.stack(expected).mean(dim=0))


def test_one_and_the_same_module_that_cannot_be_copied_is_refused() -> None:
    module = Holding()
    prototype, _ = counted(lambda: module)
    prototype()
    prototype.check(X)
    with pytest.raises(ConfigError, match=r"^model: the same module is returned at each call, and it cannot be copied"):
        prototype()


def test_another_process_builds_its_own() -> None:
    prototype = Prototype(nn.Identity)
    prototype()
    assert len(pickle.dumps(prototype)) == len(pickle.dumps(Prototype(nn.Identity)))
    assert isinstance(copy.copy(pickle.loads(pickle.dumps(prototype)))(), nn.Identity)


@pytest.mark.parametrize("stack", ["auto", "off"])
def test_an_inline_run_builds_the_model_once_for_itself_and_once_for_its_result(stack: str, tmp_path: Path) -> None:
    calls: list[int] = []
    draw = np.random.default_rng(0)
    x, y = draw.standard_normal((60, 4)).astype("f4"), draw.integers(0, 2, 60)
    fedray.train(
        fedray.FederatedModel(lambda: calls.append(1) or nn.Linear(4, 2)),  # type: ignore[func-returns-value]
        fedray.FederatedData.from_arrays(x, y, np.repeat(range(3), 20), test=(x, y)),
        fedray.TrainArgs(rounds=2, stack=stack, checkpoint_best="test.loss", tracking=[]),
        cluster="inline",
        run_dir=tmp_path / "run",
        progress=False,
    )
    assert len(calls) == 2


def test_a_module_whose_functions_hold_on_to_it_trains_as_one_without(tmp_path: Path) -> None:
    def plain() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 2))

    draw = np.random.default_rng(0)
    data = fedray.FederatedData.from_arrays(draw.standard_normal((40, 4)).astype("f4"), [0, 1] * 20, [0, 1] * 20)
    losses = [
        fedray.train(
            fedray.FederatedModel(make),
            data,
            fedray.TrainArgs(rounds=3, tracking=[]),
            cluster="inline",
            run_dir=tmp_path / name,
            progress=False,
        )
        .history[-1]
        .model_sha256
        for name, make in (("holding", Holding), ("plain", plain))
    ]
    assert losses[0] == losses[1]
