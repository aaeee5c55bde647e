"""Layers of models, shared out among fragments."""

from __future__ import annotations

import pytest
from torch import nn

from fedray.algorithms.layers import check_pattern, layers_of, shared_out
from fedray.core.errors import ConfigError
from fedray.core.layout import Layout
from fedray.core.regions import Regions
from fedray.data.spec import DataSpec
from fedray.models import Decoder

DECODER = Decoder(dim=8, heads=2, layers=5).build(DataSpec((9,), 11, vocabulary=11))


def test_a_block_is_a_layer_and_so_is_each_module_beside_the_blocks() -> None:
    layout = Layout.of(DECODER)
    layers = layers_of(layout)
    blocks = [names for names in layers if len({name.split(".")[1] for name in names}) == 1 and len(names) > 3]
    assert len(blocks) == 5
    assert sorted(name for names in layers for name in names) == sorted(entry.name for entry in layout.parameters)


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("pattern", ["strided", "sequential"])
def test_each_tensor_is_in_one_fragment(pattern: str, count: int) -> None:
    layout = Layout.of(DECODER)
    found = shared_out(layout, count, pattern)  # type: ignore[arg-type]
    names = [name for some in found for name in some]
    assert len(found) == count
    assert sorted(names) == sorted(entry.name for entry in layout.parameters)
    if pattern == "sequential":
        assert names == [entry.name for entry in layout.parameters]


def test_tensors_are_shared_out_where_there_are_fewer_layers() -> None:
    layout = Layout.of(nn.Linear(2, 1))
    assert shared_out(layout, 2, "strided") == (("weight",), ("bias",))
    with pytest.raises(ConfigError, match=r"^algorithm\.fragments=3: .* 2 tensors travel: take fewer$"):
        shared_out(layout, 3, "strided")


def test_what_stays_with_its_client_is_no_layer() -> None:
    layout = Layout.of(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), Regions(personal=("1",)))
    assert layers_of(layout) == [["0.weight", "0.bias"]]


def test_another_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match="strided or sequential"):
        check_pattern("random")
