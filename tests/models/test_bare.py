"""Modules built bare: what of the user's can be built so, and what is found that cannot."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedray.data.spec import DataSpec
from fedray.models import HuggingFace, Lora, Transformer, initial_model
from fedray.models.bare import bare, built_bare, not_bare
from fedray.models.decoder import Decoder
from fedray.models.lora import adapted
from fedray.models.prototype import Prototype
from fedray.models.registry import Model
from tests.models.hosted import saved

TOKENS = DataSpec(shape=(6,), outputs=24, vocabulary=24)


class Layers(nn.Module):
    """Parameters of several kinds, a hook, a function that closes over the module, and what is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.place = nn.Parameter(torch.randn(3))
        self.register_buffer("turns", 0.5 ** torch.arange(3.0), persistent=False)
        self.first.register_forward_hook(lambda module, args, output: output)
        self.scale = lambda x: x * self.place

    def forward(self, x: Tensor) -> Any:
        return self.second(self.first(x + self.place)) * self.turns


class Tied(Layers):
    """One matrix in two layers, which takes its values before and behind."""

    def __init__(self) -> None:
        super().__init__()
        shared = nn.Parameter(torch.ones(3, 3))
        self.first.weight = self.second.weight = shared
        nn.init.normal_(shared)


class DrawnBuffer(Layers):
    """A buffer that is drawn behind the parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = torch.randn(3)


class Alias(Layers):
    """A tensor that is a parameter's."""

    def __init__(self) -> None:
        super().__init__()
        self.held = [self.first.weight.detach()]


class Decides(Layers):
    """A layer that depends on a value."""

    def __init__(self) -> None:
        super().__init__()
        if self.first.weight.detach().sum() > 0:
            self.third = nn.Linear(3, 3)


class Locked(Layers):
    """Something that says itself that it cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.held: Any = (one for one in [1])


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return make()


def lora() -> nn.Module:
    return adapted(nn.Sequential(nn.Linear(3, 3)), r=1)


@pytest.mark.parametrize(
    "make",
    [
        Layers,
        Tied,
        partial(nn.MultiheadAttention, 4, 2),
        partial(Transformer(dim=8, heads=2, layers=2, dropout=0.3).build, DataSpec(shape=(5, 3), outputs=3)),
        partial(Decoder(dim=16, heads=2, layers=1).build, TOKENS),
    ],
)
def test_what_only_fills_its_parameters_is_the_same_bare_but_for_their_values(make: Callable[[], nn.Module]) -> None:
    """Filled with those it computes what the whole one does, in its bits."""
    whole, built = seeded(make), built_bare(partial(seeded, make))
    assert not_bare(partial(seeded, make), whole) is None
    names = [name for name, _ in whole.named_parameters()]
    assert [name for name, parameter in built.named_parameters() if parameter.is_meta] == names
    built._apply(lambda tensor: torch.empty_like(tensor, device="cpu") if tensor.is_meta else tensor)
    built.load_state_dict(whole.state_dict())
    for (name, one), (_, other) in zip(whole.named_buffers(), built.named_buffers(), strict=True):
        assert torch.equal(one, other), name
    if isinstance(whole, Layers) and isinstance(built, Layers):
        x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
        assert torch.equal(built.first.weight, whole.first.weight)
        assert torch.equal(whole(x), built(x))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (DrawnBuffer, "what it has beside its parameters is another"),
        (Alias, "what it has beside its parameters is another"),
        (Decides, "its code looks at values of parameters"),
        (Locked, "something in it cannot be compared"),
        (lora, "0.base_layer.weight is frozen"),
    ],
)
def test_what_cannot_be_built_so_is_found(make: Callable[[], nn.Module], reason: str) -> None:
    found = not_bare(partial(seeded, make), seeded(make))
    assert found is not None
    assert found.startswith(reason)


def test_ties_are_kept() -> None:
    built: Any = built_bare(Tied)
    assert built.first.weight is built.second.weight


def test_what_is_no_parameter_has_its_values_and_all_is_as_before_at_the_end() -> None:
    with bare():
        layer = nn.Linear(3, 2)
        assert layer.weight.is_meta
        assert torch.ones(2).device.type == "cpu"
    assert not nn.Linear(3, 2).weight.is_meta


def test_a_prototype_keeps_nothing_of_it() -> None:
    prototype = Prototype(lambda: nn.Linear(2, 1))
    assert built_bare(prototype).weight.device.type == "meta"
    assert not any(parameter.is_meta for parameter in prototype().parameters())


@pytest.mark.slow
@pytest.mark.parametrize("adapters", [False, True])
def test_a_pretrained_model_is_bare_but_for_a_frozen_base_which_is_mapped(tmp_path: Path, adapters: bool) -> None:
    of = Lora(r=2, targets=["q_proj"]) if adapters else None
    model: Model = HuggingFace(str(saved(tmp_path / "llama", "llama")), lora=of)
    make = partial(initial_model, model, TOKENS, 0)
    found = not_bare(make, make())
    assert (found is not None and found.endswith("is frozen, and gets its values there")) == adapters
