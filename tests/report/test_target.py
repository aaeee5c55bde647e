"""Rounds to a target in a report: of each setting the mean over the runs that reached it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedray.core.errors import ConfigError
from fedray.report.blocks import Table
from fedray.report.target import Target, target_blocks
from fedray.report.told import Setting


def run(*values: float) -> Any:
    """A run with an accuracy in each round."""
    records = [
        {"round": round, "seconds": 2.0, "test": {"accuracy": value}, "bytes": {"up": 10**6, "down": 10**6}}
        for round, value in enumerate(values, 1)
    ]
    return SimpleNamespace(records=records, folder=Path("runs"))


def test_each_setting_has_the_mean_of_its_runs_that_reached_it() -> None:
    settings = [Setting("fedavg", [run(0.5, 0.8), run(0.5, 0.6, 0.7, 0.9)]), Setting("fedprox", [run(0.1, 0.2)])]
    settings.append(Setting("scaffold", [run(0.9), run(0.1, 0.2)]))
    (table,) = target_blocks(settings, Target("test.accuracy", 0.8))
    assert isinstance(table, Table)
    assert table.head == ["setting", "reached", "rounds", "MB down and up", "seconds"]
    assert table.rows == [
        ["fedavg", "2/2", 3.0, 6.0, 6.0],
        ["fedprox", "0/1", None, None, None],
        ["scaffold", "1/2", 1.0, 2.0, 2.0],
    ]
    assert "Rounds to test.accuracy 0.8" in table.caption
    assert "Seconds depend on the machine and on what else it did" in table.caption
    assert list(target_blocks(settings, None)) == []


def test_who_has_no_such_metric_has_a_dash_and_is_refused_where_nobody_has_it() -> None:
    personal: Any = SimpleNamespace(records=[{"round": 1, "seconds": 2.0}], folder=Path("runs"))
    settings = [Setting("fedavg", [run(0.9), personal]), Setting("fedbn", [personal])]
    (table,) = target_blocks(settings, Target("test.accuracy", 0.8))
    assert isinstance(table, Table)
    assert table.rows == [["fedavg", "1/2", 1.0, 2.0, 2.0], ["fedbn", None, None, None, None]]
    with pytest.raises(ConfigError, match=r"^metric=test\.accuracy: no record has it"):
        list(target_blocks(settings[1:], Target("test.accuracy", 0.8)))


@pytest.mark.parametrize("text", ["test.accuracy", "test.accuracy=high", "0.8"])
def test_a_target_without_a_number_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--target .*as in test\.accuracy=0\.8"):
        Target.of(text)
