"""FLoRA against a loop from the paper: stacked factors, ranks that differ, and new factors in each round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fedray.algorithms import FLoRA
from fedray.core.rng import torch_generator
from fedray.local.variants import drawn
from tests.algorithms.adapters import INPUTS, RANK, SCALE, AdaptedSquares, Factors
from tests.algorithms.loops import ROUNDS, assert_equal_models, trained

SEED = 7  # of federation()


@pytest.mark.parametrize("ranks", [[], [1, 1, 1, 2]], ids=["one rank", "two ranks"])
def test_flora_is_the_papers_loop(ranks: list[int], tmp_path: Path) -> None:
    squares = AdaptedSquares()
    keys = squares.problem.data.keys(np.arange(4))
    own = [ranks[place] for place in drawn(len(ranks), SEED, keys)] if ranks else [RANK] * 4
    assert set(own) == ({1, 2} if ranks else {RANK})
    at, w = Factors(squares.a, squares.b), squares.w
    for round in range(1, ROUNDS + 1):
        ends = [squares.descend(client, at, w, rank=own[client]) for client in range(4)]
        cut = [Factors(one.a[:rank], one.b[:, :rank]) for one, rank in zip(ends, own, strict=True)]
        stacked_b = np.hstack([p * one.b for p, one in zip(squares.share, cut, strict=True)])
        stacked_a = np.vstack([one.a for one in cut])
        assert stacked_a.shape == (sum(own), INPUTS)
        w = w + SCALE * stacked_b @ stacked_a
        uniform = torch.rand(RANK, INPUTS, generator=torch_generator(SEED, "init", round=round)).double().numpy()
        at = Factors((2.0 * uniform - 1.0) / INPUTS**0.5, 0.0 * squares.b)
    ours = trained(squares, FLoRA(ranks), tmp_path)
    assert_equal_models(ours[: len(at.flat())], at.flat())
    assert_equal_models(ours[len(at.flat()) :], ((w - squares.w) / SCALE).ravel())
