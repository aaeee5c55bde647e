"""Tables as the rows of clients: of held-out rows nothing is learnt, wherever the tables lie and whosever rows are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from numpy.typing import NDArray

from fedray.config.registry import bind_part
from fedray.core.errors import ConfigError
from fedray.data import ClientData, FederatedData, data_sources
from fedray.data.columns.inputs import parts
from fedray.data.encoding import overview, questions
from tests.data.reading import load, targets

ROWS = {"north": 23, "south": 14}
OPTIONS: dict[str, Any] = {"categorical": {"ward": None, "town": {"top": 2}}, "missing_values": "indicator"}


def table(name: str) -> pa.Table:
    """Rows of a hospital whose targets are their numbers; the last columns say whose and where they are."""
    draw, count = np.random.default_rng(len(name) + ROWS[name]), ROWS[name]
    number = np.arange(count) + 100 * list(ROWS).index(name)
    age = [None if draw.random() < 0.2 else draw.normal(60, 9) for _ in range(count)]
    words = {"ward": draw.choice(list("abcdefgh"), count), "town": draw.choice(["x", "y", "z"], count)}
    who = np.repeat("u" if name == "south" else "v", count)
    return pa.table({"age": pa.array(age, pa.float64()), **words, "who": who, "n": number})


def write(folder: Path, only: set[int] | None = None) -> Path:
    """Write each hospital as CSV and as Parquet, all rows or those of some numbers."""
    folder.mkdir()
    (folder / "parquet").mkdir()
    for name in ROWS:
        rows = table(name)
        if only is not None:
            rows = rows.filter(pa.array([n in only for n in rows["n"].to_pylist()]))
        pyarrow.csv.write_csv(rows, folder / f"{name}.csv")
        pyarrow.parquet.write_table(rows, folder / "parquet" / f"{name}.parquet")
    return folder


def csv(folder: Path, **more: Any) -> ClientData:
    options = {**OPTIONS, **more}
    train = [str(folder / f"{name}.csv") for name in ROWS]
    return load(1, name="csv", train=train, target="n", task="regression", **{"ignore": ["who"], **options})


def by_column(folder: Path, **more: Any) -> ClientData:
    return csv(folder, partition={"name": "column", "column": "who"}, ignore=[], **more)


def dealt(folder: Path, **more: Any) -> ClientData:
    return csv(folder, partition={"name": "iid", "clients": 3}, **more)


def files(folder: Path, **more: Any) -> ClientData:
    return load(1, name="folder", path=str(folder / "parquet"), target="n", ignore=["who"], **OPTIONS, **more)


def beside(folder: Path, **more: Any) -> ClientData:
    path = str(folder / "parquet")
    encode = ["age", "ward", "town"]
    return load(1, name="parquet", path=path, target="n", ignore=["who"], encode=encode, **OPTIONS, **more)


def beside_by_row(folder: Path, **more: Any) -> ClientData:
    path, encode = str(folder / "parquet"), ["age", "ward", "town"]
    return load(1, name="parquet", path=path, target="n", client="who", encode=encode, **OPTIONS, **more)


def silos(folder: Path, **more: Any) -> ClientData:
    them = {name: {"node_label": f"site={name}", "path": str(folder / f"{name}.csv")} for name in ROWS}
    return load(1, name="silos", silos=them, target="n", task="regression", ignore=["who"], **OPTIONS, **more)


def called(folder: Path, holdout: float = 0.0) -> ClientData:
    paths, said = [folder / f"{name}.csv" for name in ROWS], {**OPTIONS, "ignore": ["who"], "task": "regression"}
    return FederatedData.from_csv(paths, target="n", seed=1, holdout=holdout, **said)


def everything(data: ClientData) -> tuple[NDArray[Any], NDArray[Any]]:
    """Training rows of all clients, columns side by side."""
    found = []
    for client in range(len(data)):
        x = data.rows(np.array([client])).take(np.arange(data.sizes[client])[None])[0]
        found.append(np.concatenate([part[0].numpy() for part in parts(x)], axis=1))
    return np.concatenate(found), np.concatenate([targets(data, client) for client in range(len(data))])


def columns(data: ClientData) -> list[dict[str, Any]]:
    assert data.encoding is not None
    found: list[dict[str, Any]] = data.encoding["columns"]
    return found


EVERY: list[Callable[..., ClientData]] = [csv, by_column, dealt, files, beside, beside_by_row, silos, called]


@pytest.mark.parametrize("read", EVERY, ids=lambda read: read.__name__)
def test_the_encoding_is_that_of_files_with_training_rows_alone(
    read: Callable[..., ClientData], tmp_path: Path
) -> None:
    data = read(write(tmp_path / "all"), holdout=0.3)
    x, y = everything(data)
    kept = {int(number) for number in np.ravel(y)}
    assert data.holdout_sizes.sum() == sum(ROWS.values()) - len(kept) > 8
    alone = read(write(tmp_path / "training", kept))
    assert columns(data) == columns(alone)
    assert data.warnings == ()
    assert columns(data) != columns(read(tmp_path / "all"))
    if read is not dealt:  # of fewer rows they are dealt to others
        np.testing.assert_array_equal(x, everything(alone)[0])


@pytest.mark.parametrize("kind", ["csv", "silos"])
def test_a_category_that_held_out_rows_alone_have_is_none_and_the_log_says_so(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [f"{n},{'ab'[n % 2]},{n}" for n in range(10)]
    path = tmp_path / "one.csv"
    path.write_text("\n".join(["age,ward,n", *rows, ""]))
    node = {"name": kind, "target": "n", "task": "regression", "holdout": 0.2}
    node |= {"train": [str(path)]} if kind == "csv" else {"silos": {"one": {"node_label": "site=a", "path": str(path)}}}

    def read(encoding: Any = None, **more: Any) -> ClientData:
        source = bind_part(data_sources, {**node, "categorical": ["ward"], **more}, "data")
        data: ClientData = source.load(3, encoding=encoding)
        return data

    trained = {int(n) for n in everything(read())[1].ravel()}
    held = min(set(range(10)) - trained)
    rows[held] = f"{held},rare,{held}"
    path.write_text("\n".join(["age,ward,n", *rows, ""]))
    data = read()
    x, _, _ = data.holdout(np.array([0]))
    assert x[:, 1:].sum(dim=1).tolist() == [0.0, 1.0]
    said = "1 cell of no category that training rows have, all held out, taken for missing ones"
    assert [note for note in data.notes if "category" in note] == [f"{path}, column 'ward': {said}"]
    again = read(data.encoding)
    np.testing.assert_array_equal(again.holdout(np.array([0]))[0], x)
    # What the config lists is all that there may be.
    with pytest.raises(ConfigError, match=rf"line {held + 2}, column 'ward': unknown category 'rare'"):
        read(categorical={"ward": ["a", "b"]}).holdout(np.array([0]))
    # A run from before has learnt it from all rows.
    (ward,) = [one for one in columns(data) if one["name"] == "ward"]
    old = {**(data.encoding or {}), "columns": [*columns(data)[:-1], {**ward, "categories": ["a", "b", "rare"]}]}
    assert read(old).holdout(np.array([0]))[0][:, 1:].sum(dim=1).tolist() == [1.0, 1.0]
    assert not [note for note in read(old).notes if "category" in note]


def test_a_class_of_held_out_rows_alone_is_one_of_the_classes(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    labels = ["no", "yes"] * 5
    for number in range(10):
        one = [*labels[:number], "maybe", *labels[number + 1 :]]
        path.write_text("u,y\n" + "".join(f"{u},{word}\n" for u, word in enumerate(one)))
        data = load(1, name="csv", train=[str(path)], target="y", holdout=0.2)
        assert data.spec.classes == ("maybe", "no", "yes")
        assert data.label_counts().sum() == 8


@pytest.mark.parametrize("read", [csv, files, beside, silos], ids=lambda read: read.__name__)
def test_the_log_says_once_what_each_column_was_taken_for(read: Callable[..., ClientData], tmp_path: Path) -> None:
    notes = read(write(tmp_path / "all")).notes
    assert [note for note in notes if note.startswith("columns: 1")] == [
        "columns: 1 number: age; 2 categorical columns: ward, town"
    ]


def test_all_kinds_of_columns_are_named(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text("on,age,sick,grade,sex,y\n2024-02-29,1,yes,low,f,0.5\n2024-03-01,2,no,high,m,1.5\n")
    options: dict[str, Any] = {"ordinal": {"grade": ["low", "high"]}, "categorical": ["sex"]}
    notes = FederatedData.from_csv(path, target="y", **options).notes
    assert (
        "columns: 1 number: age; 1 date: on; 1 boolean: sick; 1 ordinal column: grade; 1 categorical column: sex"
    ) in notes


def test_rows_that_are_held_out_of_what_was_read_are_warned_of(tmp_path: Path) -> None:
    folder = write(tmp_path / "all")
    assert called(folder, holdout=0.3).warnings == ()
    (said,) = called(folder).with_holdout(0.3, seed=1).warnings
    assert said.startswith("scales, fills and categories were learnt from all rows of the tables, before some were")
    assert said.endswith("FederatedData.from_csv(..., holdout=0.3, seed=1)")


def test_a_report_is_asked_of_training_rows(tmp_path: Path) -> None:
    folder = write(tmp_path / "all")
    node = {"name": "csv", "train": [str(folder / f"{name}.csv") for name in ROWS], "target": "n", "holdout": 0.3}
    split = {"partition": {"name": "iid", "clients": 3}, "ignore": ["who"], **OPTIONS}
    source = bind_part(data_sources, {**node, **split}, "data")
    data = source.load(1)
    with source.opened(1) as (_, ask):
        outlines = ask(questions.outline)
        assert sum(one.rows - one.held for one in outlines) == data.sizes.sum()
        missing = ask(lambda one: overview.described(one, ["age"])["age"].missing)
        training = ask(lambda one: one.training)
        ages = ask(lambda one: np.isnan(one.numbers("age")))
        assert missing == [int(gone[own].sum()) for gone, own in zip(ages, training, strict=True)]
        numbers = ask(lambda one: one.numbers("n")[one.training])
    assert sorted(np.concatenate(numbers).tolist()) == sorted(everything(data)[1].ravel().tolist())
