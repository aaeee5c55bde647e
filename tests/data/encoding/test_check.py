"""Which columns are inputs, where files do not have the same ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedray.core.errors import ConfigError
from fedray.data import FederatedData
from tests.data.reading import Files, inputs


def test_a_column_that_a_file_lacks_is_filled_in_if_asked_for(write: Files) -> None:
    a = write("ost.csv", "age,hba1c,sex,y\n40,5,f,p\n60,7,m,q\n")
    b = write("west.csv", "y,age,bmi\np,50,20\nq,70,30\n")
    with pytest.raises(ConfigError, match=r"west\.csv has no column 'hba1c'.*fill it in: `missing_columns: impute`"):
        FederatedData.from_csv([a, b], target="y", categorical=["sex"])
    options: dict[str, Any] = {"target": "y", "categorical": ["sex"], "missing_columns": "impute"}
    options |= {"standardize": False}
    data = FederatedData.from_csv([a, b], **options)
    assert inputs(data, 0).tolist() == [[40, 5, 1, 0, 25], [60, 7, 0, 1, 25]]
    assert inputs(data, 1).tolist() == [[50, 6, 0, 0, 20], [70, 6, 0, 0, 30]]
    assert f"{b}: filled in, as it lacks them: hba1c, sex" in data.notes
    assert data.with_holdout(0.5, seed=1).notes == data.notes
    scaled = FederatedData.from_csv([a, b], **{**options, "standardize": True})
    pooled = np.array([40, 60, 50, 70])
    np.testing.assert_allclose(inputs(scaled, 1)[:, 0], (pooled[2:] - pooled.mean()) / pooled.std(), rtol=1e-6)
    assert inputs(scaled, 1)[:, 1].tolist() == [0, 0]
    empty = write("nord.csv", "age,hba1c,sex,bmi,y\n,,,,p\n1,,f,,q\n")
    filled = write("sued.csv", "age,y\n,p\n1,q\n")
    whole = FederatedData.from_csv([a, b, empty], **options)
    lacking = FederatedData.from_csv([a, b, filled], **options)
    assert inputs(whole, 2)[:, [0, 1, 4]].tolist() == inputs(lacking, 2)[:, [0, 1, 4]].tolist()
    with pytest.raises(ConfigError, match=r"other\.csv has none of the columns age, hba1c"):
        FederatedData.from_csv([a], test=write("other.csv", "weight,y\n1,p\n"), encoding=data.encoding, **options)


def test_columns_are_chosen_and_ordered(write: Files) -> None:
    a, b = write("a.csv", "id,u,v,y\nP1,1,2,p\nP2,3,4,q\n"), write("b.csv", "v,y,w,u\n5,p,x,6\n")
    data = FederatedData.from_csv([a, b], target="y", columns=["v", "u"], test=b, standardize=False)
    assert [inputs(data, client).tolist() for client in range(2)] == [[[2, 1], [4, 3]], [[5, 6]]]
    assert data.encoding is not None
    again = FederatedData.from_csv([b], target="y", columns=["v", "u"], encoding=data.encoding, standardize=False)
    assert inputs(again, 0).tolist() == [[5, 6]]
    with pytest.raises(ConfigError, match=r"columns: .*b\.csv has no column 'id'; name another, or fill it in"):
        FederatedData.from_csv([a, b], target="y", columns=["id", "u"])
    with pytest.raises(ConfigError, match=r"^columns: the model was trained on tables that were encoded otherwise"):
        FederatedData.from_csv([a, b], target="y", columns=["u", "v"], encoding=data.encoding, standardize=False)


def test_a_column_that_has_another_name_in_one_file_is_told_with_both_names(write: Files) -> None:
    a, b = write("ost.csv", "age,chol,y\n40,5,p\n60,7,q\n"), write("west.csv", "age,cholesterol,y\n50,2,p\n70,3,q\n")
    with pytest.raises(ConfigError, match=r"west\.csv has no column 'chol' \(did you mean 'cholesterol'\?\), but "):
        FederatedData.from_csv([a, b], target="y")
    data = FederatedData.from_csv([a, b], target="y", missing_columns="impute")
    assert f"{b}: filled in, as it lacks them: chol (did you mean 'cholesterol'?)" in data.notes
    assert f"{a}: filled in, as it lacks them: cholesterol (did you mean 'chol'?)" in data.notes
