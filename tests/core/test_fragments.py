"""Fragments of a model: whose tensors they have, which travels, and what has moved meanwhile."""

from __future__ import annotations

import pytest
from torch import nn

from fedray.core.errors import ConfigError
from fedray.core.fragments import Fragments
from fedray.core.layout import Layout
from fedray.core.regions import Regions

MODEL = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
LAYOUT = Layout.of(MODEL)


def turn(round: int) -> int:
    return (round - 1) % 3


THREE = Fragments.of(LAYOUT, [["0.bias", "1.bias"], ["1.weight"], ["0.weight"]], turn)


def test_a_fragment_is_a_model_of_its_own() -> None:
    first = THREE.at(1)
    assert [(entry.name, entry.start, entry.stop) for entry in first.layout.entries] == [
        ("0.bias", 0, 3),
        ("1.bias", 3, 4),
    ]
    assert first.columns.places == (slice(6, 9), slice(12, 13))
    assert first.layout.shared == first.columns.size == 4
    assert THREE.width == 6
    assert {fragment.columns.width for fragment in THREE.members} == {6}


def test_neighbours_are_one_place() -> None:
    halves = Fragments.of(LAYOUT, [["0.weight", "0.bias"], ["1.weight", "1.bias"]], turn)
    assert [fragment.columns.places for fragment in halves.members] == [(slice(0, 9),), (slice(9, 13),)]


def test_a_client_is_behind_by_what_has_moved_since_its_last_round() -> None:
    sizes = [fragment.columns.size for fragment in THREE.members]
    assert sizes == [4, 3, 6]
    assert THREE.behind(4, 5) == sizes[0]
    assert THREE.behind(4, 6) == sizes[0] + sizes[1]
    assert THREE.behind(4, 7) == THREE.behind(4, 100) == THREE.behind(0, 1) == 13
    assert THREE.moved(4, 4) == set()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([["0.weight", "0.bias"], ["1.weight"]], r"1\.bias is in none, in several.*there are 0\.weight"),
        ([["0.weight", "0.bias"], ["0.bias", "1.weight", "1.bias"]], r"0\.bias is in none, in several"),
        ([["0.weight", "0.bias", "2.bias"], ["1.weight", "1.bias"]], r"2\.bias is in none, .*no tensor that travels"),
        ([["0.weight", "0.bias", "1.weight", "1.bias"], []], "one of them is empty"),
    ],
)
def test_they_share_out_what_travels(names: list[list[str]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Fragments.of(LAYOUT, names, turn)


def test_what_stays_with_its_client_is_in_none() -> None:
    layout = Layout.of(MODEL, Regions(personal=("1",)))
    halves = Fragments.of(layout, [["0.weight"], ["0.bias"]], turn)
    assert halves.behind(0, 1) == layout.shared
    with pytest.raises(ConfigError, match=r"1\.bias is in none"):
        Fragments.of(layout, [["0.weight"], ["0.bias", "1.bias"]], turn)
