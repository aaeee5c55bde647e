"""Predictions as tables and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch

from fedray.core.errors import ConfigError
from fedray.data import DataSpec
from fedray.predict import Predictions
from fedray.tasks import Binary, Classification, Multilabel, Regression, Segmentation

LOGITS = torch.tensor([[0.0, 2.0], [1.0, -1.0]])


def test_classes_have_a_column_each() -> None:
    task = Classification().of(DataSpec((1,), 2, classes=("no", "a, b")))
    found = Predictions.of(LOGITS, task, {"id": ["x", "y"]})
    head, first, _ = found.to_csv().splitlines()
    assert head == '"id","predicted","no","a, b"'
    assert first.startswith('"x","a, b",0.1192029')
    assert found.to_pandas()["predicted"].tolist() == ["a, b", "no"]


def test_what_a_model_has_beyond_the_classes_is_numbered() -> None:
    found = Predictions.of(torch.eye(3), Classification().of(DataSpec((1,), 2, classes=("no", "yes"))))
    assert found.classes == ("no", "yes", "2")
    assert found.predicted.tolist() == ["no", "yes", "2"]


def test_one_logit_is_no_and_yes() -> None:
    found = Predictions.of(torch.tensor([[-1.0], [3.0]]), Binary().of(DataSpec((1,), 2, classes=("no", "yes"))))
    assert found.predicted.tolist() == ["no", "yes"]
    assert found.probabilities is not None
    assert np.allclose(found.probabilities[:, 1], 1 / (1 + np.exp([1.0, -3.0])))
    assert np.allclose(found.probabilities.sum(axis=1), 1)


def test_labels_are_listed() -> None:
    found = Predictions.of(torch.tensor([[1.0, 2.0], [-1.0, -2.0]]), Multilabel(["fever", "cough"]))
    assert found.columns()["predicted"].tolist() == ["fever;cough", ""]
    assert found.columns().keys() == {"predicted", "fever", "cough"}


def test_numbers_are_one_column_or_several() -> None:
    assert Predictions.of(LOGITS[:, :1], Regression()).columns().keys() == {"predicted"}
    assert Predictions.of(LOGITS, Regression()).columns().keys() == {"predicted_0", "predicted_1"}


def test_pixels_go_into_arrays_alone(tmp_path: Path) -> None:
    found = Predictions.of(torch.randn(2, 3, 4, 4), Segmentation().of(DataSpec((1, 4, 4), 3)))
    with pytest.raises(ConfigError, match=r"arrays \[2, 4, 4\] here, which no table holds"):
        found.write(tmp_path / "scores.csv")
    found.write(tmp_path / "scores.npz")
    with np.load(tmp_path / "scores.npz") as arrays:
        assert arrays["predicted"].shape == (2, 4, 4)
        assert arrays["probabilities"].shape == (2, 3, 4, 4)


def test_files_are_what_they_are_called(tmp_path: Path) -> None:
    found = Predictions.of(LOGITS, Classification().of(DataSpec((1,), 2)))
    found.write(tmp_path / "scores.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "scores.parquet").equals(found.to_arrow())
    with pytest.raises(ConfigError, match=r"scores\.xlsx: predictions are written to a file called \.csv"):
        found.write(tmp_path / "scores.xlsx")
    with pytest.raises(ConfigError, match="cannot be written"):
        found.write(tmp_path / "no" / "scores.csv")


def test_no_column_is_written_over_another() -> None:
    task = Classification().of(DataSpec((1,), 2, classes=("no", "yes")))
    with pytest.raises(ConfigError, match="the rows have a column 'yes' that is no input"):
        Predictions.of(LOGITS, task, {"yes": ["a", "b"]}).columns()
    with pytest.raises(ConfigError, match="'predicted' is the name of a class"):
        Predictions.of(LOGITS, Classification().of(DataSpec((1,), 2, classes=("no", "predicted")))).columns()
