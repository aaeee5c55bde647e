"""The table of what each client got: one to every reader, whole whatever happens, and no longer than asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pyarrow.dataset
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.core import inject
from fedray.core.errors import ConfigError
from fedray.rundir.client_table import (
    TRAIN,
    ClientRows,
    ClientTable,
    metrics_in,
    newest_part,
    parts_in,
    path_of,
    read_clients,
)

NAMES = ["ann", "bob", "cid"]


def seen(*accuracies: float, view: str = "global") -> ClientRows:
    """An evaluation of some clients, of which each has one example more than the one before."""
    count = len(accuracies)
    metrics = {"loss": np.arange(count) / 4, "accuracy": np.array(accuracies)}
    return ClientRows(view, np.arange(count), np.arange(count) + 1, metrics)


def trained(*clients: int) -> ClientRows:
    return ClientRows(
        TRAIN, np.array(clients, dtype=np.int64), np.ones(len(clients), dtype=np.int64), {"loss": np.array(clients) / 2}
    )


def table(run_dir: Path, keep: int | None = None) -> ClientTable:
    return ClientTable(run_dir / "clients", NAMES.__getitem__, keep)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A run with three evaluations: before its training, after a round without clients, and after one with them."""
    run_dir = tmp_path / "lr=0.1"  # as a sweep names it
    run_dir.mkdir()
    writer = table(run_dir)
    writer.write(0, [seen(0.5, 0.25)])
    writer.write(5, [trained(), seen(0.5, 0.75)])
    writer.write(10, [trained(2, 0), seen(1.0, 0.25, 0.5)])
    return run_dir


def test_no_thread_of_arrow_is_given_a_file_of_python(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would abort a process that comes to its end just after it has read a part, as `fedray compare` does."""
    sources: list[object] = []
    original = pyarrow.parquet.read_table

    def reads(source: object) -> pyarrow.Table:
        sources.append(source)
        return original(source)

    monkeypatch.setattr(pyarrow.parquet, "read_table", reads)
    assert newest_part(written) is not None
    assert [type(source) for source in sources] == [pyarrow.OSFile]


def test_counts_of_classes_are_a_column_that_is_no_number(tmp_path: Path) -> None:
    cells = [{"true": "no", "predicted": "yes", "count": 2}]
    rows = [trained(0), replace(seen(0.5, 0.25), cells={"confusion_matrix": [cells, None]})]
    table(tmp_path).write(1, rows)
    table(tmp_path).write(2, [replace(seen(0.5), cells={"confusion_matrix": [None]})])
    table(tmp_path).write(3, [seen(0.5)])  # as an earlier fedray wrote it
    assert read_clients(tmp_path)["confusion_matrix"].to_pylist() == [None, cells, None, None, None]
    assert metrics_in(read_clients(tmp_path)) == ["loss", "accuracy"]
    assert pandas.read_parquet(path_of(tmp_path / "clients", 1))["confusion_matrix"][1][0]["count"] == 2


ROWS = [
    (10, "cid", TRAIN, 1, 1.0, None),
    (10, "ann", TRAIN, 1, 0.0, None),
    (10, "ann", "global", 1, 0.0, 1.0),
    (10, "bob", "global", 2, 0.25, 0.25),
    (10, "cid", "global", 3, 0.5, 0.5),
]


def test_a_row_is_a_client_in_a_round_and_a_view(written: Path) -> None:
    found = read_clients(written)
    assert found.column_names == ["round", "client", "view", "examples", "loss", "accuracy"]
    assert [tuple(row.values()) for row in found.to_pylist()][-5:] == ROWS
    assert found["round"].to_pylist() == [0, 0, 5, 5, 10, 10, 10, 10, 10]
    last = newest_part(written)
    assert last is not None
    assert [tuple(row.values()) for row in last.to_pylist()] == ROWS


def test_all_parts_have_one_schema_and_are_one_table_to_pyarrow(written: Path) -> None:
    schemas = [pyarrow.parquet.read_schema(path) for path in parts_in(written / "clients").values()]
    assert schemas == [schemas[0]] * 3
    assert pyarrow.dataset.dataset(written / "clients").to_table().equals(read_clients(written))


def test_they_are_one_table_to_pandas(written: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is one of many readers, and not installed")
    found = pandas.read_parquet(written / "clients")
    assert found.equals(read_clients(written).to_pandas())
    pivot = found[found["view"] == "global"].pivot(index="round", columns="client", values="accuracy")
    assert pivot.loc[10].tolist() == [1.0, 0.25, 0.5]


@pytest.mark.parametrize("where", ["clients", "clients/*.parquet"])
def test_they_are_one_table_to_polars(where: str, written: Path) -> None:
    polars = pytest.importorskip("polars", reason="polars is one of many readers, and not installed")
    assert polars.read_parquet(written / where).to_arrow().to_pylist() == read_clients(written).to_pylist()


@pytest.mark.parametrize("there", [False, True])
def test_without_an_evaluation_it_is_said_what_to_ask_for(there: bool, tmp_path: Path) -> None:
    if there:
        (tmp_path / "clients").mkdir()
    with pytest.raises(ConfigError, match=r"evaluate\.clients_every \(in Python evaluate_clients_every\)"):
        read_clients(tmp_path)
    assert newest_part(tmp_path) is None


@pytest.mark.parametrize("point", ["clients.open", "clients.half_written"])
def test_a_part_that_cannot_be_written_leaves_nothing_and_the_one_before_stands(
    point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = table(tmp_path)
    writer.write(5, [seen(0.5)])
    plan = tmp_path.with_suffix(".json")
    plan.write_text(json.dumps([{"point": point, "round": number, "action": "disk"} for number in (5, 6)]))
    monkeypatch.setenv(inject.PLAN, str(plan))
    for number in (5, 6):
        with pytest.raises(OSError, match="fault injected at clients"):
            writer.write(number, [seen(0.75)])
    assert [path.name for path in tmp_path.rglob("*")] == ["clients", "round-00000005.parquet"]
    assert read_clients(tmp_path)["accuracy"].to_pylist() == [0.5]


def test_a_part_that_is_not_whole_is_in_no_readers_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[list[str]] = []

    def look(point: str, round: int) -> None:
        assert [path.name for path in tmp_path.glob(".tmp-round-*")] != []
        there.append([path.name for path in (tmp_path / "clients").iterdir()])

    monkeypatch.setattr(inject, "point", look)
    table(tmp_path).write(5, [seen(0.5)])
    assert there == [[], []]
    assert read_clients(tmp_path).num_rows == 1


def test_a_run_that_goes_on_drops_what_it_will_do_again(written: Path) -> None:
    writer = table(written)
    writer.begin(10, wanted=True)
    writer.close()
    assert sorted(path.name for path in (written / "clients").iterdir()) == [
        "round-00000000.parquet",
        "round-00000005.parquet",
    ]
    writer.begin(0, wanted=False)
    writer.close()
    assert list((written / "clients").iterdir()) == []


def test_a_run_without_evaluations_makes_no_folder(tmp_path: Path) -> None:
    writer = table(tmp_path)
    writer.begin(1, wanted=True)
    writer.close()
    assert list(tmp_path.iterdir()) == []


def kept(run_dir: Path) -> list[int]:
    return list(parts_in(run_dir / "clients"))


@given(scores=st.lists(st.integers(0, 4), min_size=1, max_size=7), keep=st.integers(1, 3), again=st.integers(0, 6))
def test_the_newest_and_the_best_are_kept_also_by_who_goes_on(
    scores: Sequence[int], keep: int, again: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of equal ones the first is the best; an interruption after any round does not show."""
    run_dir = tmp_path_factory.mktemp("run")
    writer = table(run_dir, keep)
    for number, score in enumerate(scores):
        if number == again:
            writer = table(run_dir, keep)
        # The loss, and the loss and accuracy of training, say the opposite.
        rows = ClientRows(
            "global", np.arange(2), np.array([1, 3]), {"loss": np.full(2, score), "accuracy": np.array([9.0, score])}
        )
        writer.write(number, [ClientRows(TRAIN, np.array([0]), np.array([99]), {"loss": np.array([-score])}), rows])
        newest, best = (
            range(max(0, number + 1 - keep), number + 1),
            list(scores[: number + 1]).index(max(scores[: number + 1])),
        )
        assert kept(run_dir) == sorted({*newest, best})


@pytest.mark.parametrize(("metric", "best"), [("loss", 2), ("mse", 2), ("accuracy", 1)])
def test_the_best_by_its_metric(metric: str, best: int, tmp_path: Path) -> None:
    writer = table(tmp_path, keep=1)
    for number, value in enumerate([np.nan, 0.5, 0.25, 0.375]):
        metrics = {"loss": np.full(1, 7.0), metric: np.full(1, value)}
        writer.write(number, [ClientRows("global", np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64), metrics)])
    assert kept(tmp_path) == [best, 3]


def of_positions(loss: float, whole: float) -> ClientRows:
    """An evaluation by a loss of positions, of which the second client has none."""
    clients, ones = np.arange(2), np.ones(2, dtype=np.int64)
    return ClientRows("global", clients, ones, {"loss": np.array([loss, np.nan])}, whole={"loss": whole})


@pytest.mark.parametrize("again", [False, True])
def test_a_client_without_a_position_that_counts_is_no_fault_of_the_model(again: bool, tmp_path: Path) -> None:
    """The best is that by the mean of the record; NaN is a broken model where all positions together give it."""
    writer = table(tmp_path, keep=1)
    for number, (loss, whole) in enumerate([(0.5, 0.5), (0.25, np.nan), (0.75, 0.25), (0.5, 0.5), (0.5, 0.5)]):
        writer = table(tmp_path, keep=1) if again else writer
        writer.write(number, [trained(0), of_positions(loss, whole)])
    assert kept(tmp_path) == [2, 4]


def test_the_mean_of_the_record_stands_beside_the_table_alone(tmp_path: Path) -> None:
    table(tmp_path).write(1, [of_positions(0.5, 0.25)])
    assert read_clients(tmp_path).schema.metadata is None
    assert read_clients(tmp_path).column_names == ["round", "client", "view", "examples", "loss"]
