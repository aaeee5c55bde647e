"""The result of a run, as Python and a notebook show it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from torch import nn

import fedray
from fedray.core.record import RoundRecord


def result(rounds: int, *, stopped: bool = False) -> fedray.Result:
    history = [
        RoundRecord(number, seconds=1.0, train={"loss": 1 / number}, test={"accuracy": number / 10})
        for number in range(1, rounds + 1)
    ]
    return fedray.Result(nn.Linear(2, 2), history, Path("runs/<first>"), stopped)


def test_it_is_one_line_in_python() -> None:
    words = "rounds 2 of 2, train.loss 0.5, test.accuracy 0.2"
    assert repr(result(2)) == f"Result({words}, run_dir='runs/<first>')"
    assert repr(result(2, stopped=True)) == f"Result({words}, stopped, run_dir='runs/<first>')"


def test_a_notebook_has_curves_and_numbers() -> None:
    html = result(3)._repr_html_()
    assert html is not None
    assert html.count("<svg") == 2
    assert "runs/&lt;first&gt;" in html
    assert "round 3 of 3" in html
    assert "stopped" not in html
    assert "stopped" in str(result(3, stopped=True)._repr_html_())


def test_the_cell_that_trains_shows_the_panel_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module, shell = ModuleType("IPython"), SimpleNamespace(kernel=object(), execution_count=4)
    module.get_ipython = lambda: shell  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    trained = replace(result(3), cell=4)
    assert trained._repr_html_() is None
    shell.execution_count = 5
    assert "<svg" in str(trained._repr_html_())


def test_one_without_rounds_is_shown_too() -> None:
    assert "rounds 0 of 0" in repr(result(0))
    assert "<svg" not in str(result(0)._repr_html_())
