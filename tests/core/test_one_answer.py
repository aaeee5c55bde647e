"""One class as the only answer, in words."""

from __future__ import annotations

from typing import Any

import pytest

from fedray.core.one_answer import OneAnswer, told


def table(counts: list[int], said: list[int]) -> dict[str, Any]:
    return {"classes": [f"c{k}" for k in range(len(counts))], "counts": counts, "said": said}


@pytest.mark.parametrize(
    ("counts", "said", "expected"),
    [
        ([42, 8], [50, 0], OneAnswer("c0", 8, 50)),
        ([8, 42], [50, 0], OneAnswer("c0", 42, 50)),
        ([20, 20, 20], [0, 0, 60], OneAnswer("c2", 40, 60)),
        ([42, 8], [49, 1], None),
        ([50, 0], [50, 0], None),
        ([0, 0], [0, 0], None),
    ],
)
def test_it_is_one_for_examples_of_several_classes(
    counts: list[int], said: list[int], expected: OneAnswer | None
) -> None:
    assert OneAnswer.of(table(counts, said)) == expected


def test_everybody_comes_first_and_clients_are_named_where_it_is_not_so_of_all() -> None:
    whole, part = table([84, 16], [100, 0]), table([84, 16], [90, 10])
    clients = {"clients_test": {"north": OneAnswer("c0", 8, 50)}}
    assert told({"test": whole, "clients_test": whole}, clients).partition("; what may help: ")[0] == (
        "one class is the only answer: 'c0' for all 100 of test, of which 16 are of another class; 'c0' for all 100 of "
        "clients_test, of which 16 are of another class"
    )
    assert told({"test": part, "clients_test": part}, clients).partition("; what may help: ")[0] == (
        "one class is the only answer: for each of the clients north ('c0', 8 of 50 are not) in clients_test"
    )
    assert told({"test": part, "clients_test": part}) == told({}) == ""


def test_what_is_done_is_not_advised() -> None:
    tables = {"test": table([84, 16], [100, 0])}
    assert "class_weights" in told(tables)
    assert "class_weights" not in told(tables, weights=True)
    assert "threshold" not in told(tables)
    assert "--threshold 0.3" in told(tables, threshold=True)
    assert "more rounds" in told(tables, weights=True)
