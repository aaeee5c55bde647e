"""A report on data says what is in the tables, only from what sites may tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedray
from fedray.core.errors import ConfigError
from fedray.core.terminal import plain
from fedray.experiment.build import Config
from fedray.report.data_doubts import doubts
from fedray.report.data_page import shown
from fedray.report.of_data import DataReport, Lengths, report_on


def write_sites(folder: Path) -> dict[str, Path]:
    """Three hospitals: one without a column, one with a sentinel, one with a class alone and another coding."""
    draw = np.random.default_rng(7)
    paths = {}
    for number, (name, count) in enumerate({"north": 120, "south": 90, "west": 60}.items()):
        lines = ["id,age,bp,sex,unit,ill" if name != "south" else "id,age,sex,unit,ill"]
        for row in range(count):
            age = round(float(draw.normal(50 + 15 * (number == 2), 8)), 1)
            bp = "0" if name == "north" and row % 10 == 0 else str(round(float(draw.normal(130, 12))))
            sex = "fm"[row % 2] if name != "west" else ["female", "male"][row % 2]
            ill = "yes" if name == "west" or row % 4 == 0 else "no"
            cells = [f"{name}{row}", "" if row % 30 == 1 else str(age), bp, sex, "mmHg", ill]
            if name == "south":
                del cells[2]
            lines.append(",".join(cells))
        paths[name] = folder / f"{name}.csv"
        paths[name].write_text("\n".join(lines) + "\n")
    return paths


def config_of(data: dict[str, Any]) -> Config:
    content = {"data": data, "model": {"name": "logistic"}, "cluster": {"name": "inline"}, "tracking": []}
    return Config.bind("study", content, content)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_sites(tmp_path_factory.mktemp("sites"))


@pytest.fixture(scope="module")
def report(sites: dict[str, Path]) -> DataReport:
    data = {"name": "csv", "train": [str(path) for path in sites.values()], "target": "ill"}
    return report_on(config_of({**data, "categorical": ["sex", "unit"], "ignore": ["id"]}))


def test_numbers_are_those_of_the_tables(report: DataReport) -> None:
    assert (list(report.sites), list(report.rows)) == (["north", "south", "west"], [120, 90, 60])
    assert list(report.classes) == ["no", "yes"]
    assert report.counts.tolist() == [[90, 30], [67, 23], [0, 60]]
    by_name = {column.name: column for column in report.columns}
    assert list(by_name) == ["age", "bp", "sex", "unit"]
    assert [one.missing for one in by_name["age"].at] == [4, 3, 2]
    assert by_name["bp"].at[1].kind == "absent"
    assert by_name["bp"].at[0].extreme == (0.0, 12)
    assert by_name["sex"].counts.tolist() == [[60, 0, 60, 0, 0], [45, 0, 45, 0, 0], [0, 30, 0, 30, 0]]
    psi = [one.psi for one in by_name["age"].drift]
    assert max(psi) == psi[2] > 1.0


def test_whatever_hurts_is_said(report: DataReport) -> None:
    said = "\n".join(doubts(report))
    for words in (
        "bp: south lacks this column",
        "bp: 12 of 120 rows of north have 0, far from all others",
        "sex: categories that one site alone has: 'female' (west), 'male' (west); are they coded alike?",
        "unit: it has the same value everywhere, and tells nothing",
        "beyond chance, with the site and its PSI: sex (west",
        "one class alone: west",
        "label skew: ",
    ):
        assert words in said
    assert "age: " not in said


def test_a_run_that_would_be_refused_is_said_with_the_rest(report: DataReport) -> None:
    """The table of the south lacks a column; all else of the report is there."""
    assert report.refused or report.clients
    if report.refused:
        assert doubts(report)[0].startswith("A run of this config is refused: ")


def test_it_is_json(report: DataReport) -> None:
    content = json.loads(json.dumps(report.to_json()))
    assert content["sites"] == {"north": 120, "south": 90, "west": 60}
    assert content["columns"]["bp"]["at"]["north"]["far_apart"] == {"value": 0.0, "rows": 12}
    assert content["columns"]["bp"]["at"]["south"] == {"kind": "absent", "missing": 90, "different": 0}
    assert content["target"] == "ill"


def test_silos_are_asked_where_they_lie(sites: dict[str, Path], report: DataReport) -> None:
    places = {name: {"node_label": f"site={name}", "path": str(path)} for name, path in sites.items()}
    found = report_on(
        config_of({"name": "silos", "silos": places, "target": "ill", "categorical": ["sex", "unit"], "ignore": ["id"]})
    )
    wanted, shown = report.to_json(), found.to_json()
    for key in ("sites", "columns", "classes"):
        assert shown[key] == wanted[key]


def test_text_that_nobody_declared_and_ids_are_said_and_not_told(sites: dict[str, Path]) -> None:
    data = {"name": "csv", "train": [str(sites["north"]), str(sites["west"])], "target": "ill"}
    found = report_on(config_of({**data, "categorical": ["id"]}))
    said = "\n".join(doubts(found))
    assert "id: it differs from row to row, as ids or free text do; leave it out: `ignore: [id]`" in said
    assert "sex: it holds text, and is not declared; say `categorical: [sex]`" in said
    assert "north7" not in json.dumps(found.to_json())
    assert found.refused


def test_clients_that_a_column_names_are_sites(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text("who,x,y\n" + "".join(f"{'ab'[k % 3 == 0]},{k},{k % 2}\n" for k in range(60)))
    data = {"name": "csv", "train": [str(path)], "target": "y", "partition": {"name": "column", "column": "who"}}
    found = report_on(config_of(data))
    assert dict(zip(found.sites, found.rows, strict=True)) == {"a": 40, "b": 20}
    assert list(found.clients) == ["a", "b"]
    assert [column.name for column in found.columns] == ["x"]


def test_arrays_have_sizes_and_labels() -> None:
    data = {"name": "synthetic", "clients": 5, "examples": 12, "features": 4, "classes": 3, "test": 9}
    found = report_on(config_of(data))
    assert (len(found.clients), sum(found.sizes), found.test) == (5, int(found.counts.sum()), 9)
    assert [(one.name, one.kind) for one in found.columns] == [("inputs", "float32 4, told by means")]
    assert found.counts.shape == (5, 3)
    assert found.example == "4 to 3 classes (classification)"
    numbers = fedray.FederatedData.from_arrays(np.zeros((4, 2)), np.zeros(4), [0, 0, 1, 1])
    config = Config.bind("python", {}, {"data": numbers, "model": {"name": "logistic"}, "cluster": {"name": "inline"}})
    assert report_on(config).classes == []


def test_no_target_and_no_file_are_refused(sites: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="target: no table has a column 'sick'"):
        report_on(config_of({"name": "csv", "train": [str(sites["north"])], "target": "sick"}))
    with pytest.raises(ConfigError, match=r"gone\.csv does not exist"):
        report_on(config_of({"name": "csv", "train": ["gone.csv"], "target": "ill"}))


def test_of_text_tokens_and_lengths_are_told_and_no_shares_of_tokens(tmp_path: Path) -> None:
    rows = {"ann": [("ab", "cd"), ("e", "f")], "bob": [("x", "yz")]}
    for who, some in rows.items():
        lines = [json.dumps({"prompt": prompt, "completion": completion}) for prompt, completion in some]
        (tmp_path / f"{who}.jsonl").write_text("\n".join(lines))
    found = report_on(config_of({"name": "text", "train": str(tmp_path), "tokenizer": "bytes"}))
    assert found.lengths == [Lengths(8, 5, 4.0, 5), Lengths(4, 3, 4.0, 4)]
    assert found.counts.size == 0
    assert found.example == "5 tokens of 257"
    assert found.to_json()["lengths"]["bob"] == {"tokens": 4, "targets": 3, "median": 4.0, "longest": 4}
    assert "median length" in plain(shown(found))
