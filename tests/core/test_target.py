"""Rounds to a target: the first that is there, and what all up to it took."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.errors import ConfigError
from fedray.core.record import RoundRecord
from fedray.core.target import Reached, rounds_to

VALUES = st.lists(st.none() | st.floats(0.0, 1.0), min_size=1, max_size=8)


def records_of(values: list[float | None]) -> list[RoundRecord]:
    """Records that were evaluated where there is a value."""
    return [
        RoundRecord(round, seconds=0.5, bytes={"up": 3, "down": 4, "network": 99}, test=_test(value))
        for round, value in enumerate(values, 1)
    ]


def _test(value: float | None) -> dict[str, float]:
    return {} if value is None else {"accuracy": value, "loss": 1.0 - value}


@given(VALUES.filter(lambda values: any(value is not None for value in values)), st.floats(0.0, 1.0))
def test_no_round_before_is_there_and_the_costs_are_those_of_all_up_to_it(
    values: list[float | None], target: float
) -> None:
    found = rounds_to(records_of(values), "test.accuracy", target)
    there = [round for round, value in enumerate(values, 1) if value is not None and value >= target]
    if found is None:
        assert there == []
    else:
        assert found == Reached(min(there), values[found.round - 1] or 0.0, 7 * found.round, 0.5 * found.round)


def test_of_losses_less_is_better_unless_said_otherwise() -> None:
    records = records_of([0.2, 0.6, 0.9])
    for mode, round in (("auto", 2), ("min", 2), ("max", 1)):
        found = rounds_to(records, "test.loss", 0.5, mode)  # type: ignore[arg-type]
        assert found is not None
        assert found.round == round


def test_a_value_that_is_no_number_reaches_nothing() -> None:
    assert rounds_to(records_of([math.nan]), "test.accuracy", 0.0) is None


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("accuracy", "metric=accuracy: it must be one of train.NAME, test.NAME"),
        ("test.f1", "metric=test.f1: no record has test.f1; there is test.accuracy, test.loss"),
        ("clients_test.loss", "metric=clients_test.loss: no record has it: nothing was evaluated that gives it"),
    ],
)
def test_a_metric_that_no_record_has_is_named(metric: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"^{words}"):
        rounds_to(records_of([None, 0.5]), metric, 0.5)
