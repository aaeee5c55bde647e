"""HetLoRA against a loop from the paper: truncation, self-pruning, and weights by the norm of the product."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import fedray
from fedray.algorithms import FedIT, HetLoRA
from fedray.config.sections import LocalSection
from fedray.local.variants import drawn
from tests.algorithms.adapters import AdaptedSquares, Factors
from tests.algorithms.loops import ROUNDS, assert_equal_models, trained
from tests.helpers import class_problem, federation, relative

SEED = 7  # of federation()


def norm(values: np.ndarray) -> float:
    return float(np.linalg.norm(values))


def padded(values: Factors, rank: int) -> Factors:
    a, b = values.a.copy(), values.b.copy()
    a[rank:], b[:, rank:] = 0.0, 0.0
    return Factors(a, b)


def tail(at: Factors, first: int, last: int) -> float:
    return norm(at.b[:, first:last]) * norm(at.a[first:last])


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.0), (0.5, 0.0), (0.5, 0.4)])
def test_hetlora_is_the_papers_loop(gamma: float, lam: float, tmp_path: Path) -> None:
    squares = AdaptedSquares()
    choices = [1, 1, 1, 2]
    ranks = [choices[place] for place in drawn(4, SEED, squares.problem.data.keys(np.arange(4)))]
    assert set(ranks) == {1, 2}
    at, first = Factors(squares.a, squares.b), list(ranks)
    for _ in range(ROUNDS):
        ends, norms = [], []
        for client in range(4):
            rank = ranks[client]
            left = max(1, int(gamma * rank))

            def pull(at: Factors, left: int = left, rank: int = rank) -> Factors:
                a, b = np.zeros_like(at.a), np.zeros_like(at.b)
                size_a, size_b = norm(at.a[left:rank]), norm(at.b[:, left:rank])
                if size_a and size_b:
                    a[left:rank] = lam * size_b * at.a[left:rank] / size_a
                    b[:, left:rank] = lam * size_a * at.b[:, left:rank] / size_b
                return Factors(a, b)

            start = padded(at, rank)
            end = squares.descend(client, start, rank=rank, pull=pull)
            ends.append(end)
            norms.append(norm(end.product))
            if tail(end, left, rank) < tail(start, left, rank):
                ranks[client] = left
        at = squares.mean(ends, np.array(norms) / sum(norms))
    if lam:
        assert ranks != first, "nobody was pruned"
    assert_equal_models(trained(squares, HetLoRA(choices, gamma=gamma, lam=lam), tmp_path), at.flat())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gamma": 0.0}, "gamma=0: it must be above 0"),
        ({"gamma": 1.5}, "gamma=1.5: it must be above 0"),
        ({"lam": 0.1}, "without pruning it penalises nothing"),
        ({"lam": -0.1}, "lam"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        HetLoRA(**options)  # type: ignore[arg-type]


def test_where_all_clients_are_alike_it_is_fedit(tmp_path: Path) -> None:
    """Of one rank and with the same rows they learn the same, and so weigh the same."""
    problem = class_problem((6,) * 3)
    x, y = problem.data.rows(np.array([0])).take(np.arange(6)[None])
    assert isinstance(x, torch.Tensor)
    same = fedray.FederatedData.from_arrays(np.tile(x[0], (3, 1)), np.tile(y[0], 3), np.repeat(np.arange(3), 6))
    problem = replace(problem, data=same)
    args = LocalSection(1, None, 3)
    runs = [federation(problem, tmp_path / one.name, one, args=args) for one in (HetLoRA(), FedIT())]
    for run in runs:
        run.run()
    assert relative(runs[0].vector, runs[1].vector) <= 1e-5
