"""The shards of a vector: together all of it, each tensor's rows in one piece."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedray.core.layout import Layout
from fedray.core.shards import Shard


def layout(rows: list[int]) -> Layout:
    """Matrices of so many rows, and vectors."""
    module = nn.Module()
    for number, count in enumerate(rows):
        shape = (count, 3) if number % 2 else (count,)
        module.register_parameter(f"p{number}", nn.Parameter(torch.zeros(shape)))
    return Layout.of(module)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 5))
def test_shards_are_the_rows_that_torch_gives_and_together_the_vector(rows: list[int], ranks: int) -> None:
    whole = layout(rows)
    vector, again = torch.arange(float(whole.size)), torch.full((whole.size,), -1.0)
    shards = [Shard(whole, rank, ranks) for rank in range(ranks)]
    for shard in shards:
        own = shard.take(vector)
        assert len(own) == shard.layout.size == sum(piece.stop - piece.start for piece in shard.pieces)
        for name, tensor in shard.layout.unpack(own).items():
            chunks = whole.unpack(vector)[name].chunk(ranks)
            there = chunks[shard.rank] if shard.rank < len(chunks) else tensor.new_empty(0)
            assert tensor.flatten().tolist() == there.flatten().tolist()
        shard.put(own, again)
    assert torch.equal(again, vector)
    assert sum(shard.layout.size for shard in shards) == whole.size
