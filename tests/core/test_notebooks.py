"""Notebooks, as a kernel's IPython shows what this process displays."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from fedray.core.notebooks import Output, in_notebook
from fedray.core.stages import along, stage
from fedray.core.waiting import waiting

Shown = list[dict[str, str]]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """What an output of a kernel shows, one after the other."""
    every: Shown = []

    class Handle:
        def update(self, data: dict[str, str], raw: bool) -> None:
            assert raw
            every.append(data)

    def display(data: dict[str, str], raw: bool, display_id: bool) -> Any:
        assert raw
        assert display_id
        every.append(data)
        return Handle()

    module, below = ModuleType("IPython"), ModuleType("IPython.display")
    module.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    below.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", below)
    return every


def test_a_script_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()


def test_ipython_in_a_terminal_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("IPython")
    module.get_ipython = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    assert not in_notebook()
    module.get_ipython = lambda: SimpleNamespace()  # type: ignore[attr-defined]
    assert not in_notebook()


def test_an_output_is_replaced(shown: Shown) -> None:
    assert in_notebook()
    Output("<b>1</b>", "1").show("<b>2</b>", "2")
    assert shown == [
        {"text/html": "<b>1</b>", "text/plain": "1"},
        {"text/html": "<b>2</b>", "text/plain": "2"},
    ]


def test_stages_are_shown_and_gone_afterwards(shown: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    with waiting():
        stage("trying <model>")
        for _ in along(["a"], "reading"):
            pass
    said = [one["text/plain"] for one in shown]
    assert said == ["", "trying <model>", "reading (1)", "reading (1)", ""]
    assert "trying &lt;model&gt;" in shown[1]["text/html"]
    assert shown[-1]["text/html"] == ""
    assert capsys.readouterr().out == ""


def test_who_is_quiet_has_no_output(shown: Shown) -> None:
    with waiting(quiet=True):
        stage("trying")
    assert shown == []
