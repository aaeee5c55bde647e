"""An encoding is a part of the model: it survives JSON, and tables that change do not change it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.errors import ConfigError
from fedray.data import FederatedData
from fedray.data.encoding.encoding import Encoding
from fedray.data.encoding.options import Options
from fedray.data.encoding.reading import read_csv
from fedray.data.encoding.saved import load_encoding
from fedray.predict.programs import scaling_of

HEADER = "age,sex,note,y\n"


def write(folder: Path, rows: dict[str, str]) -> list[Path]:
    """CSV files of one header."""
    for name, text in rows.items():
        (folder / f"{name}.csv").write_text(HEADER + text)
    return [folder / f"{name}.csv" for name in rows]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two hospitals."""
    return write(tmp_path, {"a": "30,f,x1,no\n40,m,x2,yes\n,f,x3,no\n", "b": "70,m,x4,yes\n55,,x5,no\n"})


def read(files: list[Path], **options: Any) -> FederatedData:
    """Their data."""
    return FederatedData.from_csv(files, target="y", categorical=["sex"], ignore=["note"], **options)


@given(
    st.dictionaries(st.text("abcdef", min_size=1), st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 3)),
    st.dictionaries(st.text("uvwxyz", min_size=1), st.lists(st.text(), unique=True, min_size=1)),
    st.none() | st.lists(st.text(), unique=True, min_size=2),
)
def test_json_gives_the_same_encoding(
    numeric: dict[str, tuple[float, float, float]], categories: dict[str, list[str]], classes: list[str] | None
) -> None:
    one = Encoding(Options("target"), numeric, categories, [*categories, *numeric], classes)
    other = Encoding.from_json(json.loads(json.dumps(one.to_json())))
    assert (other.numeric, other.categories, other.order, other.classes) == (numeric, categories, one.order, classes)
    assert other.spec == one.spec
    assert other.to_json() == one.to_json()


def test_the_first_format_is_read_and_one_of_the_future_is_not() -> None:
    first = {
        "format": 1, "target": "y", "task": "classification", "classes": ["no", "yes"], "standardize": True,
        "ignore": ["id"],
        "columns": [
            {"name": "age", "mean": 50.0, "deviation": 10.0, "fill": 50.0}, {"name": "sex", "categories": ["f"]},
        ],
    }  # fmt: skip
    encoding = Encoding.from_json(first)
    encoding.need(Options("y", categorical=["sex"], ignore=["id"]))
    assert (encoding.order, encoding.numeric) == (["age", "sex"], {"age": (50.0, 10.0, 50.0)})
    again = encoding.to_json()
    assert (again["format"], {key: again[key] for key in first if key != "format"}) == (
        2,
        {key: value for key, value in first.items() if key != "format"},
    )
    with pytest.raises(ConfigError, match="format 6; this fedray reads 1 to 5"):
        Encoding.from_json({**first, "format": 6})


def test_a_missing_number_is_an_input_of_its_own_where_a_training_table_has_one(tmp_path: Path) -> None:
    for name, text in {"a": "30,1,no\n40,2,yes\n,3,no\n", "b": "70,4,yes\n50,5,no\n"}.items():
        (tmp_path / f"{name}.csv").write_text("age,dose,y\n" + text)
    files = [tmp_path / "a.csv", tmp_path / "b.csv"]
    plain = FederatedData.from_csv(files, target="y")
    data = FederatedData.from_csv(files, target="y", missing_values="indicator")
    assert "columns with an input that is 1 where a value is missing: age" in data.notes
    assert data.encoding is not None
    assert plain.encoding is not None
    assert (plain.encoding["format"], data.encoding["format"]) == (2, 3)
    encoding = Encoding.from_json(json.loads(json.dumps(data.encoding)))
    assert encoding.features == ["age", "age missing", "dose"]
    assert encoding.to_json() == data.encoding
    (x, _), (without, _) = (one.rows(np.arange(2)).take(np.array([[0, 1, 2], [0, 1, 1]])) for one in (data, plain))
    assert np.array_equal(x[:, :, [0, 2]], without)
    assert x[:, :, 1].tolist() == [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    new = tmp_path / "new.csv"
    new.write_text("age,dose,y\n,,no\n60,3,yes\n")
    inputs = encoding.inputs(read_csv(new))
    assert inputs[:, 1].tolist() == [1.0, 0.0]
    assert inputs[0, 0] == inputs[0, 2] == 0.0  # the federated means
    with pytest.raises(
        ConfigError, match="missing_values: the model was trained on tables that were encoded otherwise"
    ):
        FederatedData.from_csv(files, target="y", encoding=data.encoding)
    center, scale, fill = scaling_of(encoding)
    assert [float(one[1]) for one in (center, scale, fill)] == [0.0, 1.0, 0.0]
    assert len(center) == encoding.spec.shape[0]


WARDS = "u,grade,ward,y\n" + "".join(
    f"{n},{('low', 'mid', 'high', '')[n % 4]},{'A' if n % 2 else f'w{n % 8}'},{'pq'[n % 2]}\n" for n in range(40)
)


def test_everything_that_is_decided_survives_json(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(WARDS)
    (tmp_path / "b.csv").write_text(WARDS.replace("A,", "B,"))
    files = [tmp_path / "a.csv", tmp_path / "b.csv"]
    options: dict[str, Any] = {
        "target": "y",
        "categorical": {"ward": {"top": 3}},
        "ordinal": {"grade": ["low", "mid", "high"]},
        "missing": {"u": [0]},
        "unseen": "other",
        "missing_columns": "impute",
    }
    data = FederatedData.from_csv(files, **options)
    saved = json.loads(json.dumps(data.encoding))
    assert saved["columns"][2] == {"name": "ward", "categories": ["A", "B", "w0", "other"], "top": 3}
    assert saved["columns"][1]["levels"] == ["low", "mid", "high"]
    rows = np.array([0, 1])
    first, again = (
        one.rows(rows).take(np.tile(np.arange(40), (2, 1)))[0].numpy()
        for one in (data, FederatedData.from_csv(files, encoding=saved, **options))
    )
    np.testing.assert_array_equal(first, again)
    assert Encoding.from_json(saved).to_json() == saved
    pooled = np.array([0, 1, 2] * 20)
    expected = (np.array([0, 1, 2]) - pooled.mean()) / pooled.std()
    np.testing.assert_allclose(first[0, :4, 1], [*expected, 0.0], atol=1e-7)
    np.testing.assert_array_equal(
        first[0, :5, 2:], [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 1]]
    )
    for changed, named in (
        ({"ordinal": {"grade": ["low", "high", "mid"]}}, "ordinal"),
        ({"categorical": {"ward": {"top": 2}}}, "categorical"),
        ({"missing": {}}, "missing"),
        ({"unseen": "error"}, "unseen"),
    ):
        with pytest.raises(ConfigError, match=f"^{named}: the model was trained"):
            FederatedData.from_csv(files, encoding=saved, **{**options, **changed})


def test_tables_that_change_are_read_as_before(files: list[Path], tmp_path: Path) -> None:
    """Another unit, another category, another class: what is not changed keeps its inputs, what is new is refused."""
    before = read(files)
    assert before.encoding is not None
    saved = tmp_path / "encoding.json"
    saved.write_text(json.dumps(before.encoding))
    write(tmp_path, {"b": "700,m,x4,yes\n550,m,x5,yes\n"})
    learnt, kept = read(files), read(files, encoding=saved)
    rows = np.array([0])
    first, again, other = (data.rows(rows).take(np.arange(3)[None])[0].numpy() for data in (before, kept, learnt))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert kept.encoding == before.encoding
    write(tmp_path, {"b": "70,x,x4,yes\n"})
    with pytest.raises(ConfigError, match="unknown category 'x'; known: f, m"):
        read(files, encoding=saved)
    write(tmp_path, {"b": "70,m,x4,perhaps\n"})
    with pytest.raises(ConfigError, match="class 'perhaps' is not among the classes"):
        read(files, encoding=before.encoding)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (Options("age"), "target"),
        (Options("y", standardize=False, categorical=["sex"]), "standardize"),
        (Options("y", categorical=["sex"], classes=["yes", "no"]), "classes"),
        (Options("y", categorical=["sex"], task="regression"), "task"),
        (Options("y"), "categorical"),
        (Options("y", categorical={"sex": ["m", "f"]}), "categorical"),
        (Options("y", categorical=["sex"], ignore=["age"]), "ignore"),
    ],
)
def test_options_that_want_another_encoding_are_named(files: list[Path], options: Options, named: str) -> None:
    encoding = load_encoding(read(files).encoding)
    assert encoding is not None
    encoding.need(Options("y", categorical={"sex": ["f", "m"]}, classes=["no", "yes"], ignore=["note", "other"]))
    with pytest.raises(ConfigError, match=f"^{named}: the model was trained on tables that were encoded otherwise"):
        encoding.need(options)
