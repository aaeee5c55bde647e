"""What is printed for people is whole, at any width."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from fedray.core.terminal import Grid, live, pairs, plain, show

WORDS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=20)
TEXTS = st.lists(WORDS, min_size=1, max_size=30).map(" ".join)


def in_terminal(what: RenderableType, width: int) -> list[str]:
    """Its lines in a terminal of so many columns."""
    out = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with out.capture() as captured:
        out.print(what)
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= width
    return lines


def words(what: RenderableType, width: int) -> list[str]:
    return " ".join(in_terminal(what, width)).split()


@given(st.dictionaries(WORDS, TEXTS, min_size=1), st.integers(50, 120))
def test_lines_break_between_words_and_lose_none(rows: dict[str, str], width: int) -> None:
    assert sorted(words(pairs(rows.items()), width)) == sorted(" ".join([*rows, *rows.values()]).split())


@given(st.dictionaries(WORDS, TEXTS, min_size=1))
def test_plain_text_has_a_line_for_each_row_however_long(rows: dict[str, str]) -> None:
    lines = plain(pairs(rows.items())).splitlines()
    assert [line.split(maxsplit=1) for line in lines] == [list(row) for row in rows.items()]
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_table_keeps_its_heads_and_cells_whole_at_any_width(width: int) -> None:
    head = ["algorithm.name", "train.loss", "test.accuracy", "clients_test.accuracy", "clients_test.loss"]
    lines = [["fedavg", "0.1417 ± 0.2", "0.9 ± 0.01", "0.8", "0.5"], ["scaffold", "0.3", "nan", "", "0.25"]]
    shown = words(Grid(head, lines), width)
    for word in " ".join([*head, *lines[0], *lines[1]]).split():
        assert word in shown
    beside = any(all(name in line for name in head) for line in in_terminal(Grid(head, lines), width))
    assert beside == (width == 200)


def test_what_is_piped_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    show(Grid(["a", "b"], [["x" * 300, "[bold] y"]]))
    assert any("x" * 300 in line and "[bold] y" in line for line in capsys.readouterr().out.splitlines())


def test_markdown_of_a_cell_with_a_bar() -> None:
    assert plain(Grid(["a"], [["x|y"]], markdown=True)).splitlines()[2] == "| x\\|y |"


def test_what_is_updated_in_place_leaves_the_cursor_visible() -> None:
    out = io.StringIO()
    to = Console(file=out, width=40, force_terminal=True, _environ={"TERM": "xterm"})
    with live("one", to) as shown:
        shown.update("two", refresh=True)
        text = out.getvalue()
        assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert "two" in out.getvalue()
