"""Files of every kind as one table, against what pandas reads of them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedray.core.errors import ConfigError
from fedray.data import FederatedData
from fedray.data.encoding.reading import read_table
from fedray.data.encoding.table import Reading
from tests.data.reading import Files, inputs, targets

CLINIC = (
    "\ufeffPatient;Alter;Größe;Leukozyten;Diät;Aufnahme;Raucher;Befund\r\n"
    '1;"54";1,80;"7.200,5";mager;01.02.2020;ja;krank\r\n'
    '2;NA;1,65;11.000;"fett,\r\nreich";13.02.2020;nein;gesund\r\n'
    "3;61;n/a;-;;;-;gesund\r\n"
    "4;47;1,71;6.100,0;mager;29.02.2020 12:00;ja;\r\n"
)


def test_a_table_as_a_hospital_has_it_is_read_as_pandas_reads_it_with_every_option(write: Files) -> None:
    path = write("klinik.csv", CLINIC.encode())
    oracle = pd.read_csv(path, sep=";", decimal=",", thousands=".", na_values=["-"], dtype={"Aufnahme": str})
    table = read_table(path)
    for name in ("Alter", "Größe", "Leukozyten"):
        np.testing.assert_array_equal(table.numbers(name), oracle[name])
    days = pd.to_datetime(oracle["Aufnahme"].str[:10], dayfirst=True, format="%d.%m.%Y") - pd.Timestamp(0)
    np.testing.assert_array_equal(np.floor(table.numbers("Aufnahme")), days / pd.Timedelta(days=1))
    assert table.numbers("Aufnahme")[3] % 1 == 0.5
    assert table.numbers("Raucher").tolist()[:2] == [1, 0]
    assert table.where(3).endswith("klinik.csv, line 6")
    latin = read_table(write("latin.csv", CLINIC[1:].encode("latin-1")))
    assert latin.text("Diät") == table.text("Diät") == ["mager", "fett,\r\nreich", None, "mager"]
    assert str(latin.form) == "delimiter semicolon, encoding cp1252"


def test_rows_without_a_target_are_left_out_and_lines_stay_those_of_the_file(write: Files) -> None:
    options = {"target": "Befund", "categorical": ["Diät"], "ignore": ["Patient"], "missing_target": "drop"}
    path = write("klinik.csv", CLINIC)
    data = FederatedData.from_csv(path, test=path, **options)  # type: ignore[arg-type]
    assert targets(data, 0) == [1, 0, 0]
    assert data.test is not None
    assert len(data.test.y) == 3
    assert sum("1 of 4 rows have no target and are left out" in note for note in data.notes) == 2
    with pytest.raises(ConfigError, match=r"wrong\.csv, line 4: the target 'y' is missing; .*`missing_target: drop`"):
        FederatedData.from_csv(write("wrong.csv", "u,y\n1,p\n\n2,NA\n"), target="y")
    kept = write("kept.csv", "u,y\n1,\n2,p\nx,q\n")
    with pytest.raises(ConfigError, match=r"kept\.csv, line 4, column 'u': 'x'"):
        FederatedData.from_csv(kept, target="y", missing_target="drop")
    with pytest.raises(ConfigError, match=r"none\.csv: no row has a value of the target 'y'"):
        FederatedData.from_csv(write("none.csv", "u,y\n1,\n"), target="y", missing_target="drop")


def test_parquet_dates_booleans_and_text_are_read_as_text_files_are(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "seen": [datetime(1970, 1, 2), None],
            "smoker": [True, False],
            "u": pd.Categorical(["1,5", "2,5"]),
            "y": ["p", None],
        }
    )
    frame.to_parquet(tmp_path / "a.parquet")
    table = read_table(tmp_path / "a.parquet", Reading(drop="y"))
    assert (table.rows, table.dropped) == (1, 1)
    assert [table.kind(name) for name in ("seen", "smoker", "u", "nothing")] == [
        "dates",
        "booleans",
        "numbers",
        "empty",
    ]
    assert [table.numbers(name).tolist() for name in ("seen", "smoker", "u")] == [[1.0], [1.0], [1.5]]
    data = FederatedData.from_folder(tmp_path, target="y", missing_target="drop", standardize=False)
    assert inputs(data, 0).tolist() == [[1.0, 1.0, 1.5]]
