"""The confusion matrices of a report; those of the test set over seeds are in test_runs.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from fedray.report import Figures, Matrix, Words
from fedray.report import confusion as module
from fedray.report.blocks import Block
from fedray.report.confusion import confusion_blocks
from fedray.report.runs import report_sections
from fedray.report.told import settings_of
from tests.report.folders import CLASSES, NOW, told, write_run


def of_clients(blocks: Sequence[Block]) -> tuple[str, list[tuple[str, list[list[float]]]]]:
    """What is said of single clients, and the caption and counts of each."""
    _, words, figures = blocks
    assert isinstance(words, Words)
    assert isinstance(figures, Figures)
    charts = [chart for chart in figures.charts if isinstance(chart, Matrix)]
    assert all(chart.rows == CLASSES for chart in charts)
    return words.text, [(chart.caption, [list(row) for row in chart.values]) for chart in charts]


def test_questions_of_their_own_have_a_row_each(tmp_path: Path) -> None:
    table = {"confusion_matrix": {"classes": ["a", "b"], "counts": [[[8, 1], [0, 5]]] * 2}}
    write_run(tmp_path / "run", tables={"test": table})
    (section,) = (one for one in report_sections([tmp_path / "run"], NOW)[2] if one.title == "Confusion")
    (figures,) = section.blocks
    assert isinstance(figures, Figures)
    (chart,) = figures.charts
    assert isinstance(chart, Matrix)
    assert (chart.columns, chart.values) == (["TN", "FP", "FN", "TP"], [[8, 1, 0, 5]] * 2)


def test_each_client_has_its_own_summed_over_seeds_with_the_same_clients(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / str(seed), seed, counts=True) for seed in (1, 2)]
    text, charts = of_clients(list(confusion_blocks(settings_of(told(*folders)))))
    assert "each by its own model at the last evaluation; summed over 2 seeds" in text
    assert charts[0] == ("<h0>: 16 examples", [[0, 16], [0, 0]])
    assert len(charts) == 3
    others = write_run(tmp_path / "3", 3, sizes=(1, 2), counts=True)
    text, charts = of_clients(list(confusion_blocks(settings_of(told(folders[0], others)))))
    assert "of seed 1" in text
    assert charts[0][0] == "<h0>: 8 examples"


def test_of_many_clients_those_that_fare_worst_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OF_CLIENTS", 2)
    text, charts = of_clients(list(confusion_blocks(settings_of(told(write_run(tmp_path / "1", counts=True))))))
    assert "those of the 2 of 3 clients that fare worst by accuracy" in text
    assert [caption for caption, _ in charts] == ["<h0>: 8 examples", "<h1>: 5 examples"]
