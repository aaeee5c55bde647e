"""Labels of settings, which are short whatever settings differ in."""

from __future__ import annotations

import json
from pathlib import Path

from fedray.report.labels import MOST, labels_of
from fedray.report.told import settings_of
from tests.report.folders import told, write_run


def test_lists_are_told_by_their_lengths_and_long_values_are_cut() -> None:
    lists = [{"train": json.dumps([f"hospital_{n}.csv" for n in range(count)])} for count in (3, 4)]
    folders = [[Path("a")], [Path("b")]]
    assert labels_of(["train"], lists, folders) == ["train=3 items", "train=4 items"]
    words = [{"note": f"{letter} word of more than can be said"} for letter in "ab"]
    assert labels_of(["note"], words, folders) == ["note=a word of more than can…", "note=b word of more than can…"]
    absent: list[dict[str, str | None]] = [{"note": None}, {"note": "one that is there and has many words"}]
    assert labels_of(["note"], absent, folders) == ["otherwise", "note=one that is there and h…"]


def test_the_data_is_said_where_it_differs(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / model, config=f"data: {{train: {train}, target: ill}}\nmodel: {{name: {model}}}\n")
        for model, train in (("mlp", "[heart/a_hospital.csv, heart/b.csv]"), ("logistic", "[kidney/all.csv]"))
    ]
    assert [one.label for one in settings_of(told(*runs))] == ["mlp, train=heart/", "logistic, train=kidney/"]
    keys, folders = ["data.train", "model.name"], [[Path("a")], [Path("b")]]
    tables = [
        {"data.train": f'["{name}.csv", "of_another_hospital.csv"]', "model.name": name[-1]} for name in ("n", "m")
    ]
    assert labels_of(keys, tables, folders) == ["n, train=n+of_another_hospital", "m, train=m+of_another_hospital"]
    other = [
        {"data.train": text} for text in ('["heart/of_one_place.csv", "heart/other.csv"]', '["nord.csv", "sued.csv"]')
    ]
    assert labels_of(["data.train"], other, folders) == ["train=heart/", "train=nord+sued"]
    parts = [{"data.partition.alpha": "1", "model.name": "a"}, {"data.partition.alpha": "2", "model.name": "b"}]
    assert labels_of(["data.partition.alpha", "model.name"], parts, folders) == ["a", "b"], "the rows are the same"


def test_what_no_short_label_tells_apart_is_called_by_its_run_folder() -> None:
    files = [{"train": f'["{place}/cleveland.csv", "all/{place}_processed.csv"]'} for place in ("heart", "split")]
    assert labels_of(["train"], files, [[Path("runs/heart")], [Path("runs/split")]]) == ["heart", "split"]
    same = [[Path("heart/compare/fedavg")], [Path("split/compare/fedavg")]]
    assert labels_of(["train"], files, same) == ["heart/compare/fedavg", "split/compare/fedavg"]
    begun = [{"note": f"the same for more than a label holds: {n}"} for n in range(2)]
    assert labels_of(["note"], begun, [[Path("a"), Path("b")], [Path("c")]]) == ["a (2 runs)", "c"]
    keys = [f"key_{n}" for n in range(8)]
    many = [{key: str(n >> place & 1) for place, key in enumerate(keys)} for n in range(256)]
    assert labels_of(keys, many, [[Path(f"runs/{n}")] for n in range(256)])[17] == "17"


def test_what_has_no_short_name_either_has_a_number() -> None:
    words = [{"note": f"the same for more than a label holds: {n}"} for n in range(2)]
    long = [[Path("runs") / (letter * (MOST + 1))] for letter in "ab"]
    assert labels_of(["note"], words, long) == ["setting 1", "setting 2"]


def test_runs_on_other_tables_have_short_labels_and_all_values_in_the_table(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / place, config=f"data: {{train: [{place}/cleveland.csv, {place}/va.csv], target: ill}}\n")
        for place in ("heart", "split", "q")
    ]
    settings = settings_of(told(*runs))
    assert [one.label for one in settings] == ["train=heart/", "train=split/", "train=q/"]
    assert settings[2].differs == {"data.train": '["q/cleveland.csv", "q/va.csv"]'}
