"""Narrower modules: which units of each layer stay, what the module is then, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fedray.core.errors import ConfigError
from fedray.core.layout import Layout
from fedray.data import DataSpec
from fedray.models.cnn import CNN
from fedray.models.narrow import check_narrow, kept_units, narrow, places
from fedray.models.resnet import ResNet18GN


def half(count: int) -> Tensor:
    return torch.arange(-(-count // 2))


def odd(count: int) -> Tensor:
    return torch.arange(1, count, 2)


class Tangled(nn.Module):
    """A sum, a concatenation and a flattening, without a module for any of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.same = nn.Conv2d(4, 4, 1, bias=False)
        self.more = nn.Conv2d(4, 6, 1)
        self.head = nn.Linear(10 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        x = x + self.same(x)
        both = torch.cat([x, self.more(x)], dim=1)
        out: Tensor = self.head(nn.functional.max_pool2d(both, 2).flatten(1))
        return out


def masked(module: nn.Module, kept: dict[str, tuple[Tensor, Tensor]]) -> nn.Module:
    """The whole module with zeros in the place of all units that do not stay."""
    for name, (outputs, _) in kept.items():
        layer = module.get_submodule(name)
        for parameter in layer.parameters(recurse=False):
            gone = torch.ones(len(parameter), dtype=torch.bool).index_fill(0, outputs, False)
            parameter.data[gone] = 0.0
    return module


@pytest.mark.parametrize("units", [half, odd])
@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (Tangled, (2, 4, 4)),
        (lambda: CNN([4, 6], hidden=8).build(DataSpec((1, 8, 8), 3)), (1, 8, 8)),
        (lambda: nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 2)), (5,)),
        (lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(12, 2)), (2, 5)),
    ],
    ids=["tangled", "cnn", "mlp", "batch norm"],
)
def test_it_computes_what_the_whole_one_does_without_the_other_units(
    build: Callable[[], nn.Module], shape: tuple[int, ...], units: Callable[[int], Tensor]
) -> None:
    whole, x = build().eval(), torch.randn(5, *shape)
    layout = Layout.of(whole)
    vector = layout.pack(dict(whole.state_dict()))
    kept = kept_units(whole, x, units)
    small = narrow(build(), kept)
    own = layout.like(small)
    index = places(layout, kept)
    assert own.size == len(index) == len(index.unique()) < 0.6 * layout.size
    own.load(small, vector[index])
    check_narrow(small, x, whole(x).shape)
    assert torch.allclose(small.eval()(x), masked(whole, kept).eval()(x), atol=1e-6)
    # As it gives its own numbers, too.
    again = narrow(build(), kept)
    assert [p.shape for p in again.parameters()] == [p.shape for p in small.parameters()]


def test_residual_networks_and_their_group_normalisations_can_be_cut() -> None:
    build = ResNet18GN(width=8).build
    spec = DataSpec((3, 8, 8), 4)
    x = torch.zeros(2, 3, 8, 8)
    kept = kept_units(build(spec), x, half)
    small = narrow(build(spec), kept)
    assert small(x).shape == (2, 4)
    sizes = [sum(p.numel() for p in module.parameters()) for module in (small, build(spec))]
    assert sizes[0] / sizes[1] == pytest.approx(0.25, abs=0.02)
    assert Layout.of(small).size == len(places(Layout.of(build(spec)), kept))


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4, bias=False), nn.Bilinear(4, 4, 2)), (3,), r"2 \(Bilinear\)"),
        (nn.Sequential(nn.LSTM(3, 4)), (5, 3), r"0 \(LSTM\) cannot be cut"),
        (nn.Sequential(nn.Conv2d(2, 4, 1, groups=2), nn.Flatten(), nn.Linear(4, 2)), (2, 1, 1), r"0 .*in groups"),
        (nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8)), (3, 4), r"0.self_attn \(MultiheadAttention\)"),
        (nn.Sequential(nn.Linear(3, 6), nn.Softmax(1), nn.Linear(6, 2)), (3,), r"2 \(Linear\).*units .* are mixed"),
        (nn.Sequential(nn.Linear(3, 6), nn.GroupNorm(6, 6), nn.GroupNorm(2, 6), nn.Linear(6, 2)), (3,), r"2 \(GroupN"),
        (nn.Sequential(nn.Conv1d(2, 4, 1), nn.LayerNorm([4, 5]), nn.Linear(5, 2)), (2, 5), r"1 .*more than channels"),
    ],
    ids=["unknown", "lstm", "groups", "attention", "softmax", "group norm", "layer norm"],
)
def test_what_cannot_be_cut_is_named(module: nn.Module, shape: tuple[int, ...], message: str) -> None:
    x = torch.zeros(2, *shape)
    with pytest.raises(ConfigError, match=rf"^model: {message}") as raised:
        narrow(module, kept_units(module, x, half))
    assert "\n" not in str(raised.value)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.idle = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(self.body(x))
        return out


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(3, 4), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.one(x) + self.other(x)
        return out


def test_layers_that_are_used_twice_or_never_and_second_heads_are_named() -> None:
    with pytest.raises(ConfigError, match=r"^model: body \(Linear\).* used twice"):
        kept_units(Twice(), torch.zeros(1, 3), half)
    idle = nn.Sequential(nn.Linear(3, 2))
    idle[0].register_module("idle", nn.Linear(2, 2))
    with pytest.raises(ConfigError, match=r"^model: 0\.idle \(Linear\).* does not use it"):
        kept_units(idle, torch.zeros(1, 3), half)
    with pytest.raises(ConfigError, match=r"^model: its last layer is other, and its outputs come from narrower"):
        kept_units(TwoHeads(), torch.zeros(1, 3), half)


def test_a_module_comes_out_as_it_went_in() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2))
    module[1].eval()
    before, generator = {n: t.clone() for n, t in module.state_dict().items()}, torch.get_rng_state()
    kept_units(module, torch.ones(2, 3), half)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert [part.training for part in module.modules()] == [True, True, False, True, True]
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert torch.equal(torch.get_rng_state(), generator)
