"""Metrics that decide: where they stand in a record, and which value is better."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.monitor import Monitor, Unknown
from fedray.core.record import RoundRecord, more_is_better

RECORD = RoundRecord(
    3,
    train={"loss": 0.5},
    test={"loss": 0.4, "accuracy": 0.9},
    clients={"sampled": 3, "ok": 2, "failed": 1},
    clients_test={"accuracy": {"mean": 0.8, "p10": 0.3, "std": 0.1}},
    metrics={"fedexp": {"step": 2.5}, "krum": {"score": 0.5}},
)


@pytest.mark.parametrize(
    ("metric", "value", "direction"),
    [
        ("train.loss", 0.5, "min"),
        ("test.accuracy", 0.9, "max"),
        ("clients_test.accuracy", 0.8, "max"),
        ("clients_test.accuracy.p10", 0.3, "max"),
        ("clients_test.accuracy.std", 0.1, "min"),
        ("metrics.fedexp.step", 2.5, "max"),
    ],
)
def test_a_metric_is_found_as_a_record_has_it_and_its_direction_by_its_name(
    metric: str, value: float, direction: str
) -> None:
    assert Monitor(metric).value(RECORD) == value
    assert Monitor(metric).value(RoundRecord(4)) is None
    assert Monitor(metric).direction == direction
    assert [Monitor(metric, mode).direction for mode in ("min", "max")] == ["min", "max"]


@pytest.mark.parametrize("metric", ["loss", "test_loss", "rmse", "Mean_Squared_Error", "val.perplexity"])
def test_less_is_better_of_losses_and_errors(metric: str) -> None:
    assert not more_is_better(metric)
    assert more_is_better("glossary")


@pytest.mark.parametrize(
    ("metric", "known"),
    [
        ("test.acuracy", "test.loss, test.accuracy"),
        ("clients_test.loss", "clients_test.accuracy"),
        ("clients_test.accuracy.p25", "clients_test.accuracy"),
        ("test.loss.p10", "test.loss, test.accuracy"),
        ("metrics.fedexp.stop", "metrics.fedexp.step, metrics.krum.score"),
        ("metrics.fedexp", "metrics.fedexp.step, metrics.krum.score"),
    ],
)
def test_one_that_no_record_has_is_told_with_those_there_are(metric: str, known: str) -> None:
    with pytest.raises(Unknown, match=f"^no record has {metric}; there is {known}$"):
        Monitor(metric).value(RECORD)


@pytest.mark.parametrize("metric", ["loss", "seconds", "usage.cpu_seconds", "test", "test.", "test..loss", ""])
def test_what_is_no_metric_is_refused(metric: str) -> None:
    with pytest.raises(ValueError, match=r"it must be one of train\.NAME, test\.NAME, clients_test\.NAME"):
        Monitor(metric)
    mode: Any = "most"
    with pytest.raises(ValueError, match="mode=most: it must be auto, min or max"):
        Monitor("test.loss", mode)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0, 10))
def test_of_two_values_at_most_one_is_better_and_less_so_by_more(one: float, other: float, by: float) -> None:
    for mode in ("min", "max"):
        monitor = Monitor("test.score", mode)
        better = [monitor.better(one, other), monitor.better(other, one)]
        assert sum(better) == (one != other)
        assert not monitor.better(one, other, by) or better[0]
        assert monitor.better(one, None)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_better_than_nothing(value: float) -> None:
    for mode in ("min", "max"):
        assert not Monitor("test.score", mode).better(value, None)
        assert not Monitor("test.score", mode).better(value, 0.0)
    record = RoundRecord.from_json(RoundRecord(1, test={"score": value}).to_json())
    found = Monitor("test.score").value(record)
    assert found is not None
    assert math.isnan(found)


def test_what_a_part_tells_is_missed_in_the_first_round_that_has_clients() -> None:
    nobody, told = RoundRecord(1, clients={"ok": 0}), RoundRecord(1, clients={"ok": 3})
    assert Monitor("metrics.fedexp.step").value(nobody) is None
    with pytest.raises(Unknown, match=r"^no record has metrics\.fedexp\.step; there is nothing in its place$"):
        Monitor("metrics.fedexp.step").value(told)
