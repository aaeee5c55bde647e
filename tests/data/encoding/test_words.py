"""Words for missing values and booleans, in columns of real tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fedray.core.errors import ConfigError
from fedray.data import FederatedData
from fedray.data.encoding.dialect import Dialect
from fedray.data.encoding.reading import read_csv
from fedray.data.encoding.table import Reading
from fedray.data.encoding.words import MISSING
from tests.data.reading import Files, inputs


def test_the_words_of_pandas_that_are_no_numbers_are_missing_here() -> None:
    from pandas._libs.parsers import STR_NA_VALUES

    unusual = {"-nan", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "<na>", "#n/a n/a"}
    assert {word.lower() for word in STR_NA_VALUES} - unusual <= MISSING


def test_given_words_stand_beside_the_usual_ones_as_text_and_as_numbers(write: Files) -> None:
    text = "u;v;y\n-9;k.A.;a\n1,5;unbekannt;b\n-9,0;x;c\nn/a;-;d\n"
    path = write("a.csv", text)
    table = read_csv(path, Reading(Dialect(missing=["-9", "Unbekannt"])))
    words = ["-9", "-9,0", "n/a", "k.A.", "unbekannt", "-"]
    oracle = pd.read_csv(path, sep=";", decimal=",", na_values=words)
    np.testing.assert_array_equal(table.numbers("u"), oracle["u"])
    assert table.text("v") == [None if value is np.nan else value for value in oracle["v"]] == [None, None, "x", None]


def test_a_sentinel_is_missing_in_its_column_alone(write: Files) -> None:
    a = write("a.csv", "chol,age,thal,y\n0,0,0,p\n200,40,3,q\n")
    b = write("b.csv", "chol,age,thal,y\n0.0,20,3.0,p\n300,60,7,q\n")
    options = {"missing": {"chol": [0], "thal": ["0"]}, "categorical": ["thal"], "standardize": False}
    data = FederatedData.from_csv([a, b], target="y", **options)  # type: ignore[arg-type]
    assert inputs(data, 0).tolist() == [[250, 0, 0, 0], [200, 40, 1, 0]]
    assert inputs(data, 1).tolist() == [[250, 20, 1, 0], [300, 60, 0, 1]]
    with pytest.raises(ConfigError, match=r"missing: 'coal' is no column of .*did you mean 'chol'"):
        FederatedData.from_csv([a, b], target="y", missing={"coal": [0]})


def test_a_minus_beside_a_plus_and_a_declared_value_are_values(write: Files) -> None:
    path = write("a.csv", "rh,grade,y\n+,none,no\n-,mild,yes\n+,-,no\n")
    data = FederatedData.from_csv(path, target="y", categorical={"rh": None, "grade": ["none", "mild"]})
    assert inputs(data, 0).tolist() == [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 0, 0]]
    classes = FederatedData.from_csv(path, target="grade", categorical=["rh", "y"], classes=["none", "mild", "-"])
    assert classes.spec.outputs == 3


def test_booleans_are_zero_and_one_in_any_language(write: Files) -> None:
    a = write("a.csv", "smoker,u,y\nja,1,p\nNein,2,q\n,3,q\n")
    b = write("b.csv", "smoker,u,y\n1,1,p\ntrue,2,q\n0,3,q\n")
    data = FederatedData.from_csv([a, b], target="y", standardize=False)
    assert inputs(data, 0)[:, 0].tolist() == pytest.approx([1, 0, 0.6])
    assert inputs(data, 1)[:, 0].tolist() == [1, 1, 0]
    assert data.encoding is not None
    assert data.encoding["columns"][0]["kind"] == "booleans"
    with pytest.raises(ConfigError, match=r"c\.csv, line 2, column 'smoker': 'yes' is not a number; declare"):
        FederatedData.from_csv(write("c.csv", "smoker,y\nyes,p\nperhaps,q\n"), target="y")
