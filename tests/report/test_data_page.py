"""A report on data as a page and in a terminal: all of it there, and looked at by a browser."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from fedray.core.terminal import plain
from fedray.report.data_page import data_page, shown
from fedray.report.of_data import DataReport, report_on
from tests.report.test_of_data import config_of, write_sites


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> DataReport:
    paths = write_sites(tmp_path_factory.mktemp("sites"))
    data = {
        "name": "csv",
        "train": [str(paths["north"]), str(paths["west"])],
        "target": "ill",
        "ignore": ["id", "unit"],
    }
    return report_on(config_of({**data, "categorical": ["sex"]}))


def test_the_page_has_every_part(report: DataReport) -> None:
    page = data_page(report)
    assert re.findall(r"<h2[^>]*>([^<]+)<", page) == [
        "Warnings",
        "Who has how much",
        "Labels",
        "Missing values",
        "Drift",
        "Columns",
    ]
    assert page.count("<svg") == 3
    assert "bp: 12 of 120 rows of north have 0" in page


def test_the_terminal_shows_the_same(report: DataReport) -> None:
    text = plain(shown(report))
    assert text.startswith(
        "2 clients, 180 rows to train on, 3 columns, target ill; an example is 6 to 2 classes (classification)."
    )
    for words in ("north", "west", "120", "age", "! bp: 12 of 120 rows of north have 0"):
        assert words in text


def test_of_many_categories_the_most_frequent_are_shown(tmp_path: Path) -> None:
    for k in range(2):
        codes = [f"I{i:02}" for i in range(30) for _ in range(1 + i % 15)]
        (tmp_path / f"{k}.csv").write_text("icd,y\n" + "".join(f"{code},{i % 2}\n" for i, code in enumerate(codes)))
    paths = [str(tmp_path / f"{k}.csv") for k in range(2)]
    many = report_on(config_of({"name": "csv", "train": paths, "target": "y", "categorical": ["icd"]}))
    for words in (plain(shown(many)), data_page(many)):
        assert "I14 15, I29 15, I13 14, I28 14, I12 13, I27 13, I11 12, I26 12, I10 11, I25 11 and 20 more" in words
        assert "I24 10" not in words


def test_many_clients_are_a_picture(tmp_path: Path) -> None:
    draw = np.random.default_rng(2)
    counts = draw.integers(0, 9, (200, 15))
    names = [f"c{k}" for k in range(200)]
    many = DataReport(
        "many", clients=names, sizes=counts.sum(axis=1).tolist(), classes=list("abcdefghijklmno"), counts=counts
    )
    page = data_page(many)
    assert page.count("<svg") == 2
    assert "40 of 200, evenly picked" in page
    assert "label shares per client (50, evenly picked, of 200 clients" in plain(shown(many))
