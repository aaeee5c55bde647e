"""What is gathered comes in the order of the clients, with their weights, all parts of a client in one row."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedray.aggregators.base import Accumulator
from fedray.aggregators.gathered import CoordinateWise, Gathered, Rows, Selected, column_pieces, combined, one_thread
from fedray.core.messages import Parts
from fedray.core.now import Now
from tests.aggregators.test_mean import NOW, update

WIDTHS = {"delta": 2, "control": 1}


@dataclass(frozen=True)
class Seen(Gathered):
    """Keeps what it is shown."""

    def aggregate(self, rows: Rows, now: Now) -> Parts:
        assert len(rows) == len(rows.clients)
        now.state["clients"], now.state["weight"] = torch.from_numpy(rows.clients), torch.from_numpy(rows.weight)
        return dict(rows.parts)


def gathered(rule: Gathered, workers: list[list[int]]) -> Accumulator:
    """What the driver has of clients whose every number is a function of their id."""
    total = rule.zero(WIDTHS, "cpu")
    for clients in workers:
        mine = rule.zero(WIDTHS, "cpu")
        for start in range(0, len(clients), 2):
            block = clients[start : start + 2]
            ids = torch.tensor(block, dtype=torch.float32)[:, None]
            rows = torch.cat([ids, -ids], dim=1)
            rule.add(mine, update(rows, [100.0 + client for client in block], block, control=10 * ids), 1.0)
        rule.merge(total, mine)
    return total


@given(
    st.lists(st.integers(0, 500), unique=True, min_size=1, max_size=12),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
def test_rows_stand_in_the_order_of_the_clients(clients: list[int], workers: int, order: random.Random) -> None:
    shares: list[list[int]] = [[] for _ in range(workers)]
    for client in clients:
        shares[order.randrange(workers)].append(client)
    now = Now(1, 1)
    parts = Seen().finish(gathered(Seen(), shares), 1.0, 1.0, len(clients), now).parts
    expected = sorted(clients)
    assert now.state["clients"].tolist() == expected
    assert now.state["weight"].tolist() == [100.0 + client for client in expected]
    assert parts["delta"].tolist() == [[client, -client] for client in expected]
    assert parts["control"].flatten().tolist() == [10.0 * client for client in expected]


def test_an_accumulator_that_was_taken_is_empty() -> None:
    total = gathered(Seen(), [[3, 1]])
    Rows.of(total)
    assert total == {}


def test_each_coordinate_is_reduced_by_itself() -> None:
    class Largest(CoordinateWise):
        def reduce(self, rows: Tensor) -> Tensor:
            return rows.amax(dim=0)

    parts = Largest().finish(gathered(Largest(), [[5, 2], [9]]), 1.0, 1.0, 3, NOW).parts
    assert {name: part.tolist() for name, part in parts.items()} == {"delta": [9.0, -2.0], "control": [90.0]}


class Halves(Selected):
    """Half of the first client's update, and half of the last one's."""

    def shares(self, rows: Rows, now: Now) -> Tensor:
        shares = torch.zeros(len(rows), dtype=torch.float64)
        shares[0] += 0.5
        shares[-1] += 0.5
        return shares


@pytest.mark.parametrize("workers", [[[5, 2, 9]], [[9], [2, 5]], [[2], [9], [5]]])
def test_a_clients_share_is_that_of_all_its_parts_and_is_told(workers: list[list[int]]) -> None:
    now = Now(1, 1)
    parts = Halves().finish(gathered(Halves(), workers), 1.0, 1.0, 3, now).parts
    assert {name: part.tolist() for name, part in parts.items()} == {"delta": [5.5, -5.5], "control": [55.0]}
    assert now.shares == {2: 0.5, 5: 0.0, 9: 0.5}


@given(st.integers(1, 9), st.integers(1, 70), st.integers(0, 2**16))
def test_rows_are_combined_in_float64(count: int, width: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    rows = (draw.standard_normal((count, width)) * 10.0 ** draw.integers(-6, 6, (count, width))).astype("f4")
    shares = draw.dirichlet(np.ones(count)) * draw.integers(0, 2, count)
    got = combined(torch.from_numpy(shares), torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(got, shares @ rows.astype("f8"), rtol=1e-6, atol=1e-9)


def test_one_row_alone_has_its_bits_and_one_of_no_share_is_not_looked_at() -> None:
    rows = torch.tensor([[0.1, 3e38], [float("inf"), float("nan")]])
    assert torch.equal(combined(torch.tensor([1.0, 0.0], dtype=torch.float64), rows).float(), rows[0])


def test_pieces_are_all_columns_in_their_order() -> None:
    rows = torch.arange(3.0)[None].expand(1 << 21, 3)
    assert [piece.shape[1] for piece in column_pieces(rows)] == [2, 1]
    assert torch.equal(torch.cat(column_pieces(rows), dim=1)[:2], rows[:2])
    assert len(column_pieces(torch.zeros(0, 3))) == 1


def test_the_threads_of_before_are_there_again() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
