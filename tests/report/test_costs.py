"""The cost of runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedray.report import Figures, Table
from fedray.report.costs import bytes_chart, cost_blocks
from fedray.report.told import settings_of
from tests.report.folders import told, write_run


def test_sums_over_rounds_and_what_nobody_measured_is_left_out(tmp_path: Path) -> None:
    table, phases = cost_blocks(settings_of(told(write_run(tmp_path / "a"))))
    assert isinstance(table, Table)
    assert isinstance(phases, Table)
    assert dict(zip(table.head, table.rows[0], strict=True)) == pytest.approx(
        {"run": "heart", "seconds": 8.0, "CPU seconds": 12.0, "GPU Wh": 8.0, "MB down": 8.0, "MB up": 4.0}
    )
    assert dict(zip(phases.head, phases.rows[0], strict=True)) == {"run": "heart", "train": 1.5}


def test_settings_that_send_as_much_need_no_chart_of_it(tmp_path: Path) -> None:
    one = write_run(tmp_path / "a")
    same = write_run(tmp_path / "b", algorithm="fedprox")
    less = write_run(tmp_path / "c", algorithm="topk", bytes={"down": 2_000_000, "up": 10_000})
    assert bytes_chart(settings_of(told(one, same))) is None
    chart = bytes_chart(settings_of(told(one, less)))
    assert chart is not None
    assert chart.curves[0].x == pytest.approx([3, 6, 9, 12])
    assert chart.curves[1].x == pytest.approx([2.01, 4.02, 6.03, 8.04])
    *_, figures = cost_blocks(settings_of(told(one, less)))
    assert isinstance(figures, Figures)


def test_without_a_round_there_is_no_cost(tmp_path: Path) -> None:
    assert list(cost_blocks(settings_of(told(write_run(tmp_path / "a", rounds=0, status=None))))) == []
