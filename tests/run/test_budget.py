"""What rounds have used adds up, and ends a run when it is enough."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.config.sections import BudgetSection
from fedray.core.record import RoundRecord
from fedray.run.budget import Totals, used_up


def record(number: int) -> RoundRecord:
    usage = {
        "nodes": 2,
        "retries": number,
        "cpu_seconds": 2.0,
        "gpu_seconds": 3.0,
        "joules": 4.0,
        "worker": ["a", "b"],
        "idle": [0.5, 1.5],
        "rss": [100 * number, 7],
        "gpu_memory": [1, 2],
        "failures": {"train": 1, "worker": number},
        "hardware": ["A", "B"] if number == 3 else ["A"],
    }
    return RoundRecord(number, seconds=1.5, examples=20, bytes={"up": 1, "down": 2, "network": 10}, usage=usage)


def test_rounds_add_up_and_peaks_are_peaks() -> None:
    totals = Totals()
    for number in (1, 3, 2):
        totals.add(record(number))
    totals.add(RoundRecord(4))
    assert totals == Totals(
        wall_seconds=4.5,
        cpu_seconds=6.0,
        gpu_seconds=9.0,
        joules=12.0,
        idle=6.0,
        network=30,
        retries=6,
        failures={"train": 3, "worker": 6},
        rss=300,
        gpu_memory=2,
        examples=60,
        hardware=["A", "B"],
    )
    assert Totals.from_json(json.loads(json.dumps(totals.to_json()))) == totals


def test_without_limits_nothing_is_used_up() -> None:
    assert used_up(BudgetSection(), Totals(1e9, 1e9, 1e9)) is None


@pytest.mark.parametrize(
    ("name", "field"), [("gpu_hours", "gpu_seconds"), ("cpu_hours", "cpu_seconds"), ("wall_hours", "wall_seconds")]
)
@given(limit=st.floats(1e-3, 1e6), share=st.floats(0.0, 2.0))
def test_a_limit_is_reached_by_its_own_kind_only(name: str, field: str, limit: float, share: float) -> None:
    only: Any = {name: limit}
    budget = BudgetSection(**only)
    totals = Totals(1e12, 1e12, 1e12)
    setattr(totals, field, share * 3600 * limit)
    said = used_up(budget, totals)
    if share > 1.001:
        assert said is not None
        assert said.startswith(f"budget.{name} is used up: ")
    elif share < 0.999:
        assert said is None


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_a_limit_is_above_zero(limit: float) -> None:
    with pytest.raises(ValueError, match=r"cpu_hours=.*: it must be above 0"):
        BudgetSection(cpu_hours=limit)


def test_the_last_round_is_a_limit_of_its_own() -> None:
    budget = BudgetSection(last_round=3)
    assert [used_up(budget, Totals(), round) for round in (0, 2)] == [None, None]
    assert used_up(budget, Totals(), 3) == "budget.last_round is done: 3"
    with pytest.raises(ValueError, match="last_round=0: it must be at least 1"):
        BudgetSection(last_round=0)
