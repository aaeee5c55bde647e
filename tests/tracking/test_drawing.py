"""Pictures for TensorBoard: what stands where in them."""

from __future__ import annotations

import numpy as np
import pytest

from fedray.data.picture import palette
from fedray.metrics.confused import Confused
from fedray.tracking.drawing import BLUE, PAPER, label_map, matrix_image


def confused(counts: list[list[int]], names: list[str]) -> Confused:
    found = Confused.of({"classes": names, "counts": counts})
    assert found is not None
    return found


def where(image: np.ndarray, colour: tuple[int, ...]) -> np.ndarray:
    """Places ``[n, 2]`` of the pixels of a colour."""
    return np.argwhere((image == np.array(colour, np.uint8)).all(axis=2))


def test_a_cell_is_as_dark_as_its_share_of_its_row() -> None:
    image = matrix_image(confused([[5, 0], [0, 900]], ["no", "yes"]))
    dark = where(image, BLUE)
    (top, left), (bottom, right) = dark.min(axis=0), dark.max(axis=0)
    middle = (top + bottom) / 2, (left + right) / 2
    above, beside = dark[:, 0] < middle[0] - 2, dark[:, 1] < middle[1] - 2
    # Both cells on the diagonal, and none beside it: a row of 5 is as good as one of 900.
    assert (above & beside).sum() > 500
    assert (~above & ~beside).sum() > 500
    assert (above & (dark[:, 1] > middle[1] + 2)).sum() == 0


def test_counts_have_room_or_are_left_out() -> None:
    small, large = (matrix_image(confused([[n, 0], [0, n]], ["a", "b"])) for n in (5, 5_000_000))
    assert large.shape[1] > small.shape[1]
    many = [str(number) for number in range(200)]
    image = matrix_image(confused(np.eye(200, dtype=int).tolist(), many))
    assert max(image.shape) < 800


def test_names_of_any_length_fit() -> None:
    short = matrix_image(confused([[1, 0], [0, 1]], ["a", "b"]))
    long = matrix_image(confused([[1, 0], [0, 1]], ["malignant" * 9, "benign"]))
    assert long.shape[0] > short.shape[0]  # those below stand upright
    assert max(long.shape) < 400


def test_a_class_nobody_has_is_a_row_of_paper() -> None:
    image = matrix_image(confused([[0, 0], [0, 0]], ["a", "b"]))
    assert len(where(image, BLUE)) == 0
    assert len(where(image, PAPER)) > image.shape[0] * image.shape[1] / 2


def test_a_bar_has_the_shares_of_a_client() -> None:
    counts = np.array([[1, 1, 0], [0, 0, 4], [3, 1, 0]])
    image, colours = label_map(counts, ["ann", "bob", "cid"], ["x", "y", "z"]), palette(3)
    found = [len(where(image, tuple(colour.tolist()))) for colour in colours]
    bar = found[2] - (found[2] - 200 * 12 if found[2] > 200 * 12 else 0)
    assert bar == 200 * 12
    key = found[2] - bar  # the square of the key
    assert (found[0] - key) / bar == pytest.approx(0.5 + 0.75)
    assert (found[1] - key) / bar == pytest.approx(0.5 + 0.25)


def test_of_many_clients_fifty_are_shown() -> None:
    few, many = label_map(np.ones((50, 2), dtype=int)), label_map(np.ones((4000, 2), dtype=int))
    assert many.shape[0] - few.shape[0] < 40
