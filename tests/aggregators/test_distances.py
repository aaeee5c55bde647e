"""Distances against scipy's, where the Gram matrix alone is right and where it has lost every digit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from fedray.aggregators import distances
from fedray.aggregators.distances import distances_to, squared_distances
from fedray.aggregators.gathered import column_pieces


def drawn(count: int, width: int, seed: int, scale: float = 1.0) -> NDArray[np.float32]:
    return (scale * np.random.default_rng(seed).standard_normal((count, width))).astype("f4")


def check(rows: NDArray[np.float32]) -> NDArray[Any]:
    """Every pair is scipy's, to nine digits; none is negative, and the matrix is symmetric bit by bit."""
    got = squared_distances(torch.from_numpy(rows))
    assert got.dtype == torch.float64
    assert torch.equal(got, got.T)
    assert bool((got >= 0).all())
    assert not got.diagonal().any()
    np.testing.assert_allclose(got.numpy(), cdist(rows.astype("f8"), rows.astype("f8"), "sqeuclidean"), rtol=1e-9)
    return got.numpy()


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 2**16), st.sampled_from([1e-30, 1e-6, 1.0, 1e30]))
def test_they_are_scipys(count: int, width: int, seed: int, scale: float) -> None:
    check(drawn(count, width, seed, scale))


@given(st.integers(2, 12), st.integers(0, 2**16), st.integers(-8, 0), st.integers(-8, 8))
def test_tiny_updates_around_a_large_one_keep_their_digits(count: int, seed: int, spread: int, size: int) -> None:
    """All close to one another, and one of them by itself: every pair but the last row's is below 1e-6."""
    rows = (drawn(1, 20, seed) * 10.0**size * (1 + 10.0**spread * drawn(count, 20, seed + 1))).astype("f4")
    check(np.concatenate([rows, drawn(1, 20, seed + 2, 1e3 * 10.0**size)]))


@given(st.integers(2, 9), st.integers(0, 2**16), st.integers(1, 5))
def test_duplicates_are_at_distance_zero(count: int, seed: int, times: int) -> None:
    rows = drawn(count, 7, seed)
    got = check(np.tile(rows, (times, 1)))
    same = np.tile(np.eye(count, dtype=bool), (times, times))
    assert not got[same].any()
    assert (got[~same] > 0).all()


def test_the_expanded_square_would_have_been_wrong() -> None:
    rows = (1e4 + drawn(30, 50, 0, 1e-2)).astype("f4")
    wide = torch.from_numpy(rows)
    assert bool((torch.cdist(wide, wide) ** 2 - torch.from_numpy(check(rows))).abs().max() > 1e-3)


def test_an_outlier_takes_no_digit_of_the_others() -> None:
    rows = drawn(12, 9, 3)
    alone = check(rows)
    beside = check(np.concatenate([rows, np.full((2, 9), 1e30, dtype="f4")]))
    np.testing.assert_allclose(beside[:12, :12], alone, rtol=1e-9)


@pytest.mark.parametrize("far", [1e6, 1e12])
@pytest.mark.parametrize("where", [slice(None, None, 5), slice(0, 12), slice(48, 60)], ids=str)
def test_outliers_do_not_make_the_others_close(far: float, where: slice, monkeypatch: pytest.MonkeyPatch) -> None:
    """A centre that they move would leave every pair of the others to be computed a second time."""
    again = list[int]()

    def count(pairs: torch.Tensor, pieces: Iterable[torch.Tensor]) -> torch.Tensor:
        again.append(len(pairs))
        return directly(pairs, pieces)

    directly = distances._directly
    monkeypatch.setattr(distances, "_directly", count)
    rows = drawn(60, 30, 4)
    rows[where] *= np.float32(far)
    check(rows)
    assert not again
    rows[where] = np.float32(far)  # all at one point: each other's pairs, and no others
    check(rows)
    assert again == [12 * 11 // 2]


def test_columns_in_pieces_are_all_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = drawn(6, 101, 1)
    rows[3] = rows[2] + np.float32(1e-6)
    whole = check(rows)
    monkeypatch.setattr("fedray.aggregators.gathered.COLUMNS", 60)
    np.testing.assert_allclose(check(rows), whole, rtol=1e-12)
    point = torch.from_numpy(rows[0]).double()
    found = distances_to(column_pieces(torch.from_numpy(rows)), point)
    np.testing.assert_allclose(found.numpy(), np.sqrt(whole[0]), rtol=1e-9)


@given(st.integers(1, 9), st.integers(1, 30), st.integers(0, 2**16))
def test_distances_to_a_point_are_numpys(count: int, width: int, seed: int) -> None:
    rows, point = drawn(count, width, seed), np.random.default_rng(seed + 1).standard_normal(width)
    got = distances_to(column_pieces(torch.from_numpy(rows)), torch.from_numpy(point)).numpy()
    np.testing.assert_allclose(got, np.linalg.norm(rows - point, axis=1), rtol=1e-12)
