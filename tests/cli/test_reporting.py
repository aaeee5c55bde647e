"""``fedray report`` as a user calls it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedray.report import page
from tests.cli.command import Cli


@pytest.mark.slow
def test_a_sweep_with_its_figures(cli: Cli, small: Path) -> None:
    axes = ["seed=1,2", "local.epochs=1,2", "rounds=2", "data.holdout=0.25", "evaluate.clients_every=1", "--dir", "s"]
    assert cli("sweep", small, *axes, "-q").status == 0
    outcome = cli("report", "s", "--title", "Two <settings>", "--figures", "figures")
    assert (outcome.status, outcome.err) == (0, "")
    text = Path("s/report.html").read_text()
    assert "<title>Two &lt;settings&gt;</title>" in text
    assert "4 runs of 2 settings, 4 finished; 2 rounds" in text
    assert ">epochs=2<" in text
    # The table of the sweep, as the sweep shows it.
    shown = [cell.strip() for cell in Path("s/table.md").read_text().splitlines()[2].strip("| ").split("|")]
    for cell in shown:
        assert f">{cell}<" in text
    names = {path.stem for path in Path("figures").iterdir()}
    assert {"test-accuracy", "clients-test-accuracy", "labels", "train-loss"} <= names
    assert outcome.out == f"report: s/report.html\nfigures: figures ({4 * len(names)} files)\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none"], "none: no such folder"),
        (["empty"], "there is no run in it"),
        (["empty", "-o", "empty"], "is a folder; name a file, such as empty/report.html"),
    ],
)
def test_mistakes_are_one_line(cli: Cli, small: Path, words: list[str], said: str) -> None:
    (small.parent / "empty").mkdir()
    outcome = cli("report", *words)
    assert outcome.status == 2
    assert said in outcome.err
    assert list(Path("empty").iterdir()) == []


def test_without_its_packages_it_says_how_to_get_them(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_PACKAGES", ("no_such_package",))
    outcome = cli("report", "none")
    assert outcome.status == 2
    assert "pip install 'fedray[report]'" in outcome.err
