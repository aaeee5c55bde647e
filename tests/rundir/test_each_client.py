"""The table of what each client got."""

from __future__ import annotations

import pytest

from fedray.core.terminal import plain
from fedray.rundir.each_client import Got, below, each_client

NAMES = ["loss", "accuracy", "auroc", "f1", "sensitivity", "specificity", "average_precision"]


@pytest.mark.parametrize("width", [60, 80, 120, 10_000])
def test_it_is_no_wider_than_there_is_room_and_names_the_rest(width: int) -> None:
    numbers = dict.fromkeys(NAMES, 0.123456)
    found = [Got(client, view, 1200, numbers) for view in ("global", "personal") for client in ("clinic", "hospital")]
    table, left = each_client(found, width)
    assert max(map(len, plain(table).splitlines())) <= width
    assert len(table.head) - 2 + len(left) == 2 * len(NAMES)
    assert table.head[:2] == ["client", "examples"]
    assert "clients_personal.accuracy" in table.head
    said = [line for line in below(table, left, "elsewhere") if line.startswith("left out")]
    assert bool(said) == (width < 10_000)
    assert all(name in said[0] for name in left[:10])


def test_what_has_no_value_is_said_in_one_word() -> None:
    found = [
        Got("a", "global", 3, {"loss": 0.5, "auroc": None}),
        Got("b", "global", 2, {"loss": 0.25, "auroc": float("nan")}),
    ]
    table, left = each_client(found, 80)
    assert [list(line) for line in table.lines] == [["a", "3", "0.5", "nan"], ["b", "2", "0.25", "nan"]]
    assert next(below(table, left, "")).startswith("nan: no value")
    broken, _ = each_client([Got("nan", "global", 3, {"loss": None, "auroc": 0.5})], 80)
    assert not list(below(broken, [], ""))  # a loss that is none is no question of classes


def test_metrics_have_room_before_the_examples_of_each_class_and_the_loss_last() -> None:
    numbers = {"loss": 0.5, "auroc": 0.36, "sensitivity": 0.5}
    found = [Got("a", "global", 30, numbers, "no 28, yes 2"), Got("b", "global", 9, numbers)]
    table, _ = each_client(found, 1000)
    assert list(table.head) == ["client", "examples", "of each class", "loss", "auroc", "sensitivity"]
    assert [list(line[:3]) for line in table.lines] == [["a", "30", "no 28, yes 2"], ["b", "9", ""]]
    narrow, left = each_client(found, 50)
    assert list(narrow.head) == ["client", "examples", "auroc", "sensitivity"]
    assert left == ["of each class", "loss"]
    wider, left = each_client(found, 65)
    assert list(wider.head) == ["client", "examples", "of each class", "auroc", "sensitivity"]
    assert left == ["loss"]


def test_a_client_that_a_view_lacks_has_an_empty_cell() -> None:
    found = [Got("a", "global", 3, {"loss": 0.5}), Got("b", "personal", 2, {"loss": 0.25})]
    table, _ = each_client(found, 80)
    assert list(table.head) == ["client", "examples", "clients_test.loss", "clients_personal.loss"]
    assert [list(line) for line in table.lines] == [["a", "3", "0.5", ""], ["b", "2", "", "0.25"]]
