"""Sums of clipped gradients of single examples: Opacus as oracle, sensitivity, and memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call

from fedray.core.layout import Layout
from fedray.core.losses import cross_entropy
from fedray.local import per_example
from fedray.local.batched import batched_forward
from fedray.local.per_example import ClippedGradients
from tests.helpers import relative


class Sentence(nn.Module):
    """An embedding with padding, positions, and layers that have a rule and that have none."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 6, padding_idx=0)
        self.norm = nn.LayerNorm(6)
        self.inner = nn.Linear(6, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows: Tensor = torch.tanh(self.inner(self.norm(self.table(x)))).mean(dim=1)
        out: Tensor = self.head(rows)
        return out


class Tied(nn.Module):
    """A weight that is used past its layer, a layer that is called twice, and one tensor in two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.past, self.twice, self.one, self.other = (nn.Linear(6, 6) for _ in range(4))
        self.other.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.past(x)) @ self.past.weight
        y = self.twice(torch.tanh(self.twice(y)))
        out: Tensor = self.other(torch.tanh(self.one(y)))[:, :3]
        return out


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3, bias=False))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, stride=2),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 2, groups=2, dilation=2, padding="same"),
        nn.GroupNorm(2, 6),
        nn.Flatten(),
        nn.Linear(96, 3),
    )


def line() -> nn.Module:
    return nn.Sequential(nn.Conv1d(2, 4, 3, stride=2), nn.Tanh(), nn.Conv1d(4, 3, 2), nn.Flatten(), nn.Linear(9, 3))


def volume() -> nn.Module:
    return nn.Sequential(nn.Conv3d(1, 2, 2, padding=(1, 0, 1)), nn.Tanh(), nn.Flatten(), nn.Linear(120, 3))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], set[str]]] = {
    "mlp": (mlp, (6,), {"1", "3"}),
    "cnn": (cnn, (2, 8, 8), {"0", "2", "5"}),
    "line": (line, (2, 9), {"0", "2", "4"}),
    "volume": (volume, (1, 3, 4, 4), {"0", "3"}),
    "sentence": (Sentence, (7,), {"table", "inner", "head"}),
    "tied": (Tied, (6,), set()),
}
CLIENTS, ROWS = 3, 5


class Case:
    """Clients with different parameters, and their examples."""

    def __init__(self, name: str, seed: int = 0) -> None:
        make, shape, self.rules = MODELS[name]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.module = make()
            layout = Layout.of(self.module)
            start = layout.pack(dict(self.module.state_dict())).repeat(CLIENTS, 1)
            self.params = layout.split(start + 0.1 * torch.randn(start.shape))
            tokens = name == "sentence"
            self.x = torch.randint(0, 11, (CLIENTS, ROWS, *shape)) if tokens else torch.randn(CLIENTS, ROWS, *shape)
            self.y = torch.randint(0, 3, (CLIENTS, ROWS))
        self.moved = tuple(self.params)
        self.clipped = ClippedGradients(self.module, cross_entropy, batched_forward(self.module))

    def sums(self, norm: float, real: Tensor | None = None, x: Tensor | None = None) -> list[Tensor]:
        real = torch.ones(CLIENTS, ROWS, dtype=torch.bool) if real is None else real
        inputs = self.x if x is None else x
        return self.clipped(self.params, {}, self.moved, torch.arange(CLIENTS), inputs, self.y, real, norm)[1]

    def each(self, client: int) -> list[list[Tensor]]:
        """The gradients of each example of a client, in float64, one after the other."""
        found = []
        for row in range(ROWS):
            leaves = {name: tensor[client].double().requires_grad_() for name, tensor in self.params.items()}
            x = self.x[client, row : row + 1]
            output = functional_call(self.module, leaves, (x.double() if x.is_floating_point() else x,))
            loss = cross_entropy(output, self.y[client, row : row + 1])
            found.append(list(torch.autograd.grad(loss, list(leaves.values()))))
        return found


def norm_of(grads: list[Tensor]) -> float:
    return math.sqrt(sum(float(grad.double().square().sum()) for grad in grads))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("share", [0.5, math.inf])
def test_sums_are_those_of_a_loop_over_examples_in_float64(name: str, share: float) -> None:
    case = Case(name)
    real = torch.ones(CLIENTS, ROWS, dtype=torch.bool)
    real[1, 3:] = False
    norm = share * norm_of(case.each(0)[0])
    found = case.sums(norm, real)
    (way,) = case.clipped._ways.values()
    assert set(way.rules) == case.rules
    for client in range(CLIENTS):
        grads = case.each(client)[: 3 if client == 1 else ROWS]
        factors = [min(1.0, norm / norm_of(grad)) for grad in grads]
        for place, total in enumerate(found):
            wanted = torch.stack([factor * grad[place] for factor, grad in zip(factors, grads, strict=True)]).sum(dim=0)
            assert relative(total[client].double(), wanted) <= 5e-6


@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize("name", ["mlp", "cnn", "sentence"])
def test_opacus_has_the_same_gradients_and_the_same_clipped_sums(name: str) -> None:
    from opacus import GradSampleModule

    case = Case(name)
    if isinstance(case.module, Sentence):  # theirs moves the row of the padding
        case.module.table.padding_idx = None
    norm = 0.5 * norm_of(case.each(0)[0])
    found = case.sums(norm)
    for client in range(CLIENTS):
        # Their hooks do not know what works in place.
        module = MODELS[name][0]()
        for part in module.modules():
            if isinstance(part, nn.ReLU):
                part.inplace = False
        module.load_state_dict({n: tensor[client] for n, tensor in case.params.items()})
        for n, parameter in module.named_parameters():
            parameter.requires_grad_(n in case.moved)
        if isinstance(module, Sentence):
            module.table.padding_idx = None
        theirs = GradSampleModule(module, loss_reduction="sum")
        nn.functional.cross_entropy(theirs(case.x[client]), case.y[client], reduction="sum").backward()
        samples = {n.removeprefix("_module."): p.grad_sample for n, p in theirs.named_parameters() if p.requires_grad}
        norms = torch.stack([samples[n].flatten(1).norm(dim=1) for n in case.moved]).norm(dim=0)
        for n, total in zip(case.moved, found, strict=True):
            wanted = torch.einsum("b,b...->...", (norm / norms).clamp(max=1.0), samples[n])
            assert relative(total[client], wanted) <= 1e-5


@settings(max_examples=15)
@given(st.sampled_from(["mlp", "cnn", "sentence"]), st.integers(0, 99), st.floats(1e-3, 1e2), st.integers(0, ROWS - 1))
def test_one_example_changes_a_sum_by_the_norm_at_most(name: str, seed: int, norm: float, row: int) -> None:
    case = Case(name, seed)
    real = torch.ones(CLIENTS, ROWS, dtype=torch.bool)
    less = real.clone()
    less[:, row] = False
    whole, without = case.sums(norm, real), case.sums(norm, less)
    for client in range(CLIENTS):
        # Sums of five are rounded, which the clip's slack does not know of: docs/privacy.md, floating point.
        change = norm_of([a[client].double() - b[client].double() for a, b in zip(whole, without, strict=True)])
        assert change <= norm + 1e-6 * norm_of([a[client] for a in whole])
        alone = torch.zeros_like(real)
        alone[client, row] = True
        assert norm_of([a[client] for a in case.sums(norm, alone)]) <= norm


@pytest.mark.parametrize("name", ["mlp", "cnn"])
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e38])
def test_a_gradient_that_is_not_finite_counts_as_zeros_and_reaches_no_other(name: str, value: float) -> None:
    case = Case(name)
    x = case.x.clone()
    x[1, 2] = value
    real = torch.ones(CLIENTS, ROWS, dtype=torch.bool)
    found = case.sums(1.0, real, x)
    assert all(bool(total.isfinite().all()) for total in found)
    if not math.isfinite(value):
        real[1, 2] = False
    others = [0, 2] if math.isfinite(value) else [0, 1, 2]
    for one, other in zip(found, case.sums(1.0, real), strict=True):
        assert relative(one[others], other[others]) <= 1e-6


@pytest.mark.parametrize("name", MODELS)
def test_batches_go_through_in_pieces_that_fit_into_memory(name: str, monkeypatch: Any) -> None:
    case = Case(name)
    wanted = case.sums(0.5)
    (way,) = case.clipped._ways.values()
    sizes = []
    piece = ClippedGradients._piece
    monkeypatch.setattr(
        ClippedGradients,
        "_piece",
        lambda *args: sizes.append(args[6].shape[1]) or piece(*args),  # type: ignore[func-returns-value]
    )
    monkeypatch.setattr(per_example, "FLOATS", 2 * CLIENTS * way.floats)
    for one, other in zip(case.sums(0.5), wanted, strict=True):
        assert relative(one, other) <= 1e-6
    assert sizes == [2, 2, 1]


def test_layers_that_a_fit_leaves_alone_are_not_clipped_with_the_others() -> None:
    case = Case("cnn")
    case.moved = ("5.weight", "5.bias")
    norm = 0.5 * norm_of(case.each(0)[0][-2:])
    found = case.sums(norm)
    grads = [grad[-2:] for grad in case.each(2)]
    for place, total in enumerate(found):
        wanted = torch.stack([min(1.0, norm / norm_of(grad)) * grad[place] for grad in grads]).sum(dim=0)
        assert relative(total[2].double(), wanted) <= 5e-6
