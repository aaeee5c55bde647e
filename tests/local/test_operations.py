"""The work of an operation against what it does written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedray.local.operations import Products, Work, products, work


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(3, 6, 5), (3, 12, 12)),
        (nn.Conv2d(4, 6, 3, stride=2, padding=1), (4, 9, 11)),
        (nn.Conv2d(4, 4, 3, dilation=2, groups=2), (4, 9, 9)),
    ],
)
def test_it_is_the_size_of_the_unfolded_input(layer: nn.Conv2d, shape: tuple[int, ...]) -> None:
    x = torch.zeros(2, *shape)
    columns = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # type: ignore[arg-type]
    assert work(layer, x).unfolded == columns[0].numel() / layer.groups


@pytest.mark.parametrize(
    "layer",
    [nn.ConvTranspose2d(4, 6, 3), nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, groups=2)],
    ids=["plain", "strides and groups"],
)
def test_of_a_transposed_convolution_it_is_the_unfolded_output(layer: nn.ConvTranspose2d) -> None:
    x = torch.zeros(2, 4, 5, 7)
    columns = F.unfold(layer(x), layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # type: ignore[arg-type]
    assert work(layer, x).unfolded == columns[0].numel() / layer.groups


def test_it_is_an_average_over_convolutions_however_they_are_called() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2, 2, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.conv1d(F.conv1d(x, self.weight), self.weight)

    assert work(Twice(), torch.zeros(3, 2, 10)) == Work(unfolded=(8 + 6) / 2 * 2 * 3)
    single = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Conv1d(2, 2, 3))
    assert work(single, torch.zeros(3, 1, 10)) == Work(unfolded=(0 + 6 * 2 * 3) / 2)
    assert work(nn.Linear(4, 2), torch.zeros(2, 4)) == Work()


def test_scores_are_those_of_fused_attention() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True)
    assert work(layer, torch.zeros(3, 5, 8)) == Work(scores=2 * 5 * 5)


def test_the_global_generator_stays_as_it_is() -> None:
    module = nn.Sequential(nn.Conv1d(2, 2, 3), nn.Dropout(0.5))
    before = torch.get_rng_state()
    work(module, torch.zeros(2, 2, 5))
    assert torch.equal(torch.get_rng_state(), before)


@torch.library.custom_op("fedray_tests::both", mutates_args=())
def both(x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Multiply, as a kernel of another library that returns two tensors does."""
    return x @ weight.T, x.clone()


class Foreign(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 4), requires_grad=False)
        self.head = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(both(x, self.weight)[0])
        return out


def test_a_kernel_that_is_no_product_of_two_tensors_does_not_count() -> None:
    assert products(Foreign(), torch.zeros(2, 4)) == Products(trained=6.0, frozen=0.0, weights=6)
