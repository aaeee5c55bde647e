"""The table of runs in terminals of any width."""

from __future__ import annotations

import io

from rich.console import Console

from fedray.cli.run_table import RunTable
from fedray.experiment.runs import Listed

RUNS = [
    Listed(
        "runs/digits/2026-11-28_16-34-41",
        "digits",
        "running",
        1200,
        3000,
        "test.accuracy",
        0.95821,
        1100,
        0.9,
        60.0,
        90.0,
        75.0,
    ),
    Listed(
        "runs/digits/2026-11-28_10-00-00",
        "digits",
        "failed",
        7,
        None,
        "train.loss",
        1.5,
        7,
        None,
        9.0,
        0.0,
        None,
        "why",
    ),
]


def drawn(width: int, runs: list[Listed] = RUNS) -> list[str]:
    out = Console(file=io.StringIO(), width=width, color_system=None)
    with out.capture() as captured:
        out.print(RunTable(runs, 100.0))
    return [line.rstrip() for line in captured.get().splitlines() if line.strip()]


def test_a_wide_terminal_has_every_column() -> None:
    head, _, first, second, why = drawn(200)
    assert head.split() == ["run", "state", "rounds", "best", "last", "time", "changed"]
    assert "1,200/3,000   test.accuracy 0.9582, round 1,100" in first
    assert first.endswith("1 min 15 s left    10 s ago")
    assert "7/?" in second
    assert "nan" in second
    assert why == "runs/digits/2026-11-28_10-00-00: why"


def test_a_narrow_one_does_without_the_least_and_never_cuts() -> None:
    for width in (150, 130, 110):
        lines = drawn(width)
        assert max(map(len, lines)) <= width
        assert sum(one.folder in "".join(lines) for one in RUNS) == 2
        assert lines[0].split()[:4] == ["run", "state", "rounds", "best"]
    assert "changed" not in drawn(110)[0]
    assert max(map(len, drawn(60))) <= 60


def test_a_metric_that_all_have_is_in_the_head() -> None:
    head, _, line = drawn(200, RUNS[:1])
    assert "best test.accuracy" in head
    assert "0.9582, round 1,100" in line
    assert "test.accuracy" not in line
