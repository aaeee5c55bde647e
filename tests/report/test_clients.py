"""The clients of runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from fedray.report import Boxes, Figures, Matrix, Points, Table, Words
from fedray.report import clients as module
from fedray.report.clients import client_blocks
from fedray.report.label_maps import label_maps
from fedray.report.told import settings_of
from tests.report.folders import CLASSES, told, write_run


def test_each_client_has_its_line_with_the_mean_over_seeds(tmp_path: Path) -> None:
    settings = settings_of(told(*(write_run(tmp_path / f"{seed}", seed) for seed in (1, 3))))
    charts, spread, table = client_blocks(settings)
    assert isinstance(table, Table)
    names = [f"clients_{view}.{metric}" for view in ("test", "personal") for metric in ("loss", "accuracy")]
    assert table.head == ["client", "rows", *names]
    assert [row[:2] for row in table.rows] == [["<h0>", 8], ["<h1>", 5], ["<h2>", 2]]
    assert [row[3] for row in table.rows] == pytest.approx([0.52, 0.62, 0.72])
    assert "mean of 2 seeds" in table.caption
    assert isinstance(spread, Table)
    assert [row[0] for row in spread.rows] == ["clients_test.accuracy", "clients_personal.accuracy"]
    assert isinstance(charts, Figures)
    points, _, labels = charts.charts
    assert isinstance(points, Points)
    assert points.series[0][1] == pytest.approx([0.52, 0.62, 0.72])
    assert points.names == ["<h0>", "<h1>", "<h2>"]
    head, first, *_ = points.table()
    assert head == ["series", "client", "clients_test.accuracy"]
    assert list(first) == ["heart", "<h0>", pytest.approx(0.52)]
    assert points.caption.startswith("Accuracy of ")
    assert isinstance(labels, Matrix)
    assert (labels.rows, labels.columns) == (CLASSES, ["<h0>", "<h1>", "<h2>"])
    assert labels.values == [[1, 2, 3], [1, 1, 1]]


def test_settings_stand_side_by_side_for_each_client(tmp_path: Path) -> None:
    names = ("local_only", "centralized", "fedavg")
    runs = [write_run(tmp_path / f"{name}{seed}", seed, name) for name in names for seed in (1, 3)]
    tables = [block for block in client_blocks(settings_of(told(*runs))) if isinstance(block, Table)]
    (table,) = (one for one in tables if one.head == ["client", "rows", *names])
    assert [row[:2] for row in table.rows] == [["<h0>", 8], ["<h1>", 5], ["<h2>", 2]]
    assert table.rows[1][2:] == pytest.approx([0.62] * 3)
    assert table.caption.startswith("Accuracy of the model that each client would use")
    assert table.caption.endswith(
        "mean over seeds (own.accuracy). local_only: each client alone. centralized: all rows in one place."
    )
    assert not table.folded
    other = [*runs, write_run(tmp_path / "other", 1, "fedprox", sizes=(8, 6))]
    blocks = list(client_blocks(settings_of(told(*other))))
    assert not any(isinstance(one, Table) and one.head[2:3] == ["local_only"] for one in blocks)


def test_clients_of_other_rows_are_not_averaged(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / "1", 1, sizes=(8, 5)), write_run(tmp_path / "2", 2, sizes=(7, 6))]
    charts, _, table = client_blocks(settings_of(told(*folders)))
    assert isinstance(table, Table)
    assert isinstance(charts, Figures)
    assert [row[1] for row in table.rows] == [8, 5]
    assert "of seed 1: other seeds have other clients" in table.caption
    points = charts.charts[0]
    assert isinstance(points, Points)
    assert not points.names
    assert sorted(points.series[0][1]) == pytest.approx([0.51, 0.52, 0.61, 0.62])
    head, *lines = points.table()
    assert head == ["series", "client", "seed", "clients_test.accuracy"]
    assert [line[1:3] for line in lines] == [["<h0>", "1"], ["<h1>", "1"], ["<h0>", "2"], ["<h1>", "2"]]
    assert "seed 1; other seeds have other clients" in charts.charts[2].caption


def test_of_very_many_clients_those_that_fare_worst_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CLIENTS", 2)
    *_, table = client_blocks(settings_of(told(write_run(tmp_path / "1"))))
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["<h0>", "<h1>"]
    assert "the 2 of 3 clients that fare worst by clients_personal.accuracy" in table.caption


def test_settings_have_a_series_and_a_folded_table_each(tmp_path: Path) -> None:
    settings = settings_of(told(*(write_run(tmp_path / name, 1, name) for name in ("fedavg", "ditto"))))
    charts, _, *tables = client_blocks(settings)
    assert isinstance(charts, Figures)
    first = charts.charts[0]
    assert isinstance(first, Points)
    assert [name for name, _ in first.series] == ["fedavg", "ditto"]
    folded = [one.folded for one in tables if isinstance(one, Table)]
    assert folded == ["", "Each client: fedavg", "Each client: ditto"]  # the first has both, side by side


def test_what_settings_have_in_common_is_the_model_that_clients_would_use(tmp_path: Path) -> None:
    plain, own = write_run(tmp_path / "a", 1, "fedavg", clients_personal={}), write_run(tmp_path / "b", 1, "ditto")
    (part,) = (plain / "clients").iterdir()
    whole = pq.read_table(part)
    pq.write_table(whole.filter(pc.equal(whole["view"], "global")), part)
    charts, *_ = client_blocks(settings_of(told(plain, own)))
    assert isinstance(charts, Figures)
    first, second, third = charts.charts[:3]
    assert [one.name for one in (first, second, third)] == [
        f"spread-{of}-accuracy" for of in ("own", "global", "personal")
    ]
    assert isinstance(first, Points)
    assert isinstance(third, Points)
    assert [name for name, _ in first.series] == ["fedavg", "ditto"]
    assert [name for name, _ in third.series] == ["ditto"]
    assert first.caption.endswith("(own.accuracy): a point for each client, and their mean.")


def test_many_values_are_a_box_for_each_setting(tmp_path: Path) -> None:
    """Three seeds of fifty clients each are no cloud of points."""
    folders = [
        write_run(tmp_path / f"{name}{seed}", seed, name, sizes=tuple(range(seed, seed + 50)))
        for name in ("fedavg", "fedprox")
        for seed in (1, 2, 3)
    ]
    charts, *_ = client_blocks(settings_of(told(*folders)))
    assert isinstance(charts, Figures)
    boxes = charts.charts[0]
    assert isinstance(boxes, Boxes)
    assert [(name, len(values)) for name, values in boxes.series] == [("fedavg", 150), ("fedprox", 150)]
    assert "of the clients of all seeds. Box: the quartiles" in boxes.caption
    head, first, *_, last = boxes.table()
    assert head == ["series", "client", "seed", "clients_test.accuracy"]
    assert (first[:3], last[:3]) == (["fedavg", "<h0>", "1"], ["fedprox", "<h49>", "3"])


def test_where_seeds_tell_no_runs_apart_their_folders_do(tmp_path: Path) -> None:
    """As of two runs of one seed, on other data each."""
    folders = [write_run(tmp_path / name, 1, sizes=sizes) for name, sizes in (("a", (8, 5)), ("b", (7, 6)))]
    charts, *_ = client_blocks(settings_of(told(*folders)))
    assert isinstance(charts, Figures)
    head, *lines = charts.charts[0].table()
    assert head == ["series", "client", "run", "clients_test.accuracy"]
    assert [line[2] for line in lines] == [str(folder) for folder in folders for _ in range(2)]


def test_a_mean_over_seeds_says_so_beside_clients_of_single_seeds(tmp_path: Path) -> None:
    same = [write_run(tmp_path / f"a{seed}", seed, "fedavg") for seed in (1, 2)]
    other = [write_run(tmp_path / f"b{seed}", seed, "fedprox", sizes=(8, 5 + seed)) for seed in (1, 2)]
    charts, *_ = client_blocks(settings_of(told(*same, *other)))
    assert isinstance(charts, Figures)
    _, *lines = charts.charts[0].table()
    assert [line[:3] for line in lines] == [
        *(["fedavg", f"<h{client}>", "mean of 2"] for client in range(3)),
        *(["fedprox", f"<h{client}>", str(seed)] for seed in (1, 2) for client in range(2)),
    ]


def test_the_rows_of_each_class_stand_beside_those_of_all(tmp_path: Path) -> None:
    *_, table = client_blocks(settings_of(told(write_run(tmp_path / "1", support=True))))
    assert isinstance(table, Table)
    assert list(table.head[:3]) == ["client", "rows", "of each class"]
    assert [row[2] for row in table.rows] == [f"benign {n}, malignant {n}" for n in (4, 2, 1)]


def test_how_many_had_a_model_of_their_own_is_said_where_these_are_not_all(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "1", evaluated={"clients": 98, "missing": 0, "taken_part": 86})
    *_, words = client_blocks(settings_of(told(folder)))
    assert isinstance(words, Words)
    assert "86 of 98 clients had taken part by the last evaluation" in words.text
    everybody = write_run(tmp_path / "2", evaluated={"clients": 98, "missing": 0, "taken_part": 98})
    assert not any(isinstance(one, Words) for one in client_blocks(settings_of(told(everybody))))


def test_clients_out_of_reach_are_told_of(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "1", evaluated={"clients": 2, "missing": 1})
    *_, words = client_blocks(settings_of(told(folder)))
    assert isinstance(words, Words)
    assert words.warns
    assert "1 client could not be evaluated" in words.text


def test_without_numbers_of_clients_nothing_is_said(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "1", clients_test={}, clients_personal={})
    for path in [*(folder / "clients").iterdir(), folder / "labels.json"]:
        path.unlink()
    assert list(client_blocks(settings_of(told(folder)))) == []


def test_a_map_of_many_clients_shows_some(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "1", sizes=tuple([3] * 250))
    (labels,) = label_maps(told(folder))
    assert isinstance(labels, Matrix)
    assert np.shape(labels.values) == (2, 100)
    assert "100 of 250 clients, evenly picked" in labels.caption
    assert labels.shades is not None
    assert np.max(labels.shades) == 1
