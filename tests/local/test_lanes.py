"""One forward of the rows of all clients is that of each alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fedray.core.layout import Layout
from fedray.data.columns.inputs import InputColumns
from fedray.local.dropout import NamedDropout, recomputing
from fedray.local.lanes import LaneForward, Lanes, lanes_of
from tests.local.lane_models import Attention, Decoder, worst

IDS = torch.arange(72).view(3, 4, 6) * 7 % 11


class Forgetful(Decoder):
    """A decoder that computes its layers again in a backward."""

    def run(self, layer: nn.Module, x: Tensor) -> Tensor:
        found: Tensor = checkpoint(layer, x, use_reentrant=False)
        return found


class Adapted(nn.Module):
    """A frozen linear layer with an adapter of low rank, as peft has it."""

    def __init__(self, base: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.base, self.down = base.requires_grad_(False), nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.base(x) + self.up(self.down(x))
        return found


def adapted(decoder: Decoder) -> nn.Module:
    """Return a decoder of which adapters of attention alone train."""
    decoder.requires_grad_(False)
    for part in list(decoder.modules()):
        if isinstance(part, Attention):
            part.mix = Adapted(part.mix)  # type: ignore[assignment]
    return decoder


class Weighs(nn.Module):
    """Uses the weight of a layer without calling that."""

    def __init__(self) -> None:
        super().__init__()
        self.out, self.inner = nn.Linear(4, 3), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(x) + 0.1 * self.inner.weight.sum()
        return found


class Token(nn.Module):
    """Puts a learned token before each sequence, as ViT does."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.out = nn.Parameter(torch.zeros(1, 1, 4)), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(torch.cat([self.token.expand(len(x), -1, -1), x], dim=1))
        return found


class Masked(nn.Module):
    """Looks at the values of a mask, which vmap cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(11, 4), nn.Linear(4, 3)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.embed(ids)
        found: Tensor = self.out(x.mean(dim=1) if bool(mask.all()) else (x * mask.unsqueeze(-1)).mean(dim=1))
        return found


class OptimizedModule(nn.Linear):
    """Called as what ``torch.compile`` gives, whose import takes seconds."""

    def __init__(self) -> None:
        super().__init__(4, 3)


class Turned(nn.Module):
    """Has the rows of a batch in its second axis."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x.transpose(0, 1)).transpose(0, 1)  # type: ignore[no-any-return]


@pytest.mark.parametrize("build", [Decoder, Forgetful, lambda: adapted(Decoder()), lambda: adapted(Forgetful())])
def test_a_decoder_is_that_of_each_client(build: Callable[[], nn.Module]) -> None:
    torch.default_generator.manual_seed(3)
    assert worst(build(), IDS) <= 2e-6


def test_columns_go_by_their_names_and_values_may_be_looked_at() -> None:
    mask = (IDS % 4 > 0).float()
    assert worst(Masked(), InputColumns({"ids": IDS, "mask": mask})) <= 2e-6


def found(module: nn.Module, x: Tensor) -> Lanes | str:
    return lanes_of(module, Layout.of(module), x)


def test_positions_are_the_same_for_all_examples_also_where_there_are_as_many() -> None:
    for rows in (1, 6):
        lanes = found(Decoder(), IDS.view(-1, 6)[:rows])
        assert isinstance(lanes, Lanes)
        assert {name for name, lead in lanes.leads.items() if lead == 0} == {"place"}
    assert worst(Decoder(), IDS.view(3, 4, 6)[:, :2]) <= 2e-6  # six rows of six places


@pytest.mark.parametrize(
    ("build", "x", "why"),
    [
        (Weighs, torch.randn(2, 4), "inner.weight is used outside the module that owns it"),
        (Turned, torch.randn(2, 5, 4), "it does not run in lanes (ValueError: the model gives 5 outputs for 4 rows)"),
        (Token, torch.randn(2, 5, 4), "token: Token is not known in lanes"),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), torch.randn(2, 4), "1.weight: BatchNorm1d"),
        (OptimizedModule, torch.randn(2, 4), "the model is compiled"),
        (
            lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)),
            torch.randn(2, 4),
            "_WeightNorm|ParametrizationList",
        ),
    ],
)
def test_what_does_not_fit_is_named(build: Callable[[], nn.Module], x: Tensor, why: str) -> None:
    lanes = found(build(), x)
    assert isinstance(lanes, str)
    assert any(part in lanes for part in why.split("|")), lanes


def test_what_looking_at_a_model_changes_is_put_back() -> None:
    class Counts(nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 3)
            self.calls: list[float] = []

        def forward(self, x: Tensor) -> Tensor:
            self.calls.append(float(torch.rand(1)))
            return super().forward(x)

    counts = Counts()
    assert found(counts, torch.zeros(2, 4)) == "weight: Counts is not known in lanes"
    module = nn.Sequential(nn.Linear(4, 4), counts.requires_grad_(False))
    before = torch.get_rng_state()
    assert isinstance(found(module, torch.zeros(2, 4)), Lanes)
    assert counts.calls == []
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("build", [Decoder, Forgetful])
def test_masks_of_dropout_are_those_that_each_client_has_alone(build: Callable[..., nn.Module]) -> None:
    torch.default_generator.manual_seed(3)
    module, drop = build(dropout=0.4), NamedDropout(7)
    layout, keys = Layout.of(module), torch.tensor([5, 2, 9])
    forward = LaneForward(module, layout, lanes_of(module, layout, IDS[0]))  # type: ignore[arg-type]
    row = layout.pack(dict(module.state_dict()))
    stack = row.repeat(3, 1).requires_grad_()
    with forward.installed(), recomputing(drop, forward):
        drop.client = keys
        drop.at(1, 0)
        output = forward(layout.split(stack), IDS)
        drop.forward_ends()
        output.square().sum().backward()
    for client in range(3):
        module.zero_grad()
        with recomputing(drop):
            drop.client = keys[client]
            drop.at(1, 0)
            alone = module(IDS[client])
            drop.forward_ends()
            alone.square().sum().backward()
        torch.testing.assert_close(output[client], alone, rtol=1e-5, atol=1e-5)
        grad = torch.cat([module.get_parameter(e.name).grad.flatten() for e in layout.parameters])  # type: ignore[union-attr]
        assert float((stack.grad[client] - grad).abs().max() / grad.abs().max()) <= 2e-6  # type: ignore[index]
    assert not torch.allclose(output[0], output[1], atol=1e-2)


def test_a_backward_computes_again_with_the_parameters_of_its_forward() -> None:
    """Where another forward came in between, such as that of a teacher."""
    torch.default_generator.manual_seed(3)
    module = Forgetful()
    layout = Layout.of(module)
    forward = LaneForward(module, layout, lanes_of(module, layout, IDS[0]))  # type: ignore[arg-type]
    row = layout.pack(dict(module.state_dict()))

    def gradient(between: bool) -> Tensor:
        stack = row.repeat(3, 1).requires_grad_()
        with forward.installed(), recomputing(None, forward):
            loss = forward(layout.split(stack), IDS).square().sum()
            if between:
                with torch.no_grad():
                    forward(layout.split(2 * row.repeat(2, 1)), IDS[:2, :3])
            loss.backward()
        assert stack.grad is not None
        return stack.grad

    assert torch.equal(gradient(True), gradient(False))


def test_generating_is_that_of_each_client_token_for_token() -> None:
    torch.default_generator.manual_seed(3)
    module = Decoder()
    layout = Layout.of(module)
    lanes = lanes_of(module, layout, IDS[0])
    draw = torch.Generator().manual_seed(1)
    rows = layout.pack(dict(module.state_dict())) + 0.3 * torch.randn(3, layout.size, generator=draw)

    def generate(ids: Tensor) -> Tensor:
        for _ in range(3):
            ids = torch.cat([ids, module(ids)[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
        return ids

    forward = LaneForward(module, layout, lanes)  # type: ignore[arg-type]
    with torch.no_grad():
        with forward.installed():
            forward(layout.split(rows), IDS[:, :, :3])
            together = generate(IDS[:, :, :3].flatten(0, 1)).unflatten(0, (3, 4))
        for client in range(3):
            layout.load(module, rows[client])
            assert torch.equal(together[client], generate(IDS[client, :, :3]))
