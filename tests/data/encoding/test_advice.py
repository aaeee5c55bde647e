"""Whoever predicts is told what a prediction takes, and what is advised works."""

from __future__ import annotations

import ast
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from fedray.cli.predicting import _pair
from fedray.core.errors import ConfigError
from fedray.data.encoding.encoding import Encoding
from fedray.data.encoding.frames import inputs_of, table_of
from fedray.data.encoding.options import Options
from fedray.data.files.arrow import ColumnOptions, read_columns

OPTIONS = Options("ill", categorical={"sex": ["f", "m"]}, ordinal={"grade": ["I", "II"]}, csv={"missing": ["-9"]})
ENCODING = Encoding(
    OPTIONS,
    {"age": (50.0, 10.0, 50.0), "since": (18_000.0, 900.0, 18_000.0), "grade": (0.5, 0.5, 0.0)},
    {"sex": ["f", "m"]},
    ["age", "sex", "since", "grade"],
    None,
    kinds={"since": "dates"},
)
HEAD, DAY = "age,sex,since,grade\n", "2020-03-04"
# A table, and whether the advice alone makes it readable, or a cell must be corrected as well.
TABLES: dict[str, tuple[str, bool]] = {
    "a word": (f"{HEAD}unknown,f,{DAY},I\n", True),
    "a word beside numbers": (f"{HEAD}30,f,{DAY},I\nn. b.,m,{DAY},I\n", True),
    "a category": (f"{HEAD}30,divers,{DAY},I\n", True),
    "a level": (f"{HEAD}30,f,{DAY},IV\n", False),
    "days or months": (f"{HEAD}30,f,01/02/2020,I\n", True),
    "thousands or decimals": (f"age;sex;since;grade\n3.300;f;{DAY};I\n", True),
    "another delimiter": (f"age^sex^since^grade\n30^f^{DAY}^I,\n", False),
    "a decimal comma": (f'{HEAD}"3,5",f,{DAY},I\n3.25,f,{DAY},I\n', False),
    "a header alone": (HEAD, False),
    "a column too few": ("age,sex,grade\n30,f,I\n", False),
    "numbers for dates": (f"{HEAD}30,f,12,I\n", False),
}
# Keys of a config, as its messages write them.
CONFIG = re.compile(r"`(categorical|columns|csv|data|ignore|missing\w*|ordinal|task|unseen)\b[\w.]*:")


def refused(rows: Any, csv: dict[str, Any] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        inputs_of(table_of(rows, ENCODING, csv), ENCODING)
    assert not CONFIG.search(str(caught.value)), "whoever predicts has no config"
    return str(caught.value)


@pytest.mark.parametrize("name", TABLES)
def test_a_file_is_refused_in_words_of_the_command_and_what_they_say_works(name: str, tmp_path: Path) -> None:
    text, works = TABLES[name]
    path = tmp_path / "new.csv"
    path.write_text(text)
    said = refused(path)
    advised = re.findall(r"`--csv (.+?)`", said)
    assert bool(advised) >= works, said
    for one in advised if works else ():
        key, value = _pair(*shlex.split(one))
        inputs_of(table_of(path, ENCODING, {key: value}), ENCODING)


def test_an_encoding_that_is_wrong_is_refused_in_words_of_the_command(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_bytes(f"{HEAD}30,f,{DAY},I\n".replace("30", "Köln").encode("cp1252"))
    assert "`--csv encoding=cp1252`" in refused(path, {"encoding": "utf-8"})


@pytest.mark.parametrize("column", [{"age": ["unknown"]}, {"sex": ["divers"]}])
def test_rows_in_memory_are_refused_in_words_of_python(column: dict[str, Any]) -> None:
    rows = {"age": [30.0], "sex": ["f"], "since": [DAY], "grade": ["I"], **column}
    (advised,) = re.findall(r"`csv=(.+?)`", refused(rows))
    inputs_of(table_of(rows, ENCODING, ast.literal_eval(advised)), ENCODING)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ({"age": ["unknown"]}, "leave it empty if missing"),
        ({"sex": ["divers"]}, "leave the cell empty where it is not known"),
        ({"since": ["01/02/2020"]}, "write dates as 2020-12-31"),
    ],
)
def test_of_columns_beside_arrays_nothing_but_the_rows_can_be_mended(
    column: dict[str, Any], words: str, tmp_path: Path
) -> None:
    """Rows of Parquet have no dialect, and a prediction of them takes no ``csv``."""
    beside = replace(ENCODING, beside=True)
    rows = {"age": [30.0], "sex": ["f"], "since": [DAY], "grade": ["I"], **column}
    path = tmp_path / "new.parquet"
    pyarrow.parquet.write_table(pyarrow.table(rows), path)
    options = ColumnOptions(columns=beside.order, encode=beside.order, table=OPTIONS)
    for look in (
        lambda: read_columns(path, options, beside.order).encoded(beside),
        lambda: inputs_of(table_of(rows, beside), beside),
    ):
        with pytest.raises(ConfigError) as caught:
            look()
        assert words in str(caught.value)
        assert "csv" not in str(caught.value)
