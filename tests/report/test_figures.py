"""Figures as text of a page and as files."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from fedray.core.errors import ConfigError
from fedray.report import Curve, Curves, Matrix, save_figures
from fedray.report.charts import INK, SERIES
from fedray.report.figures import FORMATS, for_page

CHART = Curves(
    "accuracy", "Accuracy.", "round", "accuracy", [Curve("<b>$x$ & y", [1, 2], [0.5, 0.75]), Curve("z", [1], [1])]
)


@pytest.fixture(scope="module")
def svg() -> str:
    return for_page(CHART)


def test_a_figure_of_a_page_is_well_formed_and_takes_the_colours_of_the_page(svg: str) -> None:
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "width" not in root.attrib
    assert "viewBox" in root.attrib
    assert "var(--series0)" in svg
    assert "var(--ink)" in svg
    assert not {INK, SERIES[0]} & set(re.findall("#[0-9a-f]{6}", svg))


def test_words_are_shown_as_they_are(svg: str) -> None:
    shown = [text.text for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert {"<b>$x$ & y", "z", "round", "accuracy"} <= set(shown)


def test_figures_of_one_page_share_no_names(svg: str) -> None:
    other = for_page(Matrix("m", "M.", ["a"], ["b"], [[1.0]]))
    names = [re.findall(r'\bid="([^"]*)"', text) for text in (svg, other)]
    assert not set(names[0]) & set(names[1])
    for text, ids in zip((svg, other), names, strict=True):
        assert len(ids) == len(set(ids))
        assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(ids)


def test_files_for_a_paper(tmp_path: Path) -> None:
    paths = save_figures([CHART], tmp_path / "figures")
    assert sorted(path.name for path in paths) == sorted(f"accuracy.{kind}" for kind in (*FORMATS, "csv"))
    before = {path.name: path.read_bytes() for path in paths}
    assert before["accuracy.pdf"].startswith(b"%PDF")
    assert INK.encode() in before["accuracy.svg"]
    with Image.open(io.BytesIO(before["accuracy.png"])) as picture:
        assert picture.size == (1050, 690)  # 3.5 by 2.3 inches, 300 dots each
    lines = list(csv.reader(io.StringIO(before["accuracy.csv"].decode())))
    assert lines[1] == ["<b>$x$ & y", "1", "0.5", "", ""]
    save_figures([CHART], tmp_path / "figures")
    assert {path.name: path.read_bytes() for path in paths} == before


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "figures").touch()
    with pytest.raises(ConfigError, match="figures cannot be written"):
        save_figures([CHART], tmp_path / "figures")
