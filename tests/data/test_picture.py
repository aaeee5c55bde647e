"""Pictures of label distributions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.errors import ConfigError
from fedray.data.picture import caption, cells_of, chosen_clients, label_picture, palette


@given(st.integers(1, 3000))
def test_at_most_fifty_clients_evenly_picked(count: int) -> None:
    chosen = chosen_clients(count)
    assert len(chosen) == min(count, 50)
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    if count > 50:
        assert np.diff(chosen).max() - np.diff(chosen).min() <= 1


@given(st.lists(st.integers(0, 50), min_size=2, max_size=8).filter(sum), st.integers(20, 100))
def test_bars_are_as_long_as_the_shares(row: list[int], width: int) -> None:
    text = label_picture(np.array([row]), width=width)
    bar = text.splitlines()[1].split("|")[1]
    assert len(bar) == width
    for number, count in enumerate(row):
        assert abs(bar.count(str(number)) - width * count / sum(row)) <= 1


def test_text_names_clients_sizes_classes_and_what_is_left_out() -> None:
    counts = np.full((120, 3), 2)
    text = label_picture(counts, ["x", "y", "z"], 30, clients=[f"site_{n}" for n in range(120)])
    lines = text.splitlines()
    assert lines[0] == caption(120) == "label shares per client (50, evenly picked, of 120 clients; one bar each)"
    assert len(lines) == 52
    assert lines[1].startswith("  site_0 |0000000000")
    assert lines[1].endswith("| 6")
    assert lines[-1] == "0 = x, 1 = y, 2 = z"
    assert label_picture(np.ones((2, 300), dtype=np.int64)).endswith("19 = 19, ...") is False
    assert label_picture(np.ones((2, 300), dtype=np.int64)).endswith("j = 19, ...")


def test_classes_without_names_need_no_key() -> None:
    assert label_picture(np.array([[1, 1], [2, 0]]), width=4).splitlines()[1:] == ["0 |0011| 2", "1 |0000| 2"]
    assert label_picture(np.array([[1, 1], [2, 0]]), ["0", "1"]).splitlines()[-1].startswith("1 |")


def test_a_cell_is_of_the_class_that_fills_it() -> None:
    counts = np.array([[1, 1, 0], [0, 0, 4], [2, 1, 1]])
    assert cells_of(counts, 4).tolist() == [[0, 0, 1, 1], [2, 2, 2, 2], [0, 0, 1, 2]]


def test_colours_of_a_hundred_classes_differ() -> None:
    assert len(np.unique(palette(100), axis=0)) == 100


def test_no_counts_is_an_error() -> None:
    with pytest.raises(ConfigError, match="counts"):
        label_picture(np.zeros((3, 0), dtype=np.int64))
