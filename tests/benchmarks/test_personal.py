"""The tables of personal models."""

from __future__ import annotations

import doctest
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import personal
from benchmarks.personal import REACHED, measured, missed, table
from benchmarks.settings import SETTINGS


def test_its_examples_are_true() -> None:
    assert doctest.testmod(personal).failed == 0


def test_thresholds_are_of_rows() -> None:
    assert SETTINGS["two classes"].rows.keys() >= REACHED


def one(method: str, accuracy: float, seed: int) -> dict[str, Any]:
    told = {"accuracy": accuracy, "worst tenth": 0.5, "seconds": 2.0}
    return {"split": "two classes", "method": method, "seed": seed, **told}


def test_a_table_has_a_line_for_each_method_and_says_who_is_short() -> None:
    found = [one("Ditto", 0.95, 0), one("Ditto", 0.93, 1), one("APFL", 0.9, 0), one("FedAvg", 0.7, 0)]
    assert missed(found) == ["APFL"]
    head, _, *lines, last = table(found)
    assert head == "| two classes, 2 seeds | accuracy | worst tenth | processor seconds |"
    assert lines[0] == "| FedAvg (1 seed) | 0.700 | 0.500 | 2.0 |"
    assert lines[1] == "| Ditto | 0.940 ± 0.127 | 0.500 | 2.0 |"
    assert [line.split(" | ")[0] for line in lines] == ["| FedAvg (1 seed)", "| Ditto", "| APFL (1 seed)"]
    assert not last
    assert list(table(found[3:]))[:1] == ["| two classes, 1 seed | accuracy | worst tenth | processor seconds |"]
    assert list(table(found[3:]))[2] == "| FedAvg | 0.700 | 0.500 | 2.0 |"


def test_what_a_file_has_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, asked = tmp_path / "lines.jsonl", []
    lines.write_text(json.dumps(one("Ditto", 0.95, 0)) + "\n")

    def fake(setting: Any, row: str, seed: int, shared: Path) -> dict[str, Any]:
        asked.append((row, seed))
        return one(row, 0.95, seed)

    monkeypatch.setattr(personal, "measured", fake)
    words = ["personal", "--splits", "two classes", "MNIST", "--methods", "Ditto", "--seeds", "2"]
    monkeypatch.setattr("sys.argv", [*words, "--shared", str(tmp_path), "--lines", str(lines)])
    page = tmp_path / "page.md"
    page.write_text("How it is done.\n\n| an old table |\n|---|\n")
    for _ in range(2):
        assert personal.main() == 0
        monkeypatch.setattr(
            "sys.argv", [*words, "--shared", str(tmp_path), "--lines", str(lines), "--write", str(page)]
        )
    assert page.read_text().startswith("How it is done.\n\n| two classes, 2 seeds | accuracy |")
    assert page.read_text().endswith("| Ditto | 0.950 ± 0.000 | 0.500 | 2.0 |\n")
    assert asked == [("Ditto", 1)]
    assert len(lines.read_text().splitlines()) == 2


def test_a_row_is_run_and_judged_on_the_clients() -> None:
    setting = replace(SETTINGS["two classes"], rounds=1)
    found = measured(setting, "FedAvg, fine-tuned", 0, Path())
    assert found["seconds"] > 0.0
    assert found["accuracy"] > measured(setting, "FedAvg", 0, Path())["accuracy"]
